// `maestro edge fetch`: one refresh, and what came of it. Part of `maestro edge`.

import type { Refresh, Verdict } from "../../shared/edge/fetcher-parts.ts";
import { healthWords } from "../edge/fetcher-svid.ts";
import { openFetching, pathsOf, type Fetching, type FetchOptions } from "../edge/fetching.ts";
import { writeHeldSvid } from "../edge/svid-file.ts";
import { deltaLine, rowOf } from "../edge/verdict-row.ts";
import type { ExitName } from "../exit-codes.ts";
import { Failure } from "../failure.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";

export async function fetchOnce(
  session: Session,
  policies: readonly string[],
  options: FetchOptions,
): Promise<ExitName> {
  const paths = pathsOf(policies);
  const fetching = await openFetching(session, options);
  let refresh: Refresh;
  try {
    await noteIdentity(session, fetching);
    refresh = await fetching.fetcher.refresh(paths);
  } finally {
    await fetching.close();
  }
  for (const line of objectionLines(refresh)) session.out.note(line);
  const rows = [...refresh.verdicts].map(([path, verdict]) => rowOf(path, verdict));
  session.out.result({ metadata_from: refresh.from, policies: rows }, () =>
    session.out.table(
      ["policy", "channel", "verdict", "revision", "version", "from", "sha256"],
      rows.map((row) => [row.policy, row.channel, row.verdict, row.revision, row.version, row.from, row.sha256]),
    ),
  );
  for (const { policy, channel, why } of rows)
    if (why !== null) session.out.note(printable(`${policy}/${channel}: ${why}`));
  return exitOf([...refresh.verdicts.values()]);
}

/** Before a single fetch: without any SVID there is nothing to ask with; one that has ended is tried, and told of. */
async function noteIdentity({ host, out, svidFolder }: Session, { folder, credential }: Fetching): Promise<void> {
  const health = credential.svid?.health(host.now()) ?? null;
  const why = await writeHeldSvid(folder, credential.svid?.reported() ?? null);
  if (why !== null) out.note(`which SVID is held could not be written to ${folder} (${why})`);
  if (health === null || health.state === "good") return;
  if (health.state === "absent")
    throw new Failure(
      "denied",
      `There is no JWT-SVID for the edges in ${svidFolder ?? ""}: ${health.trouble ?? "none"}`,
      {
        advice: "It is jwt-maestro-edge.txt, written by spiffe-helper or, for development, by `maestro svid mint`.",
      },
    );
  out.note(printable(`the SVID: ${healthWords(health)}`));
}

const silent: ReadonlySet<string> = new Set(["unreachable", "late", "bad_status"]);

function exitOf(verdicts: readonly Verdict[]): ExitName {
  const refusals = verdicts.flatMap((one) =>
    one.verdict === "refused" || one.verdict === "expired" ? [one.refusal.code] : [],
  );
  if (refusals.length === 0) return "ok";
  if (refusals.every((code) => silent.has(code))) return "unavailable";
  if (refusals.every((code) => code === "denied")) return "denied";
  return refusals.every((code) => code === "not_a_target") ? "not_found" : "verification_failed";
}

const objectionLines = ({ objections, failedDeltas }: Refresh): string[] => [
  ...objections.map(({ provider, refusal: { code, detail } }) => printable(`${provider}: ${code}: ${detail}`)),
  ...failedDeltas.map(deltaLine),
];
