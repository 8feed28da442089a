// An install, decided: the row that a release and a channel make of it, and what the log is told. Pure.

import semver from "semver";
import type { EventAttributes } from "../contract/events.ts";
import type { Install, Release } from "../contract/http-market.ts";
import type { Channel } from "../contract/names.ts";

export function installChange(
  before: Install | null,
  found: Release,
  channel: Channel,
  made: { readonly id: string; readonly changed_at: string },
): { row: Install; told: EventAttributes<"mc.install.changed"> } {
  const row: Install = {
    id: before?.id ?? made.id,
    package: found.package,
    version: found.version,
    channel,
    artifact_sha256: found.artifact_sha256,
    units: found.units,
    release_id: found.id,
    changed_at: made.changed_at,
  };
  return {
    row,
    told: {
      package: row.package,
      version: row.version,
      channel,
      release_sha256: row.artifact_sha256,
      previous_version: before?.version ?? null,
      outcome: outcomeOf(before, found),
    },
  };
}

function outcomeOf(before: Install | null, found: Release): EventAttributes<"mc.install.changed">["outcome"] {
  if (before === null) return "installed";
  const order = semver.compare(found.version, before.version);
  if (order === 0) return "unchanged";
  return order > 0 ? "upgraded" : "downgraded";
}
