// `npm run bench -- pql`: PQL as the plan measures it. Ten million events of 200 tenants; a mix of questions at a fixed rate
// through HTTP and straight to Postgres; what the product adds to its own SQL; and what else could have answered.

import { setTimeout as sleep } from "node:timers/promises";
import { seeded } from "../../test/simulation/audit-events.ts";
import { changedApiConfigs } from "./bench-api.ts";
import type { Bench, Benchmark, Figures } from "./benchmark.ts";
import { besideRounds, compareWays, measureScans } from "./pql-beside.ts";
import {
  atRate,
  Connections,
  Http,
  preparedQuestion,
  timesFigures,
  withCores,
  type PreparedQuestion,
  type Rate,
} from "./pql-load.ts";
import { drawMix, ownText, questionNames, questions, unkeptText, type Asked } from "./pql-mix.ts";
import { prepareWorld, tenantShares, worldFolder, worldSetting, type World } from "./pql-world.ts";
import { percentile, rounded } from "./statistics.ts";

const seed = 1_922;
const loads = { http_120: { per_s: 120, duration_s: 30 }, http_300: { per_s: 300, duration_s: 30 } } as const;
const cachedLoad = { per_s: 120, duration_s: 15 } as const;
/** Of questions that nothing is kept of. */
const unkeptLoad = { per_s: 40, duration_s: 20 } as const;
const sqlLoad = { per_s: 1_000, duration_s: 30 } as const;
const largestLoad = { per_s: 20, duration_s: 15 } as const;
/** Unmeasured: connections, compiled code and caches are not what a question's time is about. */
const warmUpS = 10;
const sqlConnections = 16;
const overheadPairs = 600;
const scanQuestions = 100;

/** By then the metrics have every question. */
const toldMs = 12_000;

/** What the plan asks for. */
const goals: readonly (readonly [figure: string, most: number])[] = [
  ["p95_ms", 26],
  ["sql_p95_ms", 10],
  ["overhead_ratio", 1.5],
  ["largest_30d_ms", 15],
];

export const pql: Benchmark = {
  about:
    "PQL over 10,000,000 events of 200 tenants: HTTP and SQL at fixed rates, overhead, rows read against the price",
  settings: {
    world: worldSetting,
    questions,
    seed,
    loads: {
      ...loads,
      http_120_cached: cachedLoad,
      http_40_unkept: unkeptLoad,
      sql_1000: sqlLoad,
      largest_30d: largestLoad,
    },
    warm_up_s: warmUpS,
    sql_connections: sqlConnections,
    overhead_pairs: overheadPairs,
    scan_questions: scanQuestions,
    beside_rounds: besideRounds,
    goals: Object.fromEntries(goals),
  },
  keptFolder: worldFolder,
  workerConfigs: (folder) => changedApiConfigs(folder, { entry: "test/workerd/bare-api.ts" }),

  async run(bench) {
    const world = await prepareWorld(bench);
    const http = new Http(bench.stack.apiUrl, bench.signal);
    const next = seeded(seed);
    const mix = (count: number): Asked[] => drawMix(next, count, tenantShares);
    let asked = 0;
    /** Worked out anew, each of them: see `ownText`. */
    const fresh = (): number => (asked += 1);
    try {
      const parts: Record<string, Figures> = {
        world: {
          events: world.events,
          largest_events: world.tenants[0]!.events,
          open_minutes: rounded(world.open_minutes, 2),
        },
      };
      const textOf: Readonly<Record<Kept, (query: string) => string>> = {
        answers: (query) => query,
        sealed: (query) => ownText(query, fresh()),
        nothing: (query) => unkeptText(query, fresh()),
      };
      const overHttp = (name: string, rate: Rate, kept: Kept = "sealed"): Promise<Figures> =>
        measureHttp(bench, world, http, name, rate, mix(rate.per_s * rate.duration_s), textOf[kept]);
      const ofHttp = (name: keyof typeof loads): Promise<Figures> => overHttp(name, loads[name]);
      const before = await cachedAnswers(bench, http, world);
      await overHttp("warm-up", { per_s: loads.http_120.per_s, duration_s: warmUpS });
      parts["overhead"] = await measureOverhead(bench, world, http, mix(overheadPairs), textOf.sealed);
      parts["largest_30d"] = await measureLargest(bench, world, http, "largest_30d", textOf.sealed);
      parts["largest_30d_unkept"] = await measureLargest(bench, world, http, "largest_30d_unkept", textOf.nothing);
      parts["http_120"] = await ofHttp("http_120");
      const between = await cachedAnswers(bench, http, world);
      await overHttp("warm-up, answers kept", { per_s: cachedLoad.per_s, duration_s: warmUpS }, "answers");
      parts["http_120_cached"] = await overHttp("http_120_cached", cachedLoad, "answers");
      parts["http_40_unkept"] = await overHttp("http_40_unkept", unkeptLoad, "nothing");
      parts["sql_1000"] = await measureSql(bench, world, mix);
      parts["scan"] = await measureScans(bench, world, http, mix(scanQuestions));
      Object.assign(parts, await compareWays(bench, world, http));
      // The last one: where it is more than the machine can do, nothing is measured behind it.
      const afterKept = await cachedAnswers(bench, http, world);
      parts["http_300"] = await ofHttp("http_300");
      const after = await cachedAnswers(bench, http, world);
      parts["fresh"] = { from_cache: between - before + (after - afterKept) };
      return parts;
    } finally {
      http.close();
    }
  },

  headline(parts) {
    const of = (part: string, figure: string): number => parts[part]![figure]!.median;
    return {
      p50_ms: of("http_120", "p50_ms"),
      p95_ms: of("http_120", "p95_ms"),
      p95_300_ms: of("http_300", "p95_ms"),
      sql_p95_ms: of("sql_1000", "p95_ms"),
      overhead_ratio: of("overhead", "ratio"),
      largest_30d_ms: of("largest_30d", "p95_ms"),
      scan_ratio: of("scan", "ratio"),
      p50_cached_ms: of("http_120_cached", "p50_ms"),
      p50_unkept_ms: of("http_40_unkept", "p50_ms"),
      p95_unkept_ms: of("http_40_unkept", "p95_ms"),
      largest_30d_unkept_ms: of("largest_30d_unkept", "p95_ms"),
    };
  },

  faults(parts) {
    const never = (part: string, figure: string): string[] => {
      const { max } = parts[part]![figure]!;
      return max === 0 ? [] : [`${part}: ${figure} is ${max}, and must be 0`];
    };
    return [
      ...[
        ...Object.keys(loads),
        "http_120_cached",
        "http_40_unkept",
        "sql_1000",
        "largest_30d",
        "largest_30d_unkept",
      ].flatMap((part) => never(part, "failed")),
      ...never("fresh", "from_cache"),
      ...never("answers", "different"),
    ];
  },
};

/**
 * What may be kept of a question: its answer; the counts of its sealed hours, so that the events since are read; or nothing. The
 * plan's figures are of the second: who asks a question again has other events since.
 */
type Kept = "answers" | "sealed" | "nothing";

async function measureHttp(
  { stack, signal, progress }: Bench,
  world: World,
  http: Http,
  name: string,
  rate: Rate,
  mix: readonly Asked[],
  textOf: (query: string) => string,
): Promise<Figures> {
  progress(`${name}: ${rate.per_s} questions/s for ${rate.duration_s} s`);
  return withCores(stack, async () => {
    const times = await atRate(rate, signal, (number) => {
      const { question, tenant } = mix[number]!;
      const { query } = questions[question];
      return http.ask(world.tenants[tenant]!.keys.auditor, textOf(query));
    });
    return timesFigures(name, times, progress);
  });
}

async function measureLargest(
  { signal, progress }: Bench,
  world: World,
  http: Http,
  name: string,
  textOf: (query: string) => string,
): Promise<Figures> {
  progress(`${name}: 30 days of the largest tenant`);
  const { query } = questions.deny_30d;
  const key = world.tenants[0]!.keys.auditor;
  const times = await atRate(largestLoad, signal, () => http.ask(key, textOf(query)));
  return timesFigures(name, times, progress);
}

/** How many of the largest tenant's questions were answered with what was kept, as its own metrics say. */
async function cachedAnswers({ signal }: Bench, http: Http, world: World): Promise<number> {
  await sleep(toldMs, undefined, { signal });
  const text = await http.call("GET", "/api/metrics", world.tenants[0]!.keys.admin);
  const lines = text.split("\n").filter((line) => /^mc_pql12_query_ms_count\{.*outcome="cached"/.test(line));
  return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
}

/**
 * One after the other and turn by turn, so that whatever else happens on the machine happens to both. The bare route runs what
 * the product runs where the question's sealed hours are kept, and it asks each question once before, so that they are.
 */
async function measureOverhead(
  { signal, progress }: Bench,
  world: World,
  http: Http,
  mix: readonly Asked[],
  textOf: (query: string) => string,
): Promise<Figures> {
  progress("the product, and a bare route with its SQL");
  for (const { question, tenant } of mix)
    await http.ask(world.tenants[tenant]!.keys.auditor, textOf(questions[question].query));
  const now = Date.now();
  const bare = mix.map(({ question, tenant: number }) => {
    const { tenant_id, sealed_to } = world.tenants[number]!;
    return { tenant_id, now, query: questions[question].query, sealed_to };
  });
  await http.call("PUT", "/bench/bare", null, bare);
  const times = { product: [] as number[], bare: [] as number[] };
  for (const [at, { question, tenant }] of mix.entries()) {
    signal.throwIfAborted();
    const query = textOf(questions[question].query);
    const ways = {
      product: () => http.ask(world.tenants[tenant]!.keys.auditor, query),
      bare: () => http.call("POST", `/bench/bare/${at}`, null),
    };
    for (const way of at % 2 === 0 ? (["product", "bare"] as const) : (["bare", "product"] as const)) {
      const askedAt = performance.now();
      await ways[way]();
      times[way].push(performance.now() - askedAt);
    }
  }
  const [product, alone] = [percentile(times.product, 0.5), percentile(times.bare, 0.5)];
  return {
    ratio: rounded(product / alone),
    product_p50_ms: rounded(product),
    bare_p50_ms: rounded(alone),
    product_p95_ms: rounded(percentile(times.product, 0.95)),
    bare_p95_ms: rounded(percentile(times.bare, 0.95)),
  };
}

async function measureSql(
  { stack, signal, progress }: Bench,
  world: World,
  mix: (count: number) => Asked[],
): Promise<Figures> {
  progress(`preparing ${world.tenants.length * questionNames.length} statements`);
  const now = Date.now();
  const prepared = new Map<string, PreparedQuestion>();
  for (const [number, { tenant_id, sealed_to }] of world.tenants.entries()) {
    for (const question of questionNames) {
      const asked = { tenant_id, now, query: questions[question].query, sealed_to };
      prepared.set(`${question} ${number}`, await preparedQuestion(asked));
    }
  }
  const connections = await Connections.open(stack, sqlConnections);
  try {
    const run = async (rate: Rate): Promise<Figures> => {
      const asked = mix(rate.per_s * rate.duration_s);
      progress(`sql_1000: ${rate.per_s} questions/s for ${rate.duration_s} s`);
      const times = await atRate(rate, signal, (number) => {
        const { question, tenant } = asked[number]!;
        return connections.ask(prepared.get(`${question} ${tenant}`)!);
      });
      return timesFigures("sql_1000", times, progress);
    };
    await run({ ...sqlLoad, duration_s: warmUpS });
    return await withCores(stack, () => run(sqlLoad));
  } finally {
    await connections.close();
  }
}
