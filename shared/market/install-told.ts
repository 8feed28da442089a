// What the log is told of an install's move. Pure; used by installs, upgrades and rollbacks.

import type { EventAttributes } from "../contract/events.ts";
import type { Install } from "../contract/http-installs.ts";
import type { Move, ReleaseRef } from "./package-state.ts";
import { versionOrder } from "./version-order.ts";

export function installTold({ row, from, cause, rollout_id: rolloutId }: Move): EventAttributes<"mc.install.changed"> {
  return {
    package: row.package,
    version: row.version,
    channel: row.channel,
    release_sha256: row.artifact_sha256,
    previous_version: from?.version ?? null,
    outcome: outcomeOf(row, from, cause),
    install_id: row.id,
    ...(rolloutId === null ? {} : { rollout_id: rolloutId }),
  };
}

function outcomeOf(
  row: Install,
  from: ReleaseRef | null,
  cause: Move["cause"],
): EventAttributes<"mc.install.changed">["outcome"] {
  if (cause === "rollback" || cause === "health_gate") return "rolled_back";
  if (from === null) return "installed";
  if (from.release_id === row.release_id) return "unchanged";
  return versionOrder(row.version) > from.version_order ? "upgraded" : "downgraded";
}
