// Which deltas a target names when a channel gets another bundle: those that lie in the vault for what its fetchers may hold. Called
// by publisher.ts before it has the change signed. A fetcher asks for nothing else, so that none is asked for in vain.

import type { PolicyRevision } from "../contract/http-policies.ts";
import { errorName } from "../outbox/drain.ts";
import type { Log } from "../contract/ports.ts";
import { basesToName, deltasOfTenantMax, isWorthIt, type NamedDelta } from "./delta.ts";
import { deltaKey } from "./serving-path.ts";
import type { Vault } from "./stores.ts";
import { targetPath, type TargetsSigned } from "./tuf.ts";

/** Of a channel's revisions so many are looked through for tars that fetchers may hold. */
export const basesLookedThrough = 10;

/** `before`: the channel's revisions until now, the newest first. Never rejects: a delta holds no change up. */
export async function nameDeltas(
  { vault, log }: { readonly vault: Pick<Vault, "find">; readonly log: Log },
  tenant: string,
  revision: PolicyRevision,
  before: readonly PolicyRevision[],
  targets: TargetsSigned["targets"],
): Promise<TargetsSigned["targets"]> {
  const path = targetPath(revision.policy, revision.channel);
  const target = targets[path];
  const others = Object.entries(targets).filter(([name]) => name !== path);
  const room = deltasOfTenantMax - others.reduce((sum, [, { custom }]) => sum + (custom.deltas?.length ?? 0), 0);
  if (target === undefined || room <= 0) return targets;
  try {
    const found = await Promise.all(
      basesToName(before, revision.tar_sha256).map(async ({ tar_sha256: from }): Promise<NamedDelta | null> => {
        const object = await vault.find(deltaKey(tenant, from, revision.tar_sha256));
        return object === null || !isWorthIt(object.bytes, revision.bundle_bytes) ? null : { from, ...object };
      }),
    );
    const deltas = found.filter((delta) => delta !== null).slice(0, room);
    if (deltas.length === 0) return targets;
    return { ...targets, [path]: { ...target, custom: { ...target.custom, deltas } } };
  } catch (error) {
    log("warn", "deltas were not looked for: the change names none", {
      policy: revision.policy,
      error: errorName(error),
    });
    return targets;
  }
}
