// `maestro edge status|clear`: what is held on this machine, read or forgotten without asking anybody. Part of `maestro edge`.

import { parseTargetPath } from "../../shared/edge/tuf.ts";
import { readCounts } from "../edge/counts-file.ts";
import { healthOfReported, healthWords } from "../edge/fetcher-svid.ts";
import { stateFolder, type HeldOptions } from "../edge/fetching.ts";
import { clearQuarantine, readHeld } from "../edge/held-folder.ts";
import { readHeldSvid } from "../edge/svid-file.ts";
import { Failure } from "../failure.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";

export async function status(session: Session, options: HeldOptions): Promise<void> {
  const { host, out } = session;
  const folder = stateFolder(session, options);
  const state = await readHeld(folder);
  if (state === null)
    throw new Failure("not_found", `Nothing is held in ${folder}`, { advice: "`maestro edge fetch` fetches." });
  const now = host.now();
  const counts = await readCounts(folder);
  const policies = Object.entries(state.active).map(([path, active]) => ({
    ...(parseTargetPath(path) ?? { policy: path, channel: "" }),
    ...active,
    age_ms: now - Date.parse(active.published_at),
    is_expired: Date.parse(active.expires_at) <= now,
  }));
  const identity = await readHeldSvid(folder);
  const health = identity === null ? null : healthOfReported(identity, now);
  const refreshedAgo = counts.refreshed_at === null ? null : now - Date.parse(counts.refreshed_at);
  const value = {
    tenant: state.tenant,
    state: folder,
    policies,
    quarantine: state.quarantine,
    failed_deltas: state.failed_deltas,
    counts,
    identity: health,
    refreshed_ms_ago: refreshedAgo,
  };
  out.result(value, () =>
    [
      out.table(
        ["policy", "channel", "revision", "version", "from", "published", "expires", "state"],
        policies.map((row) => [
          row.policy,
          row.channel,
          row.revision,
          row.version,
          row.from,
          row.published_at,
          row.expires_at,
          row.is_expired ? "expired" : row.publisher_kid === null ? "to be verified" : "served",
        ]),
      ),
      out.record([
        ["refreshed", counts.refreshed_at ?? "never"],
        ["metadata from", counts.refreshed_from],
        ["refreshes", counts.refreshes],
        ["behind", counts.behind],
        [
          "refused",
          Object.entries(counts.refused)
            .map(([code, count]) => `${code} ${count}`)
            .join(", ") || "none",
        ],
        ["mismatches", counts.mismatches],
        ["fetches, hedges, failovers", `${counts.fetches}, ${counts.hedges}, ${counts.failovers}`],
        ["deltas applied, failed", `${counts.deltas_applied}, ${counts.deltas_failed}`],
        ["bytes by deltas, whole", `${counts.delta_bytes}, ${counts.whole_bytes}`],
        ["quarantined", state.quarantine.length],
        ...(health?.svid === undefined || health.svid === null
          ? []
          : ([
              ["SVID", health.svid.spiffe_id],
              ["SVID's state", healthWords(health)],
              ["SVID's authority", health.svid.authority],
              ["SVID rotations, lapses", `${counts.svid_rotations}, ${counts.svid_lapses}`],
            ] as const)),
      ]),
      ...state.quarantine.map(({ path, sha256, provider, code, detail }) =>
        printable(`quarantined: ${path} ${sha256}${provider === null ? "" : ` of ${provider}`}: ${code}: ${detail}`),
      ),
      ...state.failed_deltas.map(({ path, from, code, detail }) =>
        printable(`delta failed: ${path} from ${from}: ${code}: ${detail}`),
      ),
    ].join("\n"),
  );
}

export async function clear(session: Session, options: HeldOptions): Promise<void> {
  const folder = stateFolder(session, options);
  const cleared = await clearQuarantine(folder);
  if (cleared === null) throw new Failure("not_found", `Nothing is held in ${folder}`);
  session.out.result({ cleared }, () => `cleared\t${cleared}`);
}
