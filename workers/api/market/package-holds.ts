// What holds a package's installs where they are: pins, bars, the freeze. Each change is one compare-and-set of the
// package's state with its events; one that changes nothing writes no more than its key's answer. Called by the routes of
// rollouts.

import type { z } from "@hono/zod-openapi";
import type { barRequest, freezeRequest, PackageStatus, pinRequest } from "../../../shared/contract/http-installs.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { readPointers } from "../../../shared/market/channel-store.ts";
import * as installs from "../../../shared/market/install-store.ts";
import { isBarred, shownInstall, type PackageChange, type PackageState } from "../../../shared/market/package-state.ts";
import { readPackage, rememberUnchanged, writePackage } from "../../../shared/market/package-state-store.ts";
import * as releases from "../../../shared/market/release-store.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { shownRollout } from "../../../shared/market/upgrade.ts";
import type { Call } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { noRelease, packageBusy } from "./refusals.ts";
import { untilWritten } from "./until-written.ts";

type HoldCall = Pick<Call<never>, "parts" | "caller" | "claim" | "now">;

export async function packageStatus(call: Pick<Call, "parts" | "caller">, name: string): Promise<PackageStatus> {
  return statusOf(call, await readPackage(call.parts.database, call.caller.tenant_id, name));
}

/** The rest is read behind the state: where that one still stands at a later write, all of it did. */
async function statusOf(
  { parts, caller }: Pick<Call, "parts" | "caller">,
  state: PackageState,
): Promise<PackageStatus> {
  const tenantId = caller.tenant_id;
  const name = state.package;
  const [channels, bars, freeze, newest] = await Promise.all([
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

type Held = Pick<PackageChange, "pins" | "bars" | "lifts" | "freeze" | "events">;

/** Writes what `plan` makes of the package, if anything, with its answer: the package's status after it. */
async function holdPackage(call: HoldCall, name: string, plan: (state: PackageState) => Held): Promise<PackageStatus> {
  const { parts, caller, claim, now } = call;
  const attempt = async (): Promise<PackageStatus | null> => {
    const state = await readPackage(parts.database, caller.tenant_id, name);
    const change = plan(state);
    const before = await statusOf(call, state);
    const changes = change.events.length > 0;
    const status = changes ? afterHold(before, change, caller.principal_id, new Date(now).toISOString()) : before;
    const named = { package: name, from_version: state.version };
    const write = { entitlement_version: null, claim, answer: { status: 200, response: status }, now };
    if (!changes)
      return (await rememberUnchanged(parts.database, caller.tenant_id, { ...named, ...write })) ? status : null;
    const written = await writePackage(parts.database, caller.tenant_id, parts.shards, {
      ...write,
      change: { ...named, ...change },
      principal_id: caller.principal_id,
    });
    if (!written) return null;
    parts.nudgeDrain(caller.tenant_id);
    return status;
  };
  return await untilWritten(parts, attempt, packageBusy);
}

/** What `packageStatus` would read once the change is written; a key remembers it in the same transaction. */
function afterHold(before: PackageStatus, change: Held, by: string, at: string): PackageStatus {
  const { freeze, pins = [], bars = [], lifts = [] } = change;
  const pinned = new Map(pins.map((pin) => [pin.install_id, pin.pinned]));
  const lifted = new Set(lifts.map(({ artifact_sha256 }) => artifact_sha256));
  const placed = bars.map((bar) => ({ package: before.package, ...bar, barred_by: by, barred_at: at }));
  return {
    ...before,
    version: before.version + 1,
    ...(freeze === undefined ? {} : { frozen: freeze.frozen, frozen_reason: freeze.frozen ? freeze.reason : null }),
    installs: before.installs.map((install) =>
      pinned.has(install.id) ? { ...install, pinned: pinned.get(install.id)!, changed_at: at } : install,
    ),
    bars: [...placed, ...before.bars.filter((bar) => !lifted.has(bar.artifact_sha256))],
  };
}
