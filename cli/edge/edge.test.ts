// `maestro edge` as a person and an OPA see it: fetched once, served on this machine, shown, cleared. MC-EDGE-1931: a fetcher
// fails over between two CDN providers. MC-EDGE-1932: what does not have the pinned digest is never activated.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { writeProviders } from "../../shared/edge/providers.ts";
import {
  edgeWorld,
  fetcherSecret,
  startProvider,
  tenant,
  type EdgeWorld,
  type TestProvider,
} from "../../test/support/edge-world.ts";
import { maestro, testHost, type TestHost } from "../testing/host.ts";
import { bundleContentType } from "./opa-server.ts";

interface Scene {
  readonly world: EdgeWorld;
  readonly a: TestProvider;
  readonly b: TestProvider;
  readonly host: TestHost;
  /** What every command that fetches is told. */
  readonly trust: readonly string[];
  readonly bundle: Uint8Array;
}

async function scene(): Promise<Scene> {
  const world = await edgeWorld();
  const { bundle } = await world.publish();
  const a = await startProvider("a", world.copy());
  const b = await startProvider("b", world.copy());
  const host = { ...testHost({ env: { MAESTRO_FETCHER_KEY: fetcherSecret } }), sleep: realSleep };
  writeFileSync(join(host.home, "1.root.json"), world.pin);
  const providers = [a, b].map(({ name, baseUrl }) => ({ name, baseUrl }));
  writeFileSync(join(host.home, "edge.json"), writeProviders(providers));
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
  return { world, a, b, host, trust, bundle };
}

const realSleep = (ms: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new Error("interrupted"));
    });
  });

/** `maestro edge serve` until the work is done. Answers what it wrote on stderr. */
async function served(at: Scene, work: (url: string) => Promise<void>): Promise<string> {
  const { host } = at;
  const running = maestro(host, "edge", "serve", "gateway", ...at.trust, "--listen", "127.0.0.1:0", "--json");
  try {
    while (!host.out().includes('"url"')) await realSleep(10);
    await work((JSON.parse(host.out()) as { bundles: [string] }).bundles[0]);
  } finally {
    host.interrupt();
  }
  const { code, err } = await running;
  expect(code).toBe(0);
  return err;
}

async function until(url: string, wanted: (response: Response) => boolean): Promise<Response> {
  for (let tries = 0; tries < 400; tries += 1) {
    const response = await fetch(url);
    if (wanted(response)) return response;
    await response.arrayBuffer();
    await realSleep(25);
  }
  throw new Error("it never came");
}

describe("maestro edge fetch", () => {
  test("activates, tells from where, and is current the next time", async () => {
    const at = await scene();
    const first = await maestro(at.host, "edge", "fetch", "gateway", ...at.trust, "--json");
    expect(first).toMatchObject({ code: 0 });
    expect(first.json()).toMatchObject({
      policies: [{ policy: "gateway", channel: "stable", verdict: "activated", revision: 1, version: "r1", why: null }],
    });
    const again = await maestro(at.host, "edge", "fetch", "gateway/stable", ...at.trust);
    expect(again.out).toContain("current");
    expect(`${again.out}${again.err}`).not.toContain(fetcherSecret);
  });

  test("MC-EDGE-1931: either provider alone is enough", async () => {
    for (const dead of ["a", "b"] as const) {
      const at = await scene();
      await at[dead].stop();
      const fetched = await maestro(at.host, "edge", "fetch", "gateway", ...at.trust, "--json");
      expect(fetched).toMatchObject({ code: 0 });
      expect(fetched.json()).toMatchObject({ policies: [{ verdict: "activated", from: dead === "a" ? "b" : "a" }] });
      expect(fetched.err).toContain(`${dead}: unreachable`);
    }
  });

  test("MC-EDGE-1932: other bytes than the pinned digest fail closed, with code 7 and the reason", async () => {
    const at = await scene();
    for (const provider of [at.a, at.b])
      for (const key of provider.objects.keys())
        if (key.startsWith("policies/")) provider.objects.set(key, new Uint8Array(at.bundle.length));
    const fetched = await maestro(at.host, "edge", "fetch", "gateway", ...at.trust, "--json");
    expect(fetched).toMatchObject({ code: 7 });
    expect(fetched.json()).toMatchObject({ policies: [{ verdict: "refused", code: "wrong_digest", sha256: null }] });
    expect(fetched.err).toContain("is not what the metadata names");
    expect(await maestro(at.host, "edge", "status", "--tenant", tenant)).toMatchObject({ code: 0 });
    expect((await maestro(at.host, "edge", "status", "--tenant", tenant)).out).toContain("wrong_digest 2");
    const cleared = await maestro(at.host, "edge", "clear", "--tenant", tenant, "--json");
    expect(cleared.json()).toEqual({ cleared: 2 });
  });

  test("no provider is code 6, no such policy is 4, a key that is not taken is 3", async () => {
    const at = await scene();
    expect(await maestro(at.host, "edge", "fetch", "other", ...at.trust)).toMatchObject({ code: 4 });
    at.host.env["MAESTRO_FETCHER_KEY"] = "mk_other";
    expect(await maestro(at.host, "edge", "fetch", "gateway", ...at.trust)).toMatchObject({ code: 3 });
    await at.a.stop();
    await at.b.stop();
    expect(await maestro(at.host, "edge", "fetch", "gateway", ...at.trust)).toMatchObject({ code: 6 });
  });

  test("the key comes from a file or the environment; without one it says how to get one", async () => {
    const at = await scene();
    delete at.host.env["MAESTRO_FETCHER_KEY"];
    const without = await maestro(at.host, "edge", "fetch", "gateway", ...at.trust);
    expect(without).toMatchObject({ code: 2 });
    expect(without.err).toContain("maestro keys create --role fetcher");
    writeFileSync(join(at.host.home, "fetcher.key"), `${fetcherSecret}\n`);
    const fetched = await maestro(at.host, "edge", "fetch", "gateway", ...at.trust, "--key-file", "fetcher.key");
    expect(fetched).toMatchObject({ code: 0 });
  });

  test.each([
    [["../x"], "a policy's name is"],
    [["a/b/c"], "is not NAME or NAME/CHANNEL"],
    [["gateway/other"], "A channel is one of"],
    [["Gateway"], "gateway"],
  ])("%j is no policy's name", async (policies, words) => {
    const at = await scene();
    const fetched = await maestro(at.host, "edge", "fetch", ...policies, ...at.trust);
    expect(fetched.code).toBe(2);
    expect(fetched.err.toLowerCase()).toContain(words.toLowerCase());
  });
});

describe("maestro edge serve", () => {
  test("serves OPA's bundle API: snapshots, ETag, 304, and exactly OPA's content type", async () => {
    const at = await scene();
    await served(at, async (url) => {
      const response = await until(url, ({ status }) => status === 200);
      expect(response.headers.get("content-type")).toBe(bundleContentType);
      expect(new Uint8Array(await response.arrayBuffer())).toEqual(new Uint8Array(at.bundle));
      const etag = response.headers.get("etag")!;
      const same = await fetch(url, { headers: { "if-none-match": etag } });
      expect(same.status).toBe(304);
      expect(same.headers.get("content-type")).toBe(bundleContentType);
      expect(same.headers.get("etag")).toBe(etag);
      expect((await fetch(url.replace("gateway", "other"))).status).toBe(404);
      expect((await fetch(url, { method: "POST" })).status).toBe(405);
    });
  });

  test("who waits by Prefer gets the new revision when it is active, and 304 when the time is over", async () => {
    const at = await scene();
    const log = await served(at, async (url) => {
      const first = await until(url, ({ status }) => status === 200);
      await first.arrayBuffer();
      const headers = { "if-none-match": first.headers.get("etag")!, prefer: "modes=snapshot,delta;wait=1" };
      const startedAt = Date.now();
      expect((await fetch(url, { headers })).status).toBe(304);
      expect(Date.now() - startedAt).toBeGreaterThan(900);
      const waiting = fetch(url, { headers: { ...headers, prefer: "modes=snapshot,delta;wait=30" } });
      const next = await at.world.publish({ allowed: "bob" });
      at.b.objects = at.world.copy();
      const response = await waiting;
      expect(response.status).toBe(200);
      expect(new Uint8Array(await response.arrayBuffer())).toEqual(new Uint8Array(next.bundle));
    });
    expect(log).toContain('"revision":2');
  });

  test("OPA does not notice that a provider dies, nor that both do", async () => {
    const at = await scene();
    await served(at, async (url) => {
      await (await until(url, ({ status }) => status === 200)).arrayBuffer();
      await at.a.stop();
      const next = await at.world.publish({ allowed: "bob" });
      at.b.objects = at.world.copy();
      const wanted = `"${next.sha256}"`;
      await (await until(url, ({ headers }) => headers.get("etag") === wanted)).arrayBuffer();
      await at.b.stop();
      await realSleep(600);
      expect((await fetch(url)).status).toBe(200);
    });
  });

  test("once its metadata has expired, nothing is served, and the answer says why", async () => {
    const at = await scene();
    let offset = 0;
    const host: TestHost = { ...at.host, now: () => Date.now() + offset };
    await served({ ...at, host }, async (url) => {
      await (await until(url, ({ status }) => status === 200)).arrayBuffer();
      offset = 25 * 3_600_000;
      const refused = await until(url, ({ status }) => status === 503);
      expect(refused.headers.get("content-type")).toBe("application/problem+json");
      expect(await refused.text()).toContain("expired");
    });
  });

  test("it listens on this machine alone", async () => {
    const at = await scene();
    const ended = await maestro(at.host, "edge", "serve", "gateway", ...at.trust, "--listen", "0.0.0.0:8383");
    expect(ended.code).toBe(2);
    expect(ended.err).toContain("this machine alone");
  });
});

test("maestro edge status shows what is held, how old it is, from where, and the counters", async () => {
  const at = await scene();
  expect(await maestro(at.host, "edge", "status", "--tenant", tenant)).toMatchObject({ code: 4 });
  await maestro(at.host, "edge", "fetch", "gateway", ...at.trust);
  const status = await maestro(at.host, "edge", "status", "--tenant", tenant, "--json");
  expect(status.json()).toMatchObject({
    tenant,
    policies: [{ policy: "gateway", channel: "stable", revision: 1, is_expired: false, age_ms: expect.any(Number) }],
    quarantine: [],
    counts: { refreshes: 1, activated: 1, fetches: 2, refreshed_from: expect.stringMatching(/^[ab]$/) },
    refreshed_ms_ago: expect.any(Number),
  });
  expect((await maestro(at.host, "edge", "status", "--tenant", tenant)).out).toContain("gateway");
});

test("the page's commands run as they stand", async () => {
  const at = await scene();
  const providers = [at.a, at.b].map(({ name, baseUrl }) => ({ name, baseUrl }));
  writeFileSync(join(at.host.home, "edge.multicdn.json"), writeProviders(providers));
  writeFileSync(join(at.host.home, "fetcher.key"), fetcherSecret);
  const page = readFileSync(new URL("../../docs/edge/FETCHING.md", import.meta.url), "utf8");
  const lines = [...page.matchAll(/^\$ maestro (.+)$/gm)].map(([, line]) => line!);
  expect(lines).toHaveLength(4);
  for (const line of lines) {
    const words = line.split(" ").map((word) => (word === "$PUBLISHER" ? at.world.publisherKey : word));
    expect(await maestro(at.host, ...words), line).toMatchObject({ code: 0 });
  }
});
