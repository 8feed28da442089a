// `npm run bench -- identity`: what an SVID costs at the API's door beside a key, and what a flood of certificates that nobody has
// seen does to callers that are known.

import { Agent, get } from "node:http";
import type { SeededTenant } from "../stack/seed.ts";
import { byCertificate, callsAs, presented, TestDomain } from "../../test/support/identities.ts";
import { contractOf } from "../../test/support/openapi.ts";
import type { Bench, Benchmark, Figures } from "./benchmark.ts";
import { floodOrder, startFlood, type FloodCounts } from "./identity-flood.ts";
import { atRate } from "./pql-load.ts";
import { median, percentile, rounded } from "./statistics.ts";

const setting = {
  /** Callers that are known: a third each by key, by JWT-SVID and by certificate. */
  known_per_s: 60,
  quiet_s: 8,
  turns: 3,
  flood_per_s: 200,
  flood_s: 8,
} as const;
/** What the plan asks for: less than. */
const goals = { p95_ratio: 2 } as const;
const path = "/api/whoami";
const ways = ["key", "token", "certificate"] as const;
type Way = (typeof ways)[number];

export const identity: Benchmark = {
  about: "SVIDs at the API's door: beside keys, and known callers while strangers' certificates flood in",
  settings: { ...setting, goals },

  async run(bench) {
    const tenant = await bench.stack.seedTenant("identity");
    const { domain, headers } = await credentials(bench, tenant);
    return await measure(bench, domain, headers);
  },

  headline: (parts) => ({
    p95_ratio: parts["flood"]!["p95_ratio"]!.median,
    p95_over_plain: parts["flood"]!["p95_over_plain"]!.median,
    token_over_key: parts["door"]!["token_over_key"]!.median,
    certificate_over_key: parts["door"]!["certificate_over_key"]!.median,
  }),

  faults: (parts) =>
    parts["flood"]!["known_failed"]!.max > 0 ? ["Callers that are known were refused during the flood."] : [],
};

const floodId = (name: string): string => `spiffe://${name}/flood`;

async function credentials(
  { stack }: Bench,
  tenant: SeededTenant,
): Promise<{ readonly domain: TestDomain; readonly headers: Record<Way, Record<string, string>> }> {
  const domain = await TestDomain.make("bench-identity.example");
  const admin = callsAs(await contractOf(stack.apiUrl), { authorization: `Bearer ${tenant.keys.admin}` });
  const answers = [
    await admin.state(domain.name),
    await admin.handIn(domain.name, domain.document()),
    await admin.register(`spiffe://${domain.name}/viewer`, "viewer"),
    await admin.register(floodId(domain.name), "viewer"),
  ];
  const bad = answers.find(({ status }) => status >= 300);
  if (bad !== undefined) throw new Error(`the trust domain is not stated: ${bad.status} ${JSON.stringify(bad.json)}`);
  return {
    domain,
    headers: {
      key: { authorization: `Bearer ${tenant.keys.viewer}` },
      token: {
        authorization: `Bearer ${await domain.token("/viewer", { exp: Math.floor(Date.now() / 1_000) + 3_600 })}`,
      },
      certificate: byCertificate(presented([await domain.leaf("/viewer")])),
    },
  };
}

async function measure(
  { stack, signal, progress }: Bench,
  domain: TestDomain,
  headers: Record<Way, Record<string, string>>,
): Promise<Record<string, Figures>> {
  const url = `${stack.apiUrl}${path}`;
  const agent = new Agent({ keepAlive: true });
  const ask = (way: Way): Promise<void> =>
    new Promise((resolve, reject) => {
      const sent = get(url, { agent, headers: headers[way], signal }, (response) => {
        response.resume();
        response.once("end", () =>
          response.statusCode === 200
            ? resolve()
            : reject(new Error(`${path} by ${way} answered ${response.statusCode}`)),
        );
      });
      sent.once("error", reject);
    });
  /** Times by way, and how many were not answered with 200. */
  const known = async (seconds: number): Promise<{ times: Record<Way, number[]>; failed: number }> => {
    const times: Record<Way, number[]> = { key: [], token: [], certificate: [] };
    const rate = { per_s: setting.known_per_s, duration_s: seconds };
    const startedAt = performance.now();
    const { failed, failure } = await atRate(rate, signal, async (number) => {
      const way = ways[number % ways.length]!;
      await ask(way);
      times[way].push(performance.now() - startedAt - (number * 1_000) / setting.known_per_s);
    });
    if (failure !== null) process.stderr.write(`${failed} known callers were not let in: ${failure}\n`);
    return { times, failed };
  };

  progress("making certificates");
  const order = {
    url,
    plainUrl: `${stack.apiUrl}/nothing`,
    spiffeId: floodId(domain.name),
    per_s: setting.flood_per_s,
    duration_ms: setting.flood_s * 1_000,
  };
  const flood = await startFlood(await floodOrder(domain, order), signal);
  try {
    progress("warming up");
    await known(3);
    const quiet: Record<Way, number[]> = { key: [], token: [], certificate: [] };
    const [quietP95, plainP95, floodP95]: [number[], number[], number[]] = [[], [], []];
    const answered: Record<string, number> = {};
    let failed = 0;
    for (let turn = 1; turn <= setting.turns; turn += 1) {
      progress(`turn ${turn} of ${setting.turns}: quiet`);
      const calm = await known(setting.quiet_s);
      for (const way of ways) quiet[way].push(...calm.times[way]);
      progress(`turn ${turn} of ${setting.turns}: as many plain requests`);
      const [, beside] = await Promise.all([flood.run("plain"), known(setting.flood_s)]);
      progress(`turn ${turn} of ${setting.turns}: flood`);
      const [counts, loaded] = await Promise.all([flood.run("strangers"), known(setting.flood_s)]);
      add(answered, counts);
      failed += calm.failed + beside.failed + loaded.failed;
      quietP95.push(p95(calm.times));
      plainP95.push(p95(beside.times));
      floodP95.push(p95(loaded.times));
    }
    const sent = Object.values(answered).reduce((sum, count) => sum + count, 0);
    const share = (status: string): number => rounded((answered[status] ?? 0) / sent, 3);
    const p50 = (way: Way): number => rounded(percentile(quiet[way], 0.5));
    return {
      door: {
        key_p50_ms: p50("key"),
        token_p50_ms: p50("token"),
        certificate_p50_ms: p50("certificate"),
        token_over_key: rounded(percentile(quiet.token, 0.5) / percentile(quiet.key, 0.5), 3),
        certificate_over_key: rounded(percentile(quiet.certificate, 0.5) / percentile(quiet.key, 0.5), 3),
      },
      flood: {
        p95_quiet_ms: rounded(median(quietP95)),
        p95_plain_ms: rounded(median(plainP95)),
        p95_flood_ms: rounded(median(floodP95)),
        p95_ratio: ratio(floodP95, quietP95),
        p95_over_plain: ratio(floodP95, plainP95),
        known_failed: failed,
        taken_share: share("200"),
        refused_share: share("401"),
        shed_share: share("503"),
        broken_share: share("broken"),
        sent,
      },
    };
  } finally {
    flood.close();
    agent.destroy();
  }
}

const p95 = (times: Record<Way, number[]>): number =>
  percentile(
    ways.flatMap((way) => times[way]),
    0.95,
  );

/** The median of the turns' own ratios. */
const ratio = (of: readonly number[], over: readonly number[]): number =>
  rounded(median(of.map((value, turn) => value / over[turn]!)), 3);

function add(sums: Record<string, number>, counts: FloodCounts): void {
  for (const [status, count] of Object.entries(counts)) sums[status] = (sums[status] ?? 0) + count;
}
