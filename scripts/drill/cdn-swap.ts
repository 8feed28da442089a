// `npm run drill -- cdn-swap`: 400 fetches a second that need current bytes, while provider A freezes and comes back with old
// content, provider B dies, and something is published every five seconds; beside it a plain client through the same. ADR-1230
// says why it is measured so.

import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Bench, Figures } from "../bench/benchmark.ts";
import { rounded } from "../bench/statistics.ts";
import type { Provider } from "../../shared/edge/providers.ts";
import { metadataKey, timestampName } from "../../shared/edge/serving-path.ts";
import type { Stack } from "../stack/index.ts";
import type { Drill, DrillOutcome } from "./drill.ts";
import { failClosed } from "./fail-closed.ts";
import { openGates, type Gates } from "./gate-process.ts";
import { policyNamed, policyWorld, type PolicyWorld } from "./policy-world.ts";
import { swapReport } from "./swap-report.ts";
import { swapFigures, type Release } from "./swap-figures.ts";
import type { FromLoad, LoadOrder, ToLoad } from "./swap-load.ts";
import { publishPlan, type SwapSetting } from "./swap-plan.ts";

export const swapSetting: SwapSetting = {
  fetches_per_s: 400,
  duration_ms: 60_000,
  policies: 200,
  bundle_bytes: 3_000,
  zipf_exponent: 1,
  publish_every_ms: 5_000,
  a_frozen_ms: 15_000,
  a_thawed_ms: 25_000,
  a_caught_up_ms: 34_000,
  b_killed_ms: 40_000,
  quiet_ms: [5_000, 15_000],
  probe_every_ms: 250,
  fresh_within_ms: 1_250,
  stale_after_ms: 5_000,
  seed: 1_931,
};

const publishersAtOnce = 6;
const beginInMs = 500;
/** After the last fetch was due: what has not ended by then is a failure of the drill itself. */
const endMsMax = 30_000;

export const cdnSwap: Drill = {
  about: "one CDN provider freezes and comes back old, the other one dies, under 400 fetches/s of current policies",
  settings: { ...swapSetting },
  goals: [
    { figure: "failed", is: "at_most", limit: 0 },
    { figure: "stale_served", is: "at_most", limit: 0 },
    { figure: "added_p999_ms", is: "under", limit: 50 },
    { figure: "hit_ratio", is: "over", limit: 0.95 },
    { figure: "hedged_share", is: "under", limit: 0.05 },
    { figure: "stale_reduction", is: "over", limit: 0.8 },
  ],
  async run({ stack, signal, progress }) {
    const bucket = await stack.miniflare.getR2Bucket("EDGE_A", "maestro-edge");
    const putAtA = async (key: string, bytes: Uint8Array): Promise<void> => void (await bucket.put(key, bytes));
    return await swapProviders({ stack, signal, progress, putAtA }, swapSetting);
  },
  async evidence(result, signal) {
    const folder = `multicdn-${result.started_at.slice(0, 10)}`;
    const attacks = await failClosed(signal);
    return {
      [`${folder}/cdn-swap.json`]: `${JSON.stringify(result, null, 2)}\n`,
      [`${folder}/fail-closed.json`]: `${JSON.stringify(attacks, null, 2)}\n`,
      [`${folder}/README.md`]: swapReport(result, attacks),
    };
  },
};

/** What of a stack the drill needs. */
export interface SwapBench extends Pick<Bench, "signal" | "progress"> {
  readonly stack: Pick<Stack, "folder" | "apiUrl" | "edge" | "seedTenant">;
  /** Writes into provider A's store behind the publisher's back. */
  readonly putAtA: (key: string, bytes: Uint8Array) => Promise<void>;
}

/** The whole drill, with whatever setting: a test runs a short one. */
export async function swapProviders(bench: SwapBench, setting: SwapSetting): Promise<DrillOutcome> {
  const { stack, signal, progress } = bench;
  const world = await policyWorld(stack, "cdn-swap", signal);
  const releases = await seed(world, setting, bench);
  const before = await lookUps(stack);
  const edge = await runClient(bench, setting, world, releases, "edge");
  const after = await lookUps(stack);
  const plain = await runClient(bench, setting, world, releases, "plain");
  progress("reading what was counted");
  const hits = after.hit - before.hit;
  const all = after.all - before.all;
  const [stale, plainStale] = [edge.figures["stale_seconds"]!, plain.figures["stale_seconds"]!];
  const { failed, stale_served, added_p999_ms, added_max_ms, hedged_share, attempts_per_fetch } = edge.figures;
  return {
    headline: {
      fetches: edge.figures["fetches"]!,
      failed: failed!,
      stale_served: stale_served!,
      added_p999_ms: added_p999_ms!,
      added_max_ms: added_max_ms!,
      hit_ratio: rounded(hits / all),
      hedged_share: hedged_share!,
      attempts_per_fetch: attempts_per_fetch!,
      stale_seconds: stale,
      plain_stale_seconds: plainStale,
      stale_reduction: plainStale === 0 ? 0 : rounded(1 - stale / plainStale),
    },
    parts: {
      edge: { ...edge.figures, look_ups: all, hits, store_reads: after.read - before.read },
      plain: plain.figures,
    },
    faults: edge.complaints,
  };
}

/** Every policy's first revision, as it stands before the load. */
async function seed(world: PolicyWorld, setting: SwapSetting, { signal, progress }: SwapBench): Promise<Release[]> {
  const releases: Release[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let policy = next; policy < setting.policies; policy = next) {
      next += 1;
      signal.throwIfAborted();
      const { sha256 } = await world.publish(policyNamed(policy), setting.bundle_bytes);
      releases.push({ policy, sha256, at: 0 });
      progress(`publishing policy ${releases.length} of ${setting.policies}`);
    }
  };
  await Promise.all(Array.from({ length: publishersAtOnce }, work));
  return releases;
}

interface Ran {
  readonly figures: Figures;
  readonly complaints: readonly string[];
}

/** The plan once, with one of the clients. Adds what it publishes to `releases`. */
async function runClient(
  bench: SwapBench,
  setting: SwapSetting,
  world: PolicyWorld,
  releases: Release[],
  client: LoadOrder["client"],
): Promise<Ran> {
  const { stack, signal, progress } = bench;
  const gates = await openGates({ a: stack.edge.a, b: stack.edge.b });
  const folder = mkdtempSync(join(stack.folder, "drill-"));
  const providers: Provider[] = (["a", "b"] as const).map((name) => ({ name, baseUrl: gates.urls[name] }));
  const load = startLoad(signal);
  const lag: Lag = { timestamp: null };
  try {
    progress(`${client}: beginning`);
    await load.order({ client, setting, trust: world.trust, providers, folder });
    const beginAt = clock() + beginInMs;
    const ending = load.begin(beginAt, setting.duration_ms + beginInMs + endMsMax);
    const stopped = new AbortController();
    const under = AbortSignal.any([signal, stopped.signal]);
    const [ended] = await Promise.all([
      ending.catch((error: unknown) => {
        stopped.abort(error);
        throw error;
      }),
      incident(bench, setting, world, gates, lag, beginAt, under, (words) => progress(`${client}: ${words}`)),
      publishing(bench, setting, world, releases, lag, beginAt, under),
    ]);
    const { figures, complaints } = swapFigures(setting, beginAt, ended.records, releases);
    const objections = Object.entries(ended.objections).map(([name, count]) => [
      `refused_${name.replace(" ", "_")}`,
      count,
    ]);
    return {
      figures: { ...figures, ...ended.counts, ...Object.fromEntries(objections), load_cpu_s: rounded(ended.cpu_s, 3) },
      complaints,
    };
  } finally {
    load.stop();
    gates.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const clock = (): number => performance.timeOrigin + performance.now();

async function until(at: number, signal: AbortSignal): Promise<void> {
  const waitMs = at - clock();
  if (waitMs > 0) await sleep(waitMs, undefined, { signal });
}

/** What provider A's store is held back at while it lags: the timestamp of when it froze; null: it does not lag. */
interface Lag {
  timestamp: Uint8Array | null;
}

/** Open loop: each when it is due, whatever became of those before. */
async function publishing(
  { putAtA }: SwapBench,
  setting: SwapSetting,
  world: PolicyWorld,
  releases: Release[],
  lag: Lag,
  beginAt: number,
  signal: AbortSignal,
): Promise<void> {
  const under: Promise<void>[] = [];
  const publish = async (policy: number): Promise<void> => {
    const { sha256, at } = await world.publish(policyNamed(policy), setting.bundle_bytes);
    releases.push({ policy, sha256, at });
    // The publisher has read back what it put: that was not where the edge reads.
    if (lag.timestamp !== null) await putAtA(timestampKey(world), lag.timestamp);
  };
  for (const { at_ms: at, policy } of publishPlan(setting)) {
    await until(beginAt + at, signal);
    under.push(publish(policy));
  }
  await Promise.all(under);
}

const timestampKey = ({ trust }: PolicyWorld): string => metadataKey(trust.tenant, timestampName);

/** What is done to the providers. */
async function incident(
  { stack, putAtA }: SwapBench,
  setting: SwapSetting,
  world: PolicyWorld,
  gates: Gates,
  lag: Lag,
  beginAt: number,
  signal: AbortSignal,
  progress: (words: string) => void,
): Promise<void> {
  const timestampAt = async (edge: string): Promise<Uint8Array> => {
    const headers = { authorization: `Bearer ${world.trust.key}` };
    const response = await fetch(`${edge}/${timestampKey(world)}`, { headers, signal });
    if (!response.ok) throw new Error(`${edge} answered ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  };
  progress(`${setting.fetches_per_s} fetches/s`);
  await until(beginAt + setting.a_frozen_ms, signal);
  progress("provider A is frozen");
  await gates.act("a", "freeze");
  lag.timestamp = await timestampAt(stack.edge.a);
  await until(beginAt + setting.a_thawed_ms, signal);
  progress("provider A is back, with what it had");
  await gates.act("a", "thaw");
  await until(beginAt + setting.a_caught_up_ms, signal);
  progress("provider A has caught up");
  lag.timestamp = null;
  // Both providers have the same document, and B's store does not lag.
  await putAtA(timestampKey(world), await timestampAt(stack.edge.b));
  await until(beginAt + setting.b_killed_ms, signal);
  progress("provider B is dead");
  await gates.act("b", "die");
}

/** What both edges counted so far: requests that had to look something up, those that needed no store for it, reads of the stores. */
async function lookUps({ edge }: Pick<Stack, "edge">): Promise<{ all: number; hit: number; read: number }> {
  const sum = { all: 0, hit: 0, read: 0 };
  for (const base of [edge.a, edge.b]) {
    const response = await fetch(`${base}/metrics`, { headers: { authorization: `Bearer ${edge.metricsKey}` } });
    const text = await response.text();
    if (!response.ok) throw new Error(`${base}/metrics answered ${response.status}`);
    for (const [, cache, count] of text.matchAll(/^mc_edge_requests_total\{.*cache="(\w+)"\} (\d+)$/gm)) {
      if (cache === "none") continue;
      sum.all += Number(count);
      if (cache === "hit") sum.hit += Number(count);
    }
    for (const [, count] of text.matchAll(/^mc_edge_store_reads_total\{.*\} (\d+)$/gm)) sum.read += Number(count);
  }
  return sum;
}

type Done = Extract<FromLoad, { state: "done" }>;

interface Load {
  /** Resolves when it is ready to begin. */
  order(order: LoadOrder): Promise<void>;
  begin(at: number, msMax: number): Promise<Done>;
  stop(): void;
}

const readyMsMax = 30_000;

function startLoad(signal: AbortSignal): Load {
  const child = fork(fileURLToPath(new URL("swap-load.ts", import.meta.url)), {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: [],
  });
  let said = "";
  child.stderr!.on("data", (piece: Buffer) => void (said = (said + piece.toString()).slice(-2_000)));
  const heard = (msMax: number): Promise<FromLoad> =>
    new Promise((resolve, reject) => {
      const end = (settle: () => void): void => {
        clearTimeout(timer);
        child.off("message", onMessage).off("exit", onExit);
        signal.removeEventListener("abort", onAbort);
        settle();
      };
      const onMessage = (message: unknown): void => end(() => resolve(message as FromLoad));
      const onExit = (code: number | null): void =>
        end(() => reject(new Error(`the load ended with ${code}: ${said}`)));
      const onAbort = (): void => end(() => reject(signal.reason as Error));
      const timer = setTimeout(() => end(() => reject(new Error(`the load said nothing for ${msMax} ms`))), msMax);
      child.on("message", onMessage).on("exit", onExit);
      signal.addEventListener("abort", onAbort);
    });
  const tell = (message: ToLoad): void => void child.send(message);
  return {
    async order(order) {
      const answer = heard(readyMsMax);
      tell({ order });
      const { state } = await answer;
      if (state !== "ready") throw new Error(`the load is ${state} before it began`);
    },
    async begin(at, msMax) {
      const answer = heard(msMax);
      tell({ begin_at: at });
      const done = await answer;
      if (done.state !== "done") throw new Error(`the load is ${done.state} twice`);
      return done;
    },
    stop: () => void child.kill("SIGKILL"),
  };
}
