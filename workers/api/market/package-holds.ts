// What holds a package's installs where they are: pins, bars, the freeze. Each change is one compare-and-set of the
// package's state with its events; one that changes nothing writes nothing. Called by the routes of rollouts.

import type { z } from "@hono/zod-openapi";
import type { barRequest, freezeRequest, PackageStatus, pinRequest } from "../../../shared/contract/http-installs.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { readPointers } from "../../../shared/market/channel-store.ts";
import * as installs from "../../../shared/market/install-store.ts";
import { isBarred, shownInstall, type PackageChange, type PackageState } from "../../../shared/market/package-state.ts";
import { readPackage, writePackage } from "../../../shared/market/package-state-store.ts";
import * as releases from "../../../shared/market/release-store.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { shownRollout } from "../../../shared/market/upgrade.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { attemptsMax } from "./install-release.ts";
import { noRelease, packageBusy } from "./refusals.ts";

type HoldCall = Pick<Call<never>, "parts" | "caller" | "claim" | "now">;

export async function packageStatus(
  { parts, caller }: Pick<Call, "parts" | "caller">,
  name: string,
): Promise<PackageStatus> {
  const tenantId = caller.tenant_id;
  const [state, channels, bars, freeze, newest] = await Promise.all([
    readPackage(parts.database, tenantId, name),
    readPointers(parts.database, tenantId, name),
    installs.listBars(parts.database, tenantId, name),
    installs.readFreeze(parts.database, tenantId, name),
    installs.listRollouts(parts.database, tenantId, name, 1, null),
  ]);
  return {
    package: name,
    version: state.version,
    frozen: freeze.frozen,
    frozen_reason: freeze.frozen_reason,
    installs: state.installs.map(shownInstall),
    good: [...state.good].map(([channel, { version, artifact_sha256 }]) => ({ channel, version, artifact_sha256 })),
    channels,
    rollout: state.rollout === null ? (newest[0] ?? null) : shownRollout(state.rollout),
    bars,
  };
}

export const pinInstalls = (call: HoldCall, wanted: z.output<typeof pinRequest>): Promise<PackageStatus> =>
  holdPackage(call, wanted.package, (state) => {
    const meant = state.installs.filter(({ name }) => wanted.install === undefined || name === wanted.install);
    if (meant.length === 0) throw new Problem("not_found", "There is no such install.");
    const pins = meant.filter(({ pinned }) => pinned !== wanted.pinned);
    return {
      pins: pins.map(({ id }) => ({ install_id: id, pinned: wanted.pinned })),
      events: pins.map(({ id, version }) =>
        newEvent(eventContext(call), "mc.install.pinned", {
          package: wanted.package,
          install_id: id,
          version,
          outcome: wanted.pinned ? "pinned" : "unpinned",
        }),
      ),
    };
  });

export const freezePackage = (call: HoldCall, wanted: z.output<typeof freezeRequest>): Promise<PackageStatus> =>
  holdPackage(call, wanted.package, (state) => {
    if (state.installs.length === 0) throw new Problem("not_found", "There is no install of that package.");
    if (state.frozen === wanted.frozen) return { events: [] };
    const outcome = wanted.frozen ? "frozen" : "unfrozen";
    return {
      freeze: { frozen: wanted.frozen, reason: wanted.reason },
      events: [newEvent(eventContext(call), "mc.package.frozen", { package: wanted.package, outcome })],
    };
  });

export async function barRelease(call: HoldCall, wanted: z.output<typeof barRequest>): Promise<PackageStatus> {
  const { package: name, version, barred, reason } = wanted;
  const release = await releases.readRelease(call.parts.database, call.caller.tenant_id, name, { version });
  if (release === null) throw noRelease();
  const { artifact_sha256 } = release;
  return holdPackage(call, name, (state) => {
    if (isBarred(state, artifact_sha256) === barred) return { events: [] };
    const event = newEvent(eventContext(call), "mc.release.barred", {
      package: name,
      version,
      release_sha256: artifact_sha256,
      outcome: barred ? "barred" : "lifted",
      rule: "operator",
    });
    return {
      ...(barred
        ? { bars: [{ version, artifact_sha256, rule: "operator" as const, reason }] }
        : { lifts: [{ artifact_sha256, reason }] }),
      events: [event],
    };
  });
}

/** Writes what `plan` makes of the package, unless it makes nothing of it; answers the package's status after it. */
async function holdPackage(
  call: HoldCall,
  name: string,
  plan: (state: PackageState) => Omit<PackageChange, "package" | "from_version">,
): Promise<PackageStatus> {
  const { parts, caller, now } = call;
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const state = await readPackage(parts.database, caller.tenant_id, name);
    const change = plan(state);
    if (change.events.length === 0) return packageStatus(call, name);
    const written = await writePackage(parts.database, caller.tenant_id, parts.shards, {
      change: { package: name, from_version: state.version, ...change },
      entitlement_version: null,
      principal_id: caller.principal_id,
      // A PUT that is sent again finds nothing to change, and answers the same.
      claim: null,
      answer: { status: 200, response: null },
      now,
    });
    if (!written) continue;
    parts.nudgeDrain(caller.tenant_id);
    return packageStatus(call, name);
  }
  throw packageBusy();
}
