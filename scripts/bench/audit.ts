// `npm run bench -- audit`: the audit log as the plan measures it. How late an event is in the bucket under two loads, what
// that costs in processor time and puts, how soon a run's disclosure link works, and how long a million events take to verify.

import type { Benchmark, BenchmarkResult, Figures } from "./benchmark.ts";
import { measureDisclosure } from "./disclosure.ts";
import { idleSetting, measureIdle } from "./idle.ts";
import { measureLoad } from "./measured-load.ts";
import { measureVerify } from "./measure-verify.ts";
import { loadSetting } from "./schedule.ts";

const twenty = loadSetting({ name: "twenty_tenants", events_per_s: 500, tenants: 20, duration_s: 60 });
const one = loadSetting({ name: "one_tenant", events_per_s: 2_500, tenants: 1, duration_s: 20 });
const busy = loadSetting({ name: "busy", events_per_s: 200, tenants: 2, duration_s: 20 });
/** Unmeasured: connections, compiled code and SQLite's first pages are not what a lag is about. */
const warmUp = loadSetting({ name: "warm-up", events_per_s: 1_000, tenants: 2, duration_s: 3 });
const lagLoads = [twenty, one] as const;
const loads = [twenty, one, busy] as const;
const disclosureRuns = 500;

/** What the plan asks for; `lag` is from the commit that was due to the manifest, with its checkpoint, in the bucket. */
const goals: readonly (readonly [figure: string, most: number])[] = [
  ["lost", 0],
  ["duplicated", 0],
  ["lag_p95_s", 2.5],
  ["puts_per_event_busy", 0.05],
  ["puts_per_event_idle", 3],
  ["disclosure_tat_p95_ms", 1_000],
  ["verify_1m_s", 30],
];

export const audit: Benchmark = {
  about: "the audit log: lag, cost and puts of its export, disclosure links, a verification of 1,000,000 events",
  settings: {
    loads,
    warm_up: warmUp,
    idle: idleSetting,
    disclosure_runs: disclosureRuns,
    goals: Object.fromEntries(goals),
  },

  async run(bench) {
    await measureLoad(bench, warmUp);
    const parts: Record<string, Figures> = {};
    for (const setting of loads) parts[setting.name] = await measureLoad(bench, setting);
    parts["idle"] = await measureIdle(bench);
    parts["disclosure"] = await measureDisclosure(bench, disclosureRuns);
    parts["verify"] = await measureVerify(bench);
    return parts;
  },

  headline(parts) {
    const all = [...loads.map(({ name }) => name), "idle"];
    const worst = (figure: string, names: readonly string[]): number =>
      Math.max(...names.map((name) => parts[name]?.[figure]?.max ?? 0));
    const slower = (figure: string): number => Math.max(...lagLoads.map(({ name }) => parts[name]![figure]!.median));
    const cost = parts["one_tenant"]!["workerd_us_per_event"]?.median;
    return {
      lost: worst("lost", all),
      duplicated: worst("duplicated", all),
      gaps: worst("gaps", all),
      lag_p50_s: slower("manifest_lag_p50_s"),
      lag_p95_s: slower("manifest_lag_p95_s"),
      ...(cost === undefined ? {} : { rows_per_cpu_s: Math.round(1e6 / cost) }),
      puts_per_event_busy: parts["busy"]!["puts_per_event"]!.median,
      puts_per_event_idle: parts["idle"]!["puts_per_event"]!.median,
      disclosure_tat_p50_ms: parts["disclosure"]!["disclosure_p50_ms"]!.median,
      disclosure_tat_p95_ms: parts["disclosure"]!["disclosure_p95_ms"]!.median,
      verify_1m_s: parts["verify"]!["verify_s"]!.median,
    };
  },

  evidence: (result) => ({
    "audit-lag.json": `${JSON.stringify(result, null, 2)}\n`,
    "audit-lag.md": report(result),
  }),

  faults: (parts) =>
    [...loads.map(({ name }) => name), "idle"].flatMap((name) =>
      ["lost", "duplicated", "gaps"].flatMap((figure) => {
        const max = parts[name]?.[figure]?.max ?? 0;
        return max === 0 ? [] : [`${name}: ${figure} is ${max}, and must be 0`];
      }),
    ),
};

/** The lag report for people: each goal with what was measured, met or not, and every load's figures with their spread. */
export function report(result: BenchmarkResult): string {
  const { machine, started_at: startedAt, settings } = result;
  const rows = goals.map(([figure, most]) => {
    const value = result[figure];
    const verdict = typeof value === "number" && value <= most ? "met" : "NOT met";
    return `| \`${figure}\` | ${typeof value === "number" ? value : "not measured"} | ≤ ${most} | ${verdict} |`;
  });
  const figures = Object.entries(result.parts).flatMap(([part, members]) =>
    Object.entries(members).map(
      ([figure, { median, min, max }]) => `| ${part} | \`${figure}\` | ${median} | ${min} – ${max} |`,
    ),
  );
  return `# Audit export: lag report (MC-AUD-1911, MC-AUD-1912)

Measured ${startedAt} by \`npm run bench -- audit --evidence\`, ${String(settings["repeats"])} repeats, each on a stack of its own:
${String(machine["cores"])} cores of ${String(machine["processor"])}, workerd ${String(machine["workerd"])}, PostgreSQL
${String(machine["postgres"])} with fsync ${String(machine["fsync"])}. A lag begins when the commit was due and ends when the
manifest, with its checkpoint, is in the bucket. The plan asks for less than 60 s for both.

| figure | measured | goal | |
|---|---|---|---|
${rows.join("\n")}

Medians and spreads of all that was measured:

| part | figure | median | min – max |
|---|---|---|---|
${figures.join("\n")}
`;
}
