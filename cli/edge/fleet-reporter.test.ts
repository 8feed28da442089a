// Reports of `maestro edge serve`: what they say, whom they reach, what they never hold up, and whose word on the flag counts.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { edgeReport, type EdgeReport } from "../../shared/contract/http-edge.ts";
import { noCounts } from "../../shared/edge/edge-counters.ts";
import { writeProviders } from "../../shared/edge/providers.ts";
import { refusal } from "../../shared/edge/refusal.ts";
import {
  edgeWorld,
  fetcherSecret,
  policyPath,
  startProvider,
  tenant,
  type TestProvider,
} from "../../test/support/edge-world.ts";
import { maestro, testHost, type TestHost } from "../testing/host.ts";
import { InstanceIdentity, oneProviderMs, readIdentity } from "./instance-file.ts";
import { CacheCounts, ReportBook, type Seen } from "./report.ts";

const realSleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new Error("interrupted"));
    });
  });

type Answer = (report: EdgeReport) => readonly [status: number, body: unknown] | null;
const noted = (multicdn: boolean | null = true): readonly [number, unknown] => [
  200,
  { outcome: "noted", multicdn, next_report_ms: 10_000 },
];

/** What takes reports: `answer` null leaves the request hanging. */
function reportsAt(answer: Answer) {
  const reports: EdgeReport[] = [];
  const take = (request: IncomingMessage, response: ServerResponse): void => {
    const pieces: Buffer[] = [];
    request.on("data", (piece: Buffer) => pieces.push(piece));
    request.on("end", () => {
      const report = edgeReport.parse(JSON.parse(Buffer.concat(pieces).toString()));
      expect(request.headers.authorization).toBe(`Bearer ${fetcherSecret}`);
      const said = answer(report);
      if (said === null) return;
      reports.push(report);
      response.writeHead(said[0], { "content-type": "application/json" }).end(JSON.stringify(said[1]));
    });
  };
  return { reports, take };
}

function through(provider: TestProvider, answer: Answer): EdgeReport[] {
  const { reports, take } = reportsAt(answer);
  provider.fault = (key, response, request) => {
    if (key !== "api/edge/reports") return false;
    take(request, response);
    return true;
  };
  return reports;
}

async function apiItself(answer: Answer) {
  const { reports, take } = reportsAt(answer);
  const server = createServer(take);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { reports, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

async function scene() {
  const world = await edgeWorld();
  await world.publish();
  const [a, b] = [await startProvider("a", world.copy()), await startProvider("b", world.copy())];
  const host = { ...testHost({ env: { MAESTRO_FETCHER_KEY: fetcherSecret } }), sleep: realSleep };
  writeFileSync(join(host.home, "1.root.json"), world.pin);
  writeFileSync(join(host.home, "edge.json"), writeProviders([a, b].map(({ name, baseUrl }) => ({ name, baseUrl }))));
  const trust = [
    "--tenant",
    tenant,
    "--root",
    "1.root.json",
    "--providers",
    "edge.json",
    "--publisher",
    world.publisherKey,
  ];
  return { world, a, b, host, trust };
}
type Scene = Awaited<ReturnType<typeof scene>>;

/** `maestro edge serve` until the work is done; another host for another start of the same folder. */
async function served({ host, trust }: Scene, more: readonly string[], work: () => Promise<void>): Promise<string> {
  const again: TestHost & { sleep: typeof realSleep } = {
    ...testHost({ home: host.home, env: { MAESTRO_FETCHER_KEY: fetcherSecret } }),
    sleep: realSleep,
  };
  const running = maestro(again, "edge", "serve", "gateway", ...trust, "--listen", "127.0.0.1:0", ...more);
  try {
    await work();
  } finally {
    again.interrupt();
  }
  const { code, err } = await running;
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
  return err;
}
const instanceOf = ({ host }: Scene): Record<string, unknown> =>
  JSON.parse(readFileSync(join(host.home, ".local/state/maestro/edge", tenant, "instance.json"), "utf8")) as Record<
    string,
    unknown
  >;

describe("maestro edge serve", () => {
  test("reports what it runs at once, by the name of a provider that takes it, and again where that changes", async () => {
    const at = await scene();
    through(at.a, () => [503, { code: "api_unreachable" }]);
    const reports = through(at.b, () => noted());
    const before = Date.now();
    await served(at, [], async () => {
      await expect.poll(() => reports.length, { timeout: 5_000 }).toBe(1);
      await at.world.publish({ allowed: "bob" });
      at.a.objects = at.world.copy();
      at.b.objects = at.world.copy();
      await expect.poll(() => reports.length, { timeout: 5_000 }).toBe(2);
    });
    expect(Date.now() - before).toBeLessThan(8_000);
    const [first, second] = reports as [EdgeReport, EdgeReport];
    expect(first).toMatchObject({
      boot: 1,
      policies: [{ policy: "gateway", channel: "stable", active: { revision: 1 }, refusal: null }],
      metadata: { root_version: 1, timestamp_version: 1 },
      counts: { activated: 1, mismatches: 0 },
    });
    expect(second).toMatchObject({
      instance: first.instance,
      boot_id: first.boot_id,
      policies: [{ active: { revision: 2 } }],
    });
    expect(second.sequence).toBeGreaterThan(first.sequence);
  });

  test("a provider that lies is named in the report, by how often it did", async () => {
    const at = await scene();
    const reports = through(at.b, () => noted());
    const takeReports = at.b.fault!;
    // Slower than the one that lies, so that the liar is asked first.
    at.b.fault = (key, response, request) => {
      if (!key.startsWith("tuf/")) return takeReports(key, response, request);
      const bytes = at.b.objects.get(key);
      const answer = (): void =>
        void (bytes === undefined
          ? response.writeHead(404).end()
          : response.writeHead(200, { "content-type": "application/json" }).end(bytes));
      setTimeout(answer, 60);
      return true;
    };
    for (const key of at.a.objects.keys()) if (key.startsWith("policies/")) at.a.objects.set(key, new Uint8Array(9));
    await served(at, [], async () => {
      await expect.poll(() => reports.length, { timeout: 5_000 }).toBeGreaterThan(0);
    });
    expect(reports[0]).toMatchObject({
      policies: [{ active: { provider: "b" } }],
      counts: { mismatches: 1, failovers: 1 },
    });
    const mismatches = reports[0]!.providers.map((one) => [one.name, one.mismatches]);
    expect(Object.fromEntries(mismatches)).toEqual({ a: 1, b: 0 });
  });

  test("reports that hang or are refused hold up no fetch, and are told once", async () => {
    const at = await scene();
    through(at.a, () => null);
    through(at.b, () => [403, { code: "role_too_low" }]);
    const err = await served(at, [], async () => {
      await expect.poll(() => at.a.count("tuf/"), { timeout: 5_000 }).toBeGreaterThan(12);
    });
    expect(err).toContain("gateway/stable activated");
    expect(err.match(/reports are not taken/g) ?? []).toHaveLength(0);
    through(at.a, () => [404, {}]);
    const told = await served(at, [], () => realSleep(2_500));
    expect(told.match(/reports are not taken, fetching goes on/g)).toHaveLength(1);
    expect(told).toContain("answers 403 role_too_low");
  });

  test("--no-report tells nobody anything", async () => {
    const at = await scene();
    const reports = [through(at.a, () => noted()), through(at.b, () => noted())];
    await served(at, ["--no-report"], async () => {
      await expect.poll(() => at.a.count("tuf/"), { timeout: 5_000 }).toBeGreaterThan(8);
    });
    expect(reports).toEqual([[], []]);
  });

  test("a copy of another fetcher's folder takes an id of its own", async () => {
    const at = await scene();
    const seen: string[] = [];
    const answer: Answer = ({ instance }) => {
      seen.push(instance);
      return instance === seen[0] ? [409, { code: "edge_instance_taken" }] : noted();
    };
    const reports = [through(at.a, answer), through(at.b, answer)];
    await served(at, [], async () => {
      await expect.poll(() => seen.length, { timeout: 5_000 }).toBe(3);
    });
    expect(seen[0]).toBe(seen[1]);
    expect(seen[2]).not.toBe(seen[0]);
    expect(instanceOf(at)).toMatchObject({ instance: seen[2], boot: 1 });
    expect(reports.flat()).toHaveLength(3);
  });
});

describe("the flag edge_multicdn", () => {
  test("off, as the API itself says: the first provider alone is asked, also after a restart; on again, both", async () => {
    const at = await scene();
    let isOn = false;
    const api = await apiItself(() => noted(isOn));
    const asksBoth = async (): Promise<boolean> => {
      const before = at.b.count("tuf/");
      await realSleep(700);
      return at.b.count("tuf/") > before;
    };
    const err = await served(at, ["--api", api.url], async () => {
      await expect.poll(() => api.reports.length, { timeout: 5_000 }).toBe(1);
      await expect.poll(asksBoth, { timeout: 5_000 }).toBe(false);
    });
    expect(err).toContain("the flag edge_multicdn was switched: asks a\n");
    const asked = at.b.count("");
    expect(await maestro(at.host, "edge", "fetch", "gateway", ...at.trust)).toMatchObject({ code: 0 });
    isOn = true;
    await served(at, ["--api", api.url], async () => {
      await expect.poll(() => api.reports.length, { timeout: 5_000 }).toBe(2);
      expect(at.b.count("")).toBe(asked);
      await expect.poll(asksBoth, { timeout: 5_000 }).toBe(true);
    });
    expect(api.reports[1]).toMatchObject({ instance: api.reports[0]!.instance, boot: 2 });
    expect(api.reports[1]!.providers.map(({ name }) => name)).toEqual(["a"]);
  });

  test("off, as a CDN provider says: nothing changes, and no address of a provider passes for the API's", async () => {
    const at = await scene();
    const reports = [through(at.a, () => noted(false)), through(at.b, () => noted(false))];
    const err = await served(at, [], async () => {
      await expect.poll(() => reports.flat().length, { timeout: 5_000 }).toBeGreaterThan(0);
      const before = at.b.count("tuf/");
      await expect.poll(() => at.b.count("tuf/"), { timeout: 5_000 }).toBeGreaterThan(before + 4);
    });
    expect(err).not.toContain("edge_multicdn");
    expect(instanceOf(at)).toMatchObject({ one_provider_until: null });
    const refused = await maestro(at.host, "edge", "serve", "gateway", ...at.trust, "--api", at.a.baseUrl);
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.err).toContain("is a CDN provider, and not the API itself");
  });

  test("is forgotten an hour after the API last said so: all providers are asked then", async () => {
    const now = Date.parse("2026-04-13T16:00:00.000Z");
    const { home } = testHost();
    const identity = await readIdentity(home, now);
    await identity.heardFlag(false, now);
    const reread = await readIdentity(home, now + 1);
    expect(reread).toBeInstanceOf(InstanceIdentity);
    expect([reread.asksOneProvider(now + oneProviderMs - 1), reread.asksOneProvider(now + oneProviderMs)]).toEqual([
      true,
      false,
    ]);
    await reread.heardFlag(true, now + 2);
    expect((await readIdentity(home, now)).asksOneProvider(now + 3)).toBe(false);
  });
});

test("counts are of this process alone, time without news is counted beyond five seconds, hits are what Cache-Status says", () => {
  const start = Date.parse("2026-04-13T16:00:00.000Z");
  const caches = new CacheCounts();
  for (const status of ["maestro-edge-a; hit", "maestro-edge-a; fwd=miss", undefined]) caches.saw("a", status);
  const book = new ReportBook({ ...noCounts(), fetches: 7, refused: { late: 3 } }, caches);
  expect(book.report()).toBeNull();
  const wrong = refusal("wrong_digest", "it is not that");
  const seen = (now: number): Seen => ({
    refresh: {
      verdicts: new Map([[policyPath, { verdict: "refused", refusal: wrong, active: null }]]),
      objections: [{ provider: "a", refusal: wrong }],
      failedDeltas: [],
      from: null,
    },
    held: {
      active: {},
      trusted: { root: "", timestamp: null, snapshot: null, targets: null },
    } as unknown as Seen["held"],
    standings: [{ name: "a", breaker: "closed", latency_ms: 2.6, p95_ms: null }],
    counts: {
      ...noCounts(),
      fetches: 9,
      refused: { late: 3, wrong_digest: 2 },
      refreshed_at: new Date(start).toISOString(),
    },
    now,
  });
  book.saw(seen(start + 1_000));
  book.saw(seen(start + 7_000));
  book.saw(seen(start + 8_000));
  expect(book.report()).toMatchObject({
    policies: [
      {
        policy: "gateway",
        active: null,
        refusal: { code: "wrong_digest", provider: "a", since: new Date(start + 1_000).toISOString() },
      },
    ],
    providers: [{ name: "a", latency_ms: 3, cache_hits: 1, cache_misses: 1, mismatches: 3 }],
    counts: { fetches: 2, refusals: 2, stale_ms: 3_000 },
  });
});
