// `maestro edge fetch|serve|status|clear`: the policies of a tenant on this machine, from whichever CDN provider has them.

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { InvalidArgumentError, type Command } from "commander";
import { EdgeCounters, type EdgeCounts } from "../../shared/edge/edge-counters.ts";
import { openEdgeFetcher, type EdgeFetcher } from "../../shared/edge/edge-fetcher.ts";
import type { Refresh, Verdict } from "../../shared/edge/fetcher-parts.ts";
import { heldSha256, type HeldState } from "../../shared/edge/held-state.ts";
import { parseProviders, providersBytesMax, type Provider } from "../../shared/edge/providers.ts";
import { refusalWords, type Refusal } from "../../shared/edge/refusal.ts";
import { isTenantSlug } from "../../shared/edge/serving-path.ts";
import { metadataBytesMax } from "../../shared/edge/trusted-metadata.ts";
import { parseTargetPath, targetPath } from "../../shared/edge/tuf.ts";
import { channelArgument, group, leaf, policyArgument, type Act } from "../command.ts";
import { parseApiUrl } from "../config.ts";
import { readCounts, writeCounts } from "../edge/counts-file.ts";
import { FetcherSvid, healthOfReported, healthWords } from "../edge/fetcher-svid.ts";
import { FleetReporter } from "../edge/fleet-reporter.ts";
import { clearQuarantine, openHeldFolder, readHeld } from "../edge/held-folder.ts";
import { httpProviders, readBounds } from "../edge/http-provider.ts";
import { readIdentity, type InstanceIdentity } from "../edge/instance-file.ts";
import { CacheCounts, ReportBook } from "../edge/report.ts";
import { edgeTools, nodeTimer } from "../edge/node-parts.ts";
import { startOpaServer, type Available, type Health } from "../edge/opa-server.ts";
import { readHeldSvid, writeHeldSvid } from "../edge/svid-file.ts";
import { lapsedAskMs, SvidWatch } from "../edge/svid-watch.ts";
import type { ExitName } from "../exit-codes.ts";
import { fleetCommands } from "./edge-fleet.ts";
import { errorCode, Failure, messageOf } from "../failure.ts";
import { folderOf } from "../folders.ts";
import { isLoopback } from "../http.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";

/** Each provider is asked so often for what is newest. */
export const probeMs = 250;
const countsEveryMs = 5_000;
const policiesMax = 200;
const keyBytesMax = 1_024;

export function edgeCommands(program: Command, act: Act): void {
  const edge = group(program, "edge", "policies on this machine, from several CDN providers that nobody has to trust");
  const fetching = (command: Command): Command =>
    held(command)
      .requiredOption("--root <file>", "the tenant's root of trust that you have checked, like 1.root.json")
      .requiredOption("--publisher <spki...>", "a publisher key that is believed: SPKI in base64")
      .option("--providers <file>", "which CDN providers there are", "policy/edge.multicdn.json")
      .option("--key-file <file>", "the fetcher's key; MAESTRO_FETCHER_KEY where it is not given")
      .option(
        "--svid <dir>",
        "in place of a key: the folder with the fetcher's SVIDs, renewed beneath it (MAESTRO_SVID)",
      );
  const trust = "--tenant acme --root 1.root.json --publisher MFkwEwYHKoZIzj0CAQY...";

  fetching(
    leaf(edge, "fetch", {
      summary: "fetch once: verify, activate, and print what is active now and where it came from",
      more:
        "Exit code 0: what is active is what the publisher wants, or newer than what the providers have. 7: something was\n" +
        "refused; what was active stays so. 6: no provider was reached.",
      examples: [
        `maestro edge fetch gateway ${trust}`,
        `maestro edge fetch gateway billing/canary ${trust} --key-file fetcher.key --json`,
        `maestro edge fetch gateway ${trust} --svid /run/spiffe`,
      ],
    }).argument("<policies...>", "NAME, or NAME/CHANNEL"),
  ).action(act(fetchOnce));
  fetching(
    leaf(edge, "serve", {
      summary: "keep fetching, and serve OPA's bundle API on this machine",
      more:
        "OPA asks http://127.0.0.1:8383/bundles/NAME/CHANNEL. It is served from the last good bundle until the metadata that\n" +
        "named it expires; from then on the answer is 503, with the reason. /healthz says how policies and identity stand: 503 where\n" +
        "one is not served or no SVID holds. Runs until Ctrl-C. What is held is reported each ten\n" +
        "seconds, for `maestro edge fleet`; where nobody takes reports, fetching goes on. The flag edge_multicdn is believed from\n" +
        "--api alone: a CDN provider could make it up.",
      examples: [`maestro edge serve gateway ${trust}`, `maestro edge serve gateway ${trust} --listen 127.0.0.1:9000`],
    }).argument("<policies...>", "NAME, or NAME/CHANNEL"),
  )
    .option("--listen <address:port>", "where on this machine; port 0 for any free one", listenArgument, {
      address: "127.0.0.1",
      port: 8383,
    })
    .option("--api <url>", "the API's own address, to report to; else reports go by any provider's name")
    .option("--no-report", "tell the fleet's board nothing")
    .action(act(serve));
  fleetCommands(edge, act);
  held(
    leaf(edge, "status", {
      summary: "what is held: how old, from which provider, until when; what failed; counters",
      examples: ["maestro edge status --tenant acme", "maestro edge status --tenant acme --json"],
    }),
  ).action(act(status));
  held(
    leaf(edge, "clear", {
      summary:
        "forget which bundles and deltas failed, so that they are fetched once more; no `maestro edge serve` may run",
      examples: ["maestro edge clear --tenant acme"],
    }),
  ).action(act(clear));
}

const held = (command: Command): Command =>
  command
    .requiredOption("--tenant <slug>", "whose policies", tenantArgument)
    .option("--state <dir>", "where they are held; a folder of its own under the XDG state folder, where not given");

function tenantArgument(text: string): string {
  if (!isTenantSlug(text)) throw new InvalidArgumentError("A tenant's slug is lower-case letters, digits and dashes.");
  return text;
}

function listenArgument(text: string): { readonly address: string; readonly port: number } {
  const match = /^(\[[0-9a-f:.]+\]|[^:[\]]+):(\d{1,5})$/i.exec(text);
  const [, host = "", port = ""] = match ?? [];
  if (!isLoopback(host) || Number(port) > 65_535)
    throw new InvalidArgumentError("It is this machine alone: 127.0.0.1:PORT, localhost:PORT or [::1]:PORT.");
  return { address: host.replaceAll(/[[\]]/g, ""), port: Number(port) };
}

function pathArgument(text: string): string {
  const [name = "", channel = "stable", ...more] = text.split("/");
  if (more.length > 0) throw new Failure("usage", `${printable(text)} is not NAME or NAME/CHANNEL`);
  try {
    return targetPath(policyArgument(name), channelArgument(channel));
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new Failure("usage", `${printable(text)}: ${error.message}`);
    throw error;
  }
}

interface HeldOptions {
  readonly tenant: string;
  readonly state?: string;
}

interface FetchOptions extends HeldOptions {
  readonly root: string;
  readonly publisher: readonly string[];
  readonly providers: string;
  readonly keyFile?: string;
}

const stateFolder = ({ host }: Session, { tenant, state }: HeldOptions): string =>
  state === undefined ? resolve(folderOf(host, "state"), "edge", tenant) : resolve(host.cwd, state);

/** What a fetcher comes with; null where it has nothing to come with now. */
interface Credential {
  toEdges(): string | null;
  toApi(): string | null;
  /** Null: it comes with a key. */
  readonly svid: FetcherSvid | null;
}

interface Fetching {
  /** Another one once the flag edge_multicdn was switched. */
  readonly fetcher: EdgeFetcher;
  readonly counters: EdgeCounters;
  /** As they were before this process. */
  readonly countsBefore: EdgeCounts;
  readonly folder: string;
  readonly identity: InstanceIdentity;
  readonly caches: CacheCounts;
  readonly credential: Credential;
  /** Those that are asked now, in the order of their file. */
  providers(): readonly Provider[];
  /** Between two refreshes: asks the providers that the flag leaves. True where these are others now. */
  followFlag(): Promise<boolean>;
  close(): Promise<void>;
}

async function open(session: Session, options: FetchOptions): Promise<Fetching> {
  const { host, out } = session;
  const parsed = parseProviders(await fileOf(session, options.providers, providersBytesMax));
  if (!parsed.ok) throw new Failure("usage", `${options.providers} cannot be used: ${printable(parsed.reason)}`);
  const { providers: all } = parsed.config;
  const folder = stateFolder(session, options);
  const store = await openHeldFolder(folder);
  const counters = new EdgeCounters(await readCounts(folder));
  const identity = await readIdentity(folder, host.now());
  const caches = new CacheCounts();
  const credential = await credentialOf(session, options.keyFile, counters);
  const http = httpProviders(
    all,
    () => credential.toEdges(),
    readBounds,
    (provider, cacheStatus) => caches.saw(provider, cacheStatus),
  );
  const providersNow = (): Provider[] => (identity.asksOneProvider(host.now()) ? all.slice(0, 1) : [...all]);
  let providers = providersNow();
  const parts = {
    tenant: options.tenant,
    publishers: options.publisher.map(publisherKey),
    start: http.start,
    store,
    tools: edgeTools,
    clock: () => host.now(),
    timer: nodeTimer,
    counters,
  };
  const pin = await fileOf(session, options.root, metadataBytesMax.root);
  const openWith = async (state: HeldState | null): Promise<EdgeFetcher> => {
    const opened = await openEdgeFetcher({ ...parts, providers: providers.map(({ name }) => name) }, pin, state);
    if (opened.ok) return opened.fetcher;
    throw new Failure("usage", `${folder} cannot be gone on with: ${printable(opened.reason)}`, {
      advice: "Name another folder with --state, or the root and the tenant that it began with.",
    });
  };
  let fetcher = await openWith(await store.load());
  const close = async (): Promise<void> => {
    http.close();
    const why = await writeCounts(folder, counters.read());
    if (why !== null) out.note(`the counters could not be written to ${folder} (${why})`);
  };
  return {
    get fetcher() {
      return fetcher;
    },
    counters,
    countsBefore: counters.read(),
    folder,
    identity,
    caches,
    credential,
    providers: () => providers,
    async followFlag() {
      const wanted = providersNow();
      if (wanted.length === providers.length) return false;
      providers = wanted;
      fetcher = await openWith(fetcher.state);
      return true;
    },
    close,
  };
}

async function fileOf({ host }: Session, path: string, bytesMax: number): Promise<string> {
  try {
    const bytes = await readFile(resolve(host.cwd, path));
    if (bytes.length > bytesMax) throw new Failure("usage", `${path} has more than ${bytesMax} bytes`);
    return bytes.toString("utf8");
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure("usage", `${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
}

async function credentialOf(
  session: Session,
  keyFile: string | undefined,
  counters: EdgeCounters,
): Promise<Credential> {
  const { svidFolder } = session;
  if (svidFolder === null) {
    const key = await fetcherKey(session, keyFile);
    return { toEdges: () => key, toApi: () => key, svid: null };
  }
  const svid = new FetcherSvid(svidFolder, () => counters.add("svid_rotations"));
  return { toEdges: () => svid.bearer("maestro-edge"), toApi: () => svid.bearer("maestro-api"), svid };
}

/** From a file or the environment, never an argument: those are seen by everybody on the machine. */
async function fetcherKey(session: Session, file: string | undefined): Promise<string> {
  const key = (
    file === undefined ? (session.host.env["MAESTRO_FETCHER_KEY"] ?? "") : await fileOf(session, file, keyBytesMax)
  ).trim();
  if (/^[\x21-\x7e]+$/.test(key)) return key;
  throw new Failure("usage", "There is no fetcher's key", {
    advice:
      "An admin of the tenant makes one; name its file with --key-file, or put it into MAESTRO_FETCHER_KEY. Or name a folder of SVIDs with --svid:",
    command: "maestro keys create --role fetcher --out fetcher.key",
  });
}

function publisherKey(text: string): string {
  if (/^[A-Za-z0-9+/]{122}==$/.test(text)) return text;
  throw new Failure("usage", `${printable(text.slice(0, 40))} is not a publisher's key`, {
    advice: "It is the SPKI of a P-256 key in base64, 124 characters; `maestro market keygen` prints one's own.",
  });
}

function pathsOf(policies: readonly string[]): string[] {
  const paths = [...new Set(policies.map(pathArgument))];
  if (paths.length > policiesMax) throw new Failure("usage", `At most ${policiesMax} policies are followed at once`);
  return paths;
}

async function fetchOnce(session: Session, policies: readonly string[], options: FetchOptions): Promise<ExitName> {
  const paths = pathsOf(policies);
  const fetching = await open(session, options);
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

function rowOf(path: string, verdict: Verdict) {
  const { policy, channel } = parseTargetPath(path) ?? { policy: path, channel: "" };
  const active = verdict.verdict === "expired" ? null : verdict.active;
  const why =
    verdict.verdict === "refused" || verdict.verdict === "expired"
      ? refusalWords(verdict.refusal)
      : verdict.verdict === "behind"
        ? "Every provider that answered is older than what is held, which stays."
        : null;
  return {
    policy,
    channel,
    verdict: verdict.verdict,
    code: verdict.verdict === "refused" || verdict.verdict === "expired" ? verdict.refusal.code : null,
    revision: active?.revision ?? null,
    version: active?.version ?? null,
    sha256: active?.sha256 ?? null,
    from: active?.from ?? null,
    expires_at: verdict.verdict === "expired" ? verdict.since : (active?.expires_at ?? null),
    why,
  };
}

const objectionLines = ({ objections, failedDeltas }: Refresh): string[] => [
  ...objections.map(({ provider, refusal: { code, detail } }) => printable(`${provider}: ${code}: ${detail}`)),
  ...failedDeltas.map(deltaLine),
];

const deltaLine = ({ code, detail }: Refusal): string =>
  printable(`the whole bundle was fetched, since its delta failed: ${code}: ${detail}`);

async function serve(
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
  const fetching = await open(session, options);
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

async function status(session: Session, options: HeldOptions): Promise<void> {
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

async function clear(session: Session, options: HeldOptions): Promise<void> {
  const folder = stateFolder(session, options);
  const cleared = await clearQuarantine(folder);
  if (cleared === null) throw new Failure("not_found", `Nothing is held in ${folder}`);
  session.out.result({ cleared }, () => `cleared\t${cleared}`);
}
