// `maestro edge serve`: keeps fetching, and serves OPA's bundle API on this machine, until Ctrl-C. Part of `maestro edge`.

import type { EdgeFetcher } from "../../shared/edge/edge-fetcher.ts";
import { heldSha256 } from "../../shared/edge/held-state.ts";
import { parseTargetPath } from "../../shared/edge/tuf.ts";
import { parseApiUrl } from "../config.ts";
import { writeCounts } from "../edge/counts-file.ts";
import { openFetching, pathsOf, type Fetching, type FetchOptions } from "../edge/fetching.ts";
import { FleetReporter } from "../edge/fleet-reporter.ts";
import { startOpaServer, type Available, type Health } from "../edge/opa-server.ts";
import { ReportBook } from "../edge/report.ts";
import { lapsedAskMs, SvidWatch } from "../edge/svid-watch.ts";
import { deltaLine, rowOf } from "../edge/verdict-row.ts";
import { Failure, messageOf } from "../failure.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";

/** Each provider is asked so often for what is newest. */
const probeMs = 250;
const countsEveryMs = 5_000;

export async function serve(
  session: Session,
  policies: readonly string[],
  options: FetchOptions & {
    readonly listen: { readonly address: string; readonly port: number };
    readonly api?: string;
    readonly report: boolean;
  },
): Promise<void> {
  const { host, out } = session;
  const paths = pathsOf(policies);
  const api = options.api === undefined ? null : parseApiUrl(options.api);
  const fetching = await openFetching(session, options);
  const reporter = options.report ? reporterOf(session, fetching, api) : null;
  const told = new Map<string, string>();
  try {
    const server = await startOpaServer({
      ...options.listen,
      available: (path) => availableOf(fetching.fetcher, paths, path, host.now(), told),
      health: () => healthOf(fetching, paths, told, host.now()),
      onFault: (error) => out.note(`an answer failed: ${printable(messageOf(error))}`),
    });
    try {
      const urls = paths.map((path) => `${server.url}/bundles/${path.replace("/bundle.tar.gz", "")}`);
      const { instance } = fetching.identity;
      out.result({ url: server.url, instance, bundles: urls }, () =>
        out.record([["instance", instance], ...urls.map((url) => ["bundle", url] as const)]),
      );
      await keepFetching(session, fetching, reporter, paths, told, () => server.wake());
    } finally {
      await reporter?.close();
      await server.close();
    }
  } finally {
    await fetching.close();
  }
}

function reporterOf(session: Session, fetching: Fetching, api: string | null): FleetReporter {
  const { identity, credential, caches, countsBefore } = fetching;
  if (api !== null && fetching.providers().some(({ baseUrl }) => new URL(baseUrl).origin === api))
    throw new Failure("usage", `${printable(api)} is a CDN provider, and not the API itself`, {
      advice: "Leave --api out: reports go by the providers' names then.",
    });
  return new FleetReporter({
    identity,
    bearer: () => credential.toApi(),
    svid: () => credential.svid?.reported() ?? null,
    host: session.host,
    book: new ReportBook(countsBefore, caches),
    addressees: () => [
      ...(api === null ? [] : [{ baseUrl: api, isApi: true }]),
      ...fetching.providers().map(({ baseUrl }) => ({ baseUrl, isApi: false })),
    ],
    note: (line) => session.out.note(remark(session, line)),
  });
}

function availableOf(
  fetcher: EdgeFetcher,
  paths: readonly string[],
  path: string,
  now: number,
  told: ReadonlyMap<string, string>,
): Available {
  if (!paths.includes(path)) return { state: "unknown" };
  const serving = fetcher.serving(path, now);
  if (serving.state === "ready") {
    const sha256 = heldSha256(serving.active);
    return { state: "ready", sha256, bytes: async () => await fetcher.bytes(sha256) };
  }
  const last = told.get(path) ?? "nothing was fetched yet.";
  if (serving.state === "unbelieved")
    return { state: "unavailable", why: `The publisher of what is held is not believed here (--publisher): ${last}` };
  if (serving.state === "none") return { state: "unavailable", why: `There is no policy yet: ${last}` };
  return { state: "unavailable", why: `The metadata of the last good one has expired at ${serving.since}: ${last}` };
}

/** How policies and identity stand: not well where one is not served, or no SVID holds; `alarm` where a third of its life is left. */
function healthOf(
  { fetcher, credential, counters }: Fetching,
  paths: readonly string[],
  told: ReadonlyMap<string, string>,
  now: number,
): Health {
  const identity = credential.svid?.health(now) ?? null;
  const policies = paths.map((path) => {
    const there = availableOf(fetcher, paths, path, now, told);
    const why = there.state === "unavailable" ? there.why : null;
    return { ...(parseTargetPath(path) ?? { policy: path, channel: "" }), state: there.state, why };
  });
  const isWell =
    policies.every(({ state }) => state === "ready") && identity?.state !== "expired" && identity?.state !== "absent";
  const state = !isWell ? "failing" : identity?.state === "alarm" ? "alarm" : "well";
  const { refreshed_at } = counters.read();
  return { isWell, value: { state, identity, policies, refreshed_at } };
}

/** Until Ctrl-C. `told`: what stands about each path, in words; a line goes to stderr when it changes. */
async function keepFetching(
  session: Session,
  fetching: Fetching,
  reporter: FleetReporter | null,
  paths: readonly string[],
  told: Map<string, string>,
  wake: () => void,
): Promise<void> {
  const { host, out } = session;
  const { counters, folder } = fetching;
  const lines = new Map<string, string>();
  const watch = new SvidWatch({
    svid: fetching.credential.svid,
    folder,
    counters,
    now: () => host.now(),
    note: (line) => out.note(remark(session, line)),
  });
  let countedAt = host.now();
  let askedAt = -Infinity;
  while (!host.interrupted.aborted) {
    if ((await watch.lapsed()) && host.now() - askedAt < lapsedAskMs) {
      await pause(session);
      continue;
    }
    askedAt = host.now();
    if (await fetching.followFlag()) {
      const names = fetching.providers().map(({ name }) => name);
      out.note(remark(session, `the flag edge_multicdn was switched: asks ${names.join(", ")}`));
    }
    const { fetcher } = fetching;
    const refresh = await fetcher.refresh(paths);
    reporter?.saw({
      refresh,
      held: fetcher.state,
      standings: fetcher.standings(),
      counts: counters.read(),
      now: host.now(),
    });
    for (const [path, verdict] of refresh.verdicts) {
      const row = rowOf(path, verdict);
      told.set(path, row.why ?? verdict.verdict);
      const state = row.verdict === "activated" ? "current" : row.verdict;
      const line = `${state} ${row.code ?? ""} ${row.sha256 ?? ""} ${row.revision ?? ""}`;
      if (lines.get(path) === line) continue;
      lines.set(path, line);
      out.note(lineOf(session, row));
    }
    for (const failed of refresh.failedDeltas) out.note(deltaLine(failed));
    wake();
    if (host.now() - countedAt >= countsEveryMs) {
      countedAt = host.now();
      const why = await writeCounts(folder, counters.read());
      if (why !== null) out.note(`the counters could not be written to ${folder} (${why})`);
    }
    await pause(session);
  }
}

function lineOf({ host, out }: Session, row: ReturnType<typeof rowOf>): string {
  const time = new Date(host.now()).toISOString();
  if (out.json) return JSON.stringify({ time, ...row });
  const what = `${row.policy}/${row.channel} ${row.verdict}`;
  const held = row.revision === null ? "" : ` revision ${row.revision} (${row.version}) from ${row.from}`;
  return printable(`${time} ${what}${held}${row.why === null ? "" : `: ${row.why}`}`);
}

function remark({ host, out }: Session, note: string): string {
  const time = new Date(host.now()).toISOString();
  return out.json ? JSON.stringify({ time, note }) : printable(`${time} ${note}`);
}

async function pause({ host }: Session): Promise<void> {
  try {
    await host.sleep(probeMs, host.interrupted);
  } catch (error) {
    if (!host.interrupted.aborted) throw error;
  }
}
