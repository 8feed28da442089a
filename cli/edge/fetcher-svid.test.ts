// A fetcher with SVIDs, renewed beneath it: what it sends when, what it says of its own identity, and what goes on when that has ended.

import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { edgeReport, type EdgeReport } from "../../shared/contract/http-edge.ts";
import { writeProviders } from "../../shared/edge/providers.ts";
import { edgeWorld, startProvider, tenant, type TestProvider } from "../../test/support/edge-world.ts";
import { jwtOf, newKeys, type KeyPair } from "../../test/support/svid.ts";
import { maestro, testFolder, testHost } from "../testing/host.ts";
import { FetcherSvid } from "./fetcher-svid.ts";
import { lapsedAskMs } from "./svid-watch.ts";

const id = "spiffe://td.example/fetcher/one";
let keys: KeyPair;

beforeAll(async () => {
  keys = await newKeys("P-256");
});

/** `at`: seconds since 1970. */
const tokenOf = (kid: string, aud: string, at: number, seconds = 300): Promise<string> =>
  jwtOf(keys, { alg: "ES256", kid }, { sub: id, aud: [aud], iat: at, exp: at + seconds });

/** Written whole by rename, as those who renew SVIDs do. */
function put(folder: string, audience: string, text: string): void {
  mkdirSync(folder, { recursive: true });
  const part = join(folder, `.part-${audience}`);
  writeFileSync(part, `${text}\n`, { mode: 0o600 });
  renameSync(part, join(folder, `jwt-${audience}.txt`));
}

async function renew(
  folder: string,
  kid: string,
  nowMs: number,
  seconds = 300,
): Promise<readonly [edge: string, api: string]> {
  const at = Math.floor(nowMs / 1_000);
  const edge = await tokenOf(kid, "maestro-edge", at, seconds);
  const api = await tokenOf(kid, "maestro-api", at, seconds);
  put(folder, "maestro-api", api);
  put(folder, "maestro-edge", edge);
  return [edge, api];
}

describe("a folder of SVIDs", () => {
  test("is read again as soon as it has another file, and says when it was rotated and when it ends", async () => {
    const folder = testFolder();
    const now = 1_800_000_000_000;
    let rotations = 0;
    const svid = new FetcherSvid(folder, () => (rotations += 1));
    expect([svid.bearer("maestro-edge"), svid.reported(), svid.health(now).state]).toEqual([null, null, "absent"]);
    const [first] = await renew(folder, "k1", now);
    expect(svid.bearer("maestro-edge")).toBe(first);
    const [second, api] = await renew(folder, "k2", now + 1_000);
    expect([svid.bearer("maestro-edge"), svid.bearer("maestro-api"), rotations]).toEqual([second, api, 1]);
    expect(svid.health(now + 1_000)).toEqual({
      state: "good",
      svid: {
        spiffe_id: id,
        authority: "k2",
        issued_at: new Date(now + 1_000).toISOString(),
        expires_at: new Date(now + 301_000).toISOString(),
      },
      ends_in_ms: 300_000,
      trouble: null,
    });
  });

  test("alarms at one third of its life, and has expired at its end", async () => {
    const folder = testFolder();
    const now = 1_800_000_000_000;
    const svid = new FetcherSvid(folder);
    await renew(folder, "k1", now);
    const states = [0, 199_999, 200_000, 299_999, 300_000, 400_000].map((ms) => svid.health(now + ms).state);
    expect(states).toEqual(["good", "good", "alarm", "alarm", "expired", "expired"]);
  });

  test("that is broken or gone leaves the last one, and says why", async () => {
    const folder = testFolder();
    const now = 1_800_000_000_000;
    const svid = new FetcherSvid(folder);
    const [first] = await renew(folder, "k1", now);
    expect(svid.bearer("maestro-edge")).toBe(first);
    for (const text of [
      "",
      "not a token",
      "a.b.c",
      await jwtOf(keys, { alg: "ES256" }, { sub: id, exp: 1 }),
      "x".repeat(20_000),
    ]) {
      put(folder, "maestro-edge", text);
      expect(svid.bearer("maestro-edge")).toBe(first);
      expect(svid.health(now).trouble).toContain("holds no JWT-SVID");
    }
    rmSync(join(folder, "jwt-maestro-edge.txt"));
    expect(svid.bearer("maestro-edge")).toBe(first);
    expect(svid.health(now)).toMatchObject({ state: "good", trouble: expect.stringContaining("there is no") });
  });

  test("reports the authority of the older of its tokens: until both are new, the old one is in use", async () => {
    const folder = testFolder();
    const now = 1_800_000_000_000;
    const svid = new FetcherSvid(folder);
    await renew(folder, "k1", now);
    put(folder, "maestro-edge", await tokenOf("k2", "maestro-edge", now / 1_000 + 1));
    expect(svid.reported()?.authority).toBe("k1");
    put(folder, "maestro-api", await tokenOf("k2", "maestro-api", now / 1_000 + 1));
    expect(svid.reported()?.authority).toBe("k2");
  });
});

const realSleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new Error("interrupted"));
    });
  });

/** Two providers that take the tokens in `taken` alone, and a host whose clock the test moves. */
async function scene() {
  const world = await edgeWorld();
  const { sha256 } = await world.publish();
  const taken = new Set<string>();
  const reports: EdgeReport[] = [];
  const reportedBy: (string | undefined)[] = [];
  const providers: TestProvider[] = [await startProvider("a", world.copy()), await startProvider("b", world.copy())];
  for (const provider of providers)
    provider.fault = (key, response, request) => {
      const bearer = request.headers.authorization?.replace("Bearer ", "") ?? "";
      if (key === "api/edge/reports") {
        reportedBy.push(request.headers.authorization);
        const pieces: Buffer[] = [];
        request.on("data", (piece: Buffer) => pieces.push(piece));
        request.on("end", () => {
          reports.push(edgeReport.parse(JSON.parse(Buffer.concat(pieces).toString())));
          response
            .writeHead(200, { "content-type": "application/json" })
            .end(JSON.stringify({ outcome: "noted", multicdn: true, next_report_ms: 10_000 }));
        });
        return true;
      }
      const bytes = provider.objects.get(key);
      const type = key.startsWith("policies/") ? "application/gzip" : "application/json";
      if (!taken.has(bearer)) response.writeHead(401).end();
      else if (bytes === undefined) response.writeHead(404).end();
      else response.writeHead(200, { "content-type": type, "content-length": bytes.length }).end(bytes);
      return true;
    };
  const clock = { aheadMs: 0 };
  const base = testHost();
  const host = { ...base, sleep: realSleep, now: () => Date.now() + clock.aheadMs };
  const folder = join(host.home, "svid");
  writeFileSync(join(host.home, "1.root.json"), world.pin);
  writeFileSync(
    join(host.home, "edge.json"),
    writeProviders(providers.map(({ name, baseUrl }) => ({ name, baseUrl }))),
  );
  const argv = ["--tenant", tenant, "--root", "1.root.json", "--providers", "edge.json"];
  const trust = [...argv, "--publisher", world.publisherKey, "--svid", "svid"];
  return { world, sha256, taken, reports, reportedBy, providers, clock, host, folder, trust };
}

interface Healthz {
  readonly state: string;
  readonly identity: { readonly state: string; readonly svid: { readonly authority: string } | null };
}

async function serving(at: Awaited<ReturnType<typeof scene>>) {
  const running = maestro(at.host, "edge", "serve", "gateway", ...at.trust, "--listen", "127.0.0.1:0", "--json");
  onTestFinished(async () => {
    at.host.interrupt();
    expect((await running).code).toBe(0);
  });
  while (!at.host.out().includes('"url"')) await realSleep(10);
  const { url, bundles } = JSON.parse(at.host.out()) as { url: string; bundles: [string] };
  return {
    async health(): Promise<Healthz & { readonly status: number }> {
      const response = await fetch(`${url}/healthz`);
      return { status: response.status, ...((await response.json()) as Healthz) };
    },
    bundle: async () => (await fetch(bundles[0])).headers.get("etag"),
    url,
  };
}

const asked = (providers: readonly TestProvider[]): number =>
  providers.reduce((sum, one) => sum + one.asked.filter((key) => key !== "api/edge/reports").length, 0);

describe("maestro edge serve", () => {
  test(
    "takes a renewed SVID on the next request, fails nothing over it, and reports whose it is now",
    { timeout: 30_000 },
    async () => {
      const at = await scene();
      const [first, api] = await renew(at.folder, "k1", at.host.now());
      at.taken.add(first);
      const server = await serving(at);
      await expect.poll(async () => (await server.health()).state, { timeout: 8_000 }).toBe("well");
      await expect.poll(() => at.reports.at(-1)?.svid?.authority, { timeout: 8_000 }).toBe("k1");
      expect(at.reportedBy.at(-1)).toBe(`Bearer ${api}`);
      expect(at.reports.at(-1)?.svid).toMatchObject({ spiffe_id: id });
      const next = await tokenOf("k2", "maestro-edge", Math.floor(at.host.now() / 1_000));
      at.taken.add(next);
      put(at.folder, "maestro-api", await tokenOf("k2", "maestro-api", Math.floor(at.host.now() / 1_000)));
      put(at.folder, "maestro-edge", next);
      await expect.poll(async () => (await server.health()).identity.svid?.authority, { timeout: 8_000 }).toBe("k2");
      // What is under way with the old one has ended by then.
      await realSleep(500);
      at.taken.delete(first);
      await realSleep(1_000);
      expect((await server.health()).state).toBe("well");
      await expect.poll(() => at.reports.at(-1)?.svid?.authority, { timeout: 8_000 }).toBe("k2");
      expect(at.host.err()).not.toContain("denied");
      const status = await maestro(at.host, "edge", "status", "--tenant", tenant, "--json");
      expect(status.code).toBe(0);
      expect(at.host.out()).toContain('"authority":"k2"');
      expect(`${at.host.out()}${at.host.err()}`).not.toContain(first.slice(-40));
    },
  );

  test(
    "serves the last good one on when its SVID has expired, says so, asks no more than it must, and recovers by itself",
    { timeout: 40_000 },
    async () => {
      const at = await scene();
      const [first] = await renew(at.folder, "k1", at.host.now());
      at.taken.add(first);
      const server = await serving(at);
      await expect.poll(server.bundle, { timeout: 8_000 }).toBe(`"${at.sha256}"`);
      at.clock.aheadMs += 201_000;
      await expect.poll(async () => (await server.health()).state, { timeout: 8_000 }).toBe("alarm");
      at.clock.aheadMs += 100_000;
      at.taken.clear();
      await expect.poll(async () => (await server.health()).state, { timeout: 8_000 }).toBe("failing");
      expect(await server.health()).toMatchObject({ status: 503, identity: { state: "expired" } });
      await realSleep(500);
      const before = asked(at.providers);
      await realSleep(3_000);
      // One more round of questions at most, where the ten seconds ended just now; without an end it would be dozens.
      expect(asked(at.providers) - before).toBeLessThanOrEqual(6);
      expect(await server.bundle()).toBe(`"${at.sha256}"`);
      expect(at.host.err()).toContain("What is held is served on");
      at.clock.aheadMs += lapsedAskMs * 360;
      const [fresh] = await renew(at.folder, "k2", at.host.now());
      at.taken.add(fresh);
      await expect.poll(async () => (await server.health()).state, { timeout: 8_000 }).toBe("well");
      await at.world.publish({ allowed: "bob" });
      for (const provider of at.providers) provider.objects = at.world.copy();
      await expect.poll(server.bundle, { timeout: 8_000 }).not.toBe(`"${at.sha256}"`);
      await realSleep(5_500);
      const status = await maestro(at.host, "edge", "status", "--tenant", tenant);
      expect(status.out).toContain("1, 1");
      expect(status.out).toContain(id);
    },
  );

  test(
    "waits for an SVID that is not there yet, and a single fetch says what it needs",
    { timeout: 30_000 },
    async () => {
      const at = await scene();
      const fetched = await maestro(at.host, "edge", "fetch", "gateway", ...at.trust);
      expect([fetched.code, fetched.err]).toEqual([3, expect.stringContaining("jwt-maestro-edge.txt")]);
      const other = { ...at, host: { ...testHost({ home: at.host.home }), sleep: realSleep } };
      const server = await serving({ ...other, host: other.host });
      await expect.poll(async () => (await server.health()).identity.state, { timeout: 8_000 }).toBe("absent");
      const [first] = await renew(at.folder, "k1", Date.now());
      at.taken.add(first);
      await expect.poll(async () => (await server.health()).state, { timeout: 8_000 }).toBe("well");
    },
  );
});
