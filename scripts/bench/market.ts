// `npm run bench -- market`: upgrades and rollbacks over the API while the bucket fails, PostgreSQL restarts, and messages
// come twice and out of order; and what an entitlement check costs beside a bare call of an object.

import { setTimeout as sleep } from "node:timers/promises";
import type { Stack } from "../stack/index.ts";
import type { Bench, Benchmark, Figures } from "./benchmark.ts";
import { faultyConfigs, noFaults, setFaults, type FaultShares } from "./faulty-stack.ts";
import { Client, type Answered } from "./market-client.ts";
import { eventCounts, halfInstalled, versionsOf } from "./market-readback.ts";
import { newVersion, oldVersion, prepareMarket, type Market } from "./market-world.ts";
import { percentile, rounded } from "./statistics.ts";

const settings = {
  tenants: 50,
  packages: 40,
  upgrades_per_s: 8,
  rollbacks: 500,
  rollbacks_per_s: 10,
  faults: { bucket: 0.05, queue_twice: 0.05, queue_reordered: 0.05 } satisfies FaultShares,
  client_sends_twice: 0.05,
  postgres_restarts_every_ms: 5_000,
  success_within_ms: 30_000,
  checks: 2_000,
} as const;
/** After the last call: the log gets every event by then, or it is lost. */
const arrivalMsMax = 90_000;

export const market: Benchmark = {
  about: "2,000 upgrades and 500 rollbacks under injected faults, and the cost of an entitlement check",
  settings,
  workerConfigs: faultyConfigs,

  async run(bench) {
    const { stack, signal, progress } = bench;
    const world = await prepareMarket(stack, settings, signal, progress);
    const upgrades = await underFaults(bench, "upgrade", () => upgradeAll(bench, world));
    const rollbacks = await underFaults(bench, "rollback", () => rollBackSome(bench, world, upgrades.moved));
    progress("reading both ends back");
    const events = await eventCounts(stack, world, upgrades.moved.length, rollbacks.moved.length, arrivalMsMax, signal);
    return {
      upgrades: upgrades.figures,
      rollbacks: rollbacks.figures,
      state: { half_installed: await halfInstalled(stack), ...events },
      entitlement_check: await compareChecks(bench, world),
    };
  },

  headline: (parts) => ({
    success_ratio: parts["upgrades"]!["success_ratio"]!.min,
    half_installed: parts["state"]!["half_installed"]!.max,
    rollback_p95_ms: parts["rollbacks"]!["p95_ms"]!.median,
    entitlement_check_ratio: parts["entitlement_check"]!["ratio"]!.median,
  }),

  faults(parts) {
    const never = (part: string, figure: string): string[] => {
      const { max } = parts[part]![figure]!;
      return max === 0 ? [] : [`${part}: ${figure} is ${max}, and must be 0`];
    };
    const ratio = parts["upgrades"]!["success_ratio"]!.min;
    return [
      ...never("state", "half_installed"),
      ...never("state", "events_lost"),
      ...never("state", "events_duplicated"),
      ...(ratio > 0.997 ? [] : [`upgrades: success_ratio is ${ratio}, and must be above 0.997`]),
    ];
  },
};

interface Moved {
  readonly tenant: number;
  readonly package: string;
}

interface Load {
  readonly moved: readonly Moved[];
  readonly figures: Figures;
}

/** Faults on while `work` runs, with PostgreSQL restarting; off, and PostgreSQL up, when it is over. */
async function underFaults({ stack, signal, progress }: Bench, name: string, work: () => Promise<Load>): Promise<Load> {
  progress(`${name}: switching the faults on`);
  const before = await setFaults(stack, settings.faults);
  const over = new AbortController();
  const restarting = restartPostgres(stack, AbortSignal.any([signal, over.signal]));
  let done: Load;
  try {
    done = await work();
  } finally {
    over.abort();
    await restarting;
  }
  const after = await setFaults(stack, noFaults);
  const injected = Object.fromEntries(
    (Object.keys(noFaults) as (keyof FaultShares)[]).map((kind) => [`injected_${kind}`, after[kind] - before[kind]]),
  );
  return { ...done, figures: { ...done.figures, ...injected, postgres_restarts: await restarting } };
}

/** Answers how often it was restarted; it is up when this resolves. */
async function restartPostgres(stack: Stack, signal: AbortSignal): Promise<number> {
  for (let restarts = 0; ; restarts += 1) {
    await sleep(settings.postgres_restarts_every_ms, undefined, { signal }).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    if (signal.aborted) return restarts;
    await stack.postgres.stop();
    await stack.postgres.start();
  }
}

/** Tenant by tenant within a package, so that neighbouring calls are of different tenants. */
const upgradeAll = (bench: Bench, world: Market): Promise<Load> =>
  moveAll(bench, world, {
    name: "upgrade",
    path: "/api/market/upgrades",
    calls: world.packages.flatMap((name) => world.tenants.map((_, tenant) => ({ tenant, package: name }))),
    body: { channel: "canary" },
    perSecond: settings.upgrades_per_s,
    version: newVersion,
  });

const rollBackSome = (bench: Bench, world: Market, from: readonly Moved[]): Promise<Load> =>
  moveAll(bench, world, {
    name: "rollback",
    path: "/api/market/rollbacks",
    calls: from.slice(0, settings.rollbacks),
    body: { reason: "a benchmark" },
    perSecond: settings.rollbacks_per_s,
    version: oldVersion,
  });

interface Moves {
  readonly name: string;
  readonly path: string;
  readonly calls: readonly Moved[];
  readonly body: Readonly<Record<string, unknown>>;
  readonly perSecond: number;
  /** What the install must be on afterwards, as Postgres has it. */
  readonly version: string;
}

async function moveAll({ stack, signal, progress }: Bench, world: Market, moves: Moves): Promise<Load> {
  const { name, path, calls, perSecond } = moves;
  const client = new Client(stack.apiUrl, settings.success_within_ms, settings.client_sends_twice, signal);
  const answers = await atRate(calls, perSecond, signal, progress, name, (call) =>
    client.post(path, world.tenants[call.tenant]!.keys.operator, { package: call.package, ...moves.body }),
  );
  const versions = await versionsOf(stack, world);
  const moved = calls.filter(
    (call, at) => answers[at]!.ok && versions.get(`${call.tenant} ${call.package}`) === moves.version,
  );
  return {
    moved,
    figures: {
      calls: calls.length,
      success_ratio: rounded(moved.length / calls.length, 6),
      attempts_per_call: rounded(answers.reduce((sum, { attempts }) => sum + attempts, 0) / calls.length),
      sent_twice: answers.filter(({ sentTwice }) => sentTwice).length,
      ...latencies(answers),
    },
  };
}

/** From when a call was due to its good answer, attempts and waits in it: a backlog is part of the time. */
const latencies = (answers: readonly Answered[]): Figures => {
  const times = answers.filter(({ ok }) => ok).map(({ ms }) => ms);
  return {
    p50_ms: rounded(percentile(times, 0.5)),
    p95_ms: rounded(percentile(times, 0.95)),
    max_ms: rounded(percentile(times, 1)),
  };
};

/** Calls start when they are due, whatever became of those before. */
async function atRate<T>(
  calls: readonly T[],
  perSecond: number,
  signal: AbortSignal,
  progress: (words: string) => void,
  name: string,
  send: (call: T) => Promise<Answered>,
): Promise<Answered[]> {
  const startedAt = performance.now();
  const running: Promise<Answered>[] = [];
  for (const [at, call] of calls.entries()) {
    const waitMs = startedAt + (at * 1_000) / perSecond - performance.now();
    if (waitMs > 0) await sleep(waitMs, undefined, { signal });
    signal.throwIfAborted();
    if (at % 50 === 0) progress(`${name} ${at} of ${calls.length}`);
    const sent = send(call);
    sent.catch(() => {}); // Awaited below, all together.
    running.push(sent);
  }
  return Promise.all(running);
}

/** One after the other and turn by turn, so that whatever else happens on the machine happens to both. */
async function compareChecks({ stack, signal, progress }: Bench, world: Market): Promise<Figures> {
  const key = world.tenants[0]!.keys.viewer;
  const times = { check: [] as number[], bare: [] as number[] };
  for (let at = -200; at < settings.checks; at += 1) {
    signal.throwIfAborted();
    if (at % 200 === 0) progress(`entitlement check ${Math.max(at, 0)} of ${settings.checks}`);
    for (const kind of at % 2 === 0 ? (["check", "bare"] as const) : (["bare", "check"] as const)) {
      const askedAt = performance.now();
      const response = await fetch(`${stack.apiUrl}/api/bench/${kind}`, {
        headers: { authorization: `Bearer ${key}` },
        signal,
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${kind}: ${response.status} ${text}`);
      if (at >= 0) times[kind].push(performance.now() - askedAt);
    }
  }
  const [check, bare] = [percentile(times.check, 0.5), percentile(times.bare, 0.5)];
  return {
    ratio: rounded(check / bare),
    check_p50_ms: rounded(check),
    bare_p50_ms: rounded(bare),
    check_p95_ms: rounded(percentile(times.check, 0.95)),
    bare_p95_ms: rounded(percentile(times.bare, 0.95)),
  };
}
