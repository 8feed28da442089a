// The facts that each action is decided on, gathered as its route gathers them, for explanations: nothing is reserved,
// nothing is written. Called by POST /api/market/explain.

import type { z } from "@hono/zod-openapi";
import type { explainRequest } from "../../../shared/contract/http-entitlements.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { privacyFact, runFacts } from "../../../shared/executions/start.ts";
import { runsToday } from "../../../shared/executions/store.ts";
import { readChange } from "../../../shared/market/change-store.ts";
import { readInstall } from "../../../shared/market/install-store.ts";
import { readPackage } from "../../../shared/market/package-state-store.ts";
import * as releases from "../../../shared/market/release-store.ts";
import { readReviewedVersion } from "../../../shared/market/review-store.ts";
import type { Action, ActionFacts, FactsOf } from "../../../shared/policy/actions.ts";
import type { Caller } from "../../../shared/tenancy/caller.ts";
import type { Parts } from "../parts.ts";
import { changesNeeded, installingWays } from "./installing-ways.ts";
import { isOwn } from "./own-work.ts";
import { installFacts, moveFacts, upgradeFacts } from "./move-facts.ts";
import { rotatedDomains } from "../../../shared/identity/authority-store.ts";
import { approvalOf, ownRotation, rotationFacts, statesDomain } from "../rotations/rotation-facts.ts";
import { noEntitlements, noRelease } from "./refusals.ts";
import { rollbackFacts } from "./rollback-package.ts";
import { rollbackReach } from "./rollback-reach.ts";

type Asked = z.output<typeof explainRequest>;

export interface AskedCall {
  readonly parts: Parts;
  readonly caller: Caller;
  readonly now: number;
}

interface FactsSource<A extends Action> {
  /** What one must be allowed to read, all of it, to be told these facts. */
  readonly reads: readonly Action[];
  facts(call: AskedCall, asked: Asked): Promise<FactsOf<A>>;
}

/** Without an id it is of the platform's keys. */
const ofRotation = {
  reads: ["rotation.read"],
  async facts({ parts, caller }: AskedCall, { rotation_id: id }: Asked) {
    const own = id === undefined ? null : await ownRotation({ parts, caller }, id);
    return await rotationFacts({ parts, caller }, own !== null);
  },
} as const;

/** Every action that is decided on more than the role. */
export const factsSources: { readonly [A in keyof ActionFacts]: FactsSource<A> } = {
  "execution.start": {
    reads: ["entitlement.read", "install.read", "flag.read", "budget.read"],
    async facts({ parts, caller, now }, asked) {
      const { database } = parts;
      const tenantId = caller.tenant_id;
      const wanted = { package: packageOf(asked), install: asked.install ?? "default" };
      const rooms = {
        entitlements: parts.entitlements(tenantId),
        readInstall: (name: string, install: string) => readInstall(database, tenantId, name, install),
        runsToday: (name: string) => runsToday(database, tenantId, name, now),
        installing: (name: string, range: string | null) => installingWays(parts, tenantId, name, range),
        changesNeeded: changesNeeded({ parts, caller }),
      };
      const found = await runFacts(rooms, now, wanted);
      if (found === null) throw noEntitlements();
      const units = found.installed?.install.units ?? found.way?.units ?? null;
      if (units === null) return found.facts;
      const balance = await parts.ledger(tenantId).balance();
      return balance.remaining_units >= units ? found.facts : { ...found.facts, privacy: privacyFact(units, balance) };
    },
  },
  "install.write": {
    reads: ["entitlement.read", "install.read", "release.read", "flag.read"],
    async facts(call, asked) {
      const found = await moveFacts(call, packageOf(asked), asked.channel ?? "stable");
      if (found.release === null) throw noRelease();
      return installFacts(found, asked.install ?? "default");
    },
  },
  "upgrade.start": {
    reads: ["entitlement.read", "install.read", "release.read", "flag.read"],
    async facts(call, asked) {
      const found = await moveFacts(call, packageOf(asked), asked.channel ?? "stable");
      if (found.release === null) throw noRelease();
      return upgradeFacts(found, { cohort_percent: asked.cohort_percent, despite_gate: false });
    },
  },
  "rollback.start": {
    reads: ["install.read"],
    async facts(call, asked) {
      const state = await readPackage(call.parts.database, call.caller.tenant_id, packageOf(asked));
      const version = asked.version ?? null;
      const facts = rollbackFacts(state, version);
      if (state.installs.length === 0) return facts;
      return {
        ...facts,
        installs: { ...facts.installs, ...(await rollbackReach(call, state.package, version, asked.install ?? null)) },
      };
    },
  },
  "bar.write": {
    reads: [],
    facts(_, asked) {
      const version = needed(asked.version, "version");
      return Promise.resolve({ package: packageOf(asked), version, lifts: !asked.barred });
    },
  },
  "release.publish": {
    // That a name is taken, also by a package that nobody sees yet, is told to those who would find out by publishing.
    reads: ["release.publish"],
    async facts({ parts, caller }, asked) {
      const name = packageOf(asked);
      return { package: name, package_owner: await releases.packageOwner(parts.database, caller.tenant_id, name) };
    },
  },
  "release.review": {
    reads: ["release.read"],
    async facts({ parts, caller }, asked) {
      const name = packageOf(asked);
      const version = needed(asked.version, "version");
      const known = await readReviewedVersion(parts.database, caller.tenant_id, name, version);
      if (known === null) throw noRelease();
      return { package: name, version, own: await isOwn({ parts, caller }, known.uploaded_by) };
    },
  },
  "rotation.read": {
    reads: ["rotation.read"],
    async facts({ parts, caller }) {
      const { any } = await rotatedDomains(parts.database, caller.tenant_id);
      return await rotationFacts({ parts, caller }, any);
    },
  },
  "rotation.start": {
    reads: ["rotation.read"],
    async facts({ parts, caller }, { trust_domain: name }) {
      if (name !== undefined && !(await statesDomain({ parts, caller }, name)))
        throw new Problem("not_found", "The tenant states no such trust domain.");
      return await rotationFacts({ parts, caller }, name !== undefined);
    },
  },
  "rotation.acknowledge": ofRotation,
  "rotation.cancel": ofRotation,
  "rotation.approve": {
    reads: ["rotation.read"],
    async facts({ parts, caller }, asked) {
      const id = needed(asked.rotation_id, "rotation_id");
      const { proposed, facts } = await approvalOf({ parts, caller }, id);
      if (proposed === null && (facts.curates || facts.own_domain))
        throw new Problem("not_found", "There is no such proposal.");
      return facts;
    },
  },
  "entitlement.approve": {
    reads: ["entitlement.read"],
    async facts({ parts, caller }, asked) {
      const id = needed(asked.change_id, "change_id");
      const change = await readChange(parts.database, caller.tenant_id, id);
      if (change === null) throw new Problem("not_found", "There is no such change.");
      return { change_id: id, own: await isOwn({ parts, caller }, change.proposed_by) };
    },
  },
};

const packageOf = (asked: Asked): string => needed(asked.package, "package");

function needed(value: string | undefined, name: string): string {
  if (value !== undefined) return value;
  throw new Problem("invalid_request", `This action is decided on \`${name}\`.`, {
    errors: [{ path: name, message: "required for this action" }],
  });
}
