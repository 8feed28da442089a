// The edge's app over stores that do what no real store may: the whole of it, on Node.

import { beforeEach, expect, test, vi } from "vitest";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import { apiKeyDigest } from "../../shared/tenancy/api-key.ts";
import { createEdge, fetcherLimits, objectLimits, type Edge, type EdgeParts } from "./app.ts";
import type { EdgeStore } from "./cache.ts";
import { fetcherMsMax } from "./fetcher-keys.ts";

const key = `mk_${"a".repeat(32)}`;
const digest = await sha256Hex(utf8("bundle"));
const path = `/policies/acme/${digest}.tar.gz`;
let objects: Map<string, Uint8Array>;
let now: number;
let logged: unknown[];

const streamOf = (bytes: Uint8Array): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start(controller) {
      controller.enqueue(bytes);
      controller.close();
    },
  });

const mapStore: EdgeStore = {
  async get(name) {
    const bytes = objects.get(name);
    return bytes === undefined ? null : { size: bytes.length, body: streamOf(bytes) };
  },
};

function edgeOver(store: EdgeStore, more: Partial<EdgeParts> = {}): Edge {
  return createEdge({
    provider: "a",
    store,
    api: { fetch: () => Promise.reject(new Error("no API here")), origin: null, secret: "" },
    metricsKey: "",
    tlsClientAuth: () => undefined,
    keepAlive: () => {},
    clock: () => now,
    random: (byteCount) => new Uint8Array(byteCount),
    log: (level, message, fields) => void logged.push({ level, message, ...fields }),
    ...more,
  });
}

const ask = (edge: Edge, at = path, headers: Record<string, string> = {}): Promise<Response> =>
  edge.fetch(new Request(`https://edge.test${at}`, { headers: { authorization: `Bearer ${key}`, ...headers } }));
const codeOf = async (response: Response): Promise<string> => (await response.json<{ code: string }>()).code;

beforeEach(async () => {
  now = Date.parse("2026-11-26T06:00:00Z");
  logged = [];
  const fetcher = { fetcher_id: "pri_x", tenant: "acme", expires_at: "2026-11-26T06:00:10.000Z" };
  objects = new Map([
    [`fetchers/${await apiKeyDigest(key)}.json`, utf8(JSON.stringify(fetcher))],
    [path.slice(1), utf8("bundle")],
  ]);
});

test("a key works until the moment of its expiry, also while it is remembered", async () => {
  const edge = edgeOver(mapStore);
  now += 9_999;
  expect((await ask(edge)).status).toBe(200);
  now += 1;
  expect((await ask(edge)).status).toBe(401);
});

test("a key whose file is gone is refused once it is remembered no more", async () => {
  const edge = edgeOver(mapStore);
  expect((await ask(edge)).status).toBe(200);
  objects.delete(`fetchers/${await apiKeyDigest(key)}.json`);
  now += fetcherMsMax - 1;
  expect((await ask(edge)).status).toBe(200);
  now += 1;
  expect((await ask(edge)).status).toBe(401);
});

test("whoever comes without a usable key is told what opens this door, and not how people log in", async () => {
  const edge = edgeOver(mapStore, { metricsKey: "operator" });
  const told = async (at: string): Promise<{ code: string; action: string }> =>
    await (await edge.fetch(new Request(`https://edge.test${at}`))).json();
  const fetcher = await told(path);
  expect(fetcher).toMatchObject({ code: "fetcher_key_needed", action: expect.stringContaining("--role fetcher") });
  const operator = await told("/metrics");
  expect(operator).toMatchObject({ code: "operator_key_needed", action: expect.stringContaining("EDGE_METRICS_KEY") });
  expect(`${fetcher.action} ${operator.action}`).not.toContain("maestro login");
});

test(
  "a store that never answers is a 503 after a bounded time, and nothing waits for longer",
  { timeout: 10_000 },
  async () => {
    const edge = edgeOver({ get: () => new Promise(() => {}) });
    const started = performance.now();
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(edge)));
    for (const answer of answers) {
      expect([answer.status, answer.headers.get("retry-after"), await codeOf(answer)]).toEqual([
        503,
        "1",
        "store_unavailable",
      ]);
    }
    expect(performance.now() - started).toBeLessThan(4_000);
  },
);

test("what another tenant has is, to a fetcher, what nobody has", async () => {
  const edge = edgeOver(mapStore);
  const absent = `/policies/other/${"0".repeat(64)}.tar.gz`;
  const { request_id: _, ...nothing } = await (await ask(edge, absent)).json<Record<string, unknown>>();
  for (const theirs of [
    path.replace("acme", "other"),
    "/tuf/other/timestamp.json",
    "/opa/other/gateway/stable/bundle.tar.gz",
  ]) {
    objects.set(theirs.slice(1), utf8("bundle"));
    const answer = await ask(edge, theirs);
    const { request_id: __, ...said } = await answer.json<Record<string, unknown>>();
    expect([theirs, answer.status, said]).toEqual([theirs, 404, nothing]);
  }
});

test("a channel is served until the moment that its timestamp expires", async () => {
  const edge = edgeOver(mapStore);
  const file = (signed: object) => utf8(JSON.stringify({ signed }));
  const meta = (name: string) => ({ [name]: { version: 1 } });
  const expires = "2026-11-26T06:00:05Z";
  objects.set("tuf/acme/timestamp.json", file({ _type: "timestamp", expires, meta: meta("snapshot.json") }));
  objects.set("tuf/acme/1.snapshot.json", file({ _type: "snapshot", version: 1, meta: meta("targets.json") }));
  const targets = { "gateway/stable/bundle.tar.gz": { hashes: { sha256: digest } } };
  objects.set("tuf/acme/1.targets.json", file({ _type: "targets", version: 1, targets }));
  const channel = "/opa/acme/gateway/stable/bundle.tar.gz";
  now += 4_999;
  expect((await ask(edge, channel)).status).toBe(200);
  now += 1;
  const ended = await ask(edge, channel);
  expect([ended.status, await codeOf(ended)]).toEqual([503, "metadata_expired"]);
});

test("a flood of made-up keys fails no fetcher that is known, whatever the store takes", async () => {
  let answer = (): void => {};
  const slow = new Promise<void>((resolve) => (answer = resolve));
  let reads = 0;
  const known = `fetchers/${await apiKeyDigest(key)}.json`;
  const edge = edgeOver({
    async get(name, signal) {
      if (name.startsWith("fetchers/") && name !== known) {
        reads += 1;
        await slow;
      }
      return mapStore.get(name, signal);
    },
  });
  expect((await ask(edge)).status).toBe(200);
  now += fetcherMsMax;
  const statuses: number[] = [];
  const flood = Array.from({ length: 300 }, async (_, index) => {
    const madeUp = `mk_${index.toString(2).padStart(32, "0").replaceAll("0", "b").replaceAll("1", "c")}`;
    const { status } = await ask(edge, path, { authorization: `Bearer ${madeUp}` });
    statuses.push(status);
  });
  const refused = 300 - fetcherLimits.doubtfulReadsMax;
  await vi.waitUntil(() => statuses.length === refused);
  expect((await ask(edge)).status).toBe(200);
  answer();
  await Promise.all(flood);
  expect(statuses.slice(0, refused)).toEqual(Array(refused).fill(503));
  expect(statuses.slice(refused)).toEqual(Array(fetcherLimits.doubtfulReadsMax).fill(401));
  expect(reads).toBe(fetcherLimits.doubtfulReadsMax);
});

test("an object beyond the bound is refused before it is read", async () => {
  let cancelled = false;
  const edge = edgeOver({
    async get(name, signal) {
      if (name.startsWith("fetchers/")) return mapStore.get(name, signal);
      const body = new ReadableStream<Uint8Array>(
        {
          pull: () => {
            throw new Error("it was read");
          },
          cancel: () => {
            cancelled = true;
          },
        },
        { highWaterMark: 0 },
      );
      return { size: objectLimits.objectBytesMax + 1, body };
    },
  });
  const answer = await ask(edge);
  expect([answer.status, await codeOf(answer), cancelled]).toEqual([502, "store_corrupt", true]);
});

test("what a store throws is told to nobody but by its name", async () => {
  const edge = edgeOver({ get: () => Promise.reject(new TypeError(`secret ${key}`)) });
  const answer = await ask(edge);
  expect(answer.status).toBe(503);
  expect(`${await answer.text()}${JSON.stringify(logged)}`).not.toContain("secret");
  expect(logged).toMatchObject([{ level: "warn", error: "TypeError", outcome: "failed" }]);
});

test("an API that is away, and a bug, are answers without a word of what happened", async () => {
  const away = await ask(edgeOver(mapStore), "/api/whoami");
  expect([away.status, await codeOf(away)]).toEqual([502, "api_unreachable"]);
  const broken = edgeOver(mapStore, {
    keepAlive: () => {
      throw new RangeError("a secret of ours");
    },
  });
  const answer = await ask(broken);
  expect(answer.status).toBe(500);
  expect(`${await answer.text()}${JSON.stringify(logged)}`).not.toContain("secret of ours");
});

test("requests that say that they were here before are refused each, and have one line in a minute", async () => {
  const edge = edgeOver(mapStore);
  const looped = async (): Promise<string> => codeOf(await ask(edge, "/api/whoami", { "cdn-loop": "maestro-edge" }));
  for (let count = 0; count < 50; count += 1) expect(await looped()).toBe("forwarding_loop");
  expect(logged).toEqual([{ level: "error", message: "a request came back to the edge", provider: "a" }]);
  now += 60_000;
  await looped();
  expect(logged).toHaveLength(2);
});

test("what whoever may send is no line in the log: a method that nobody takes, a host that is none", async () => {
  logged.length = 0;
  const edge = edgeOver(mapStore);
  const plain = new Request("https://edge.test/api/whoami");
  const as = (given: Partial<Pick<Request, "method" | "url">>): Request =>
    new Proxy(plain, {
      get: (target, name) =>
        name in given ? given[name as keyof typeof given] : (Reflect.get(target, name, target) as unknown),
    });
  const trace = await edge.fetch(as({ method: "TRACE" }));
  expect([trace.status, trace.headers.get("allow")]).toEqual([405, "GET, HEAD, OPTIONS, POST, PUT, DELETE"]);
  const host = await edge.fetch(as({ url: "https://a b/api/whoami" }));
  expect([host.status, await codeOf(host)]).toEqual([400, "invalid_request"]);
  expect(logged).toEqual([]);
});

test("without an operator's key there are no metrics, and other paths are nothing", async () => {
  for (const at of ["/metrics", "/", "/fetchers/x.json", "/apis", "/tuf"]) {
    expect((await ask(edgeOver(mapStore), at)).status).toBe(404);
  }
});
