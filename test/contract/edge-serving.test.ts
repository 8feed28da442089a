// Both providers' edges over their own stores: one suite, run against workerd and against Deno.

import { randomBytes } from "node:crypto";
import { request as httpRequest, type IncomingHttpHeaders } from "node:http";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { bundleOf, filesOf, mintFetcher, publish, sha256Of, type Bundle } from "../support/edge-fixture.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();

describe.each(["a", "b"] as const)("provider %s", (provider) => {
  const edgeUrl = stack.edge[provider];
  const store = stack.edgeStores[provider];
  const tenant = "edge-serving";
  const other = "edge-serving-other";
  const immutable = "private, max-age=31536000, immutable, no-transform";
  let key: string;
  let otherKey: string;
  let stable: Bundle;
  let canary: Bundle;

  beforeAll(async () => {
    stable = bundleOf(3_000);
    canary = bundleOf(3_000);
    await publish(store, tenant, { version: 1, channels: { "gateway/stable": stable, "gateway/canary": canary } });
    await store.put(
      `tuf/${tenant}/1.root.json`,
      Buffer.from(`{"signed":{"_type":"root","version":1},"signatures":[]}`),
    );
    ({ key } = await mintFetcher(store, tenant));
    ({ key: otherKey } = await mintFetcher(store, other));
  });

  const get = (path: string, headers: Record<string, string> = {}, method = "GET"): Promise<Response> =>
    fetch(`${edgeUrl}${path}`, { method, headers: { authorization: `Bearer ${key}`, ...headers } });
  const bytesOf = async (response: Response): Promise<Buffer> => Buffer.from(await response.arrayBuffer());

  /** A request whose path goes out as it is written. */
  const raw = (
    method: string,
    path: string,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; headers: IncomingHttpHeaders; text: string }> =>
    new Promise((resolve, reject) => {
      const { hostname, port } = new URL(edgeUrl);
      const sent = httpRequest(
        { hostname, port, method, path, headers: { authorization: `Bearer ${key}`, ...headers } },
        (response) => {
          let text = "";
          response.setEncoding("latin1");
          response.on("data", (chunk: string) => (text += chunk));
          response.once("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
          response.once("error", reject);
        },
      );
      sent.once("error", reject).end();
    });

  /** A counter of this instance, summed over the lines that have all of these labels. */
  async function count(name: string, ...labels: string[]): Promise<number> {
    const response = await fetch(`${edgeUrl}/metrics`, {
      headers: { authorization: `Bearer ${stack.edge.metricsKey}` },
    });
    const lines = (await response.text()).split("\n");
    return lines
      .filter((line) => line.startsWith(`${name}{`) && labels.every((label) => line.includes(label)))
      .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
  }
  const storeReads = (kind: "object" | "fetcher", outcome: string): Promise<number> =>
    count("mc_edge_store_reads_total", `kind="${kind}"`, `outcome="${outcome}"`);

  test("a content address answers its bytes with their digest, for good", async () => {
    const path = `/policies/${tenant}/${stable.digest}.tar.gz`;
    const first = await get(path);
    expect(first.status).toBe(200);
    expect(Object.fromEntries(first.headers)).toMatchObject({
      "content-type": "application/gzip",
      "content-length": String(stable.bytes.length),
      etag: `"${stable.digest}"`,
      "repr-digest": `sha-256=:${Buffer.from(stable.digest, "hex").toString("base64")}:`,
      "cache-control": immutable,
      "cache-status": `maestro-edge-${provider}; fwd=miss; stored`,
      "accept-ranges": "bytes",
      vary: "Authorization",
      "x-content-type-options": "nosniff",
    });
    expect((await bytesOf(first)).equals(stable.bytes)).toBe(true);
    const again = await get(path);
    expect(again.headers.get("cache-status")).toBe(`maestro-edge-${provider}; hit`);
    expect((await bytesOf(again)).equals(stable.bytes)).toBe(true);
  });

  test("a large object comes whole and with its length, though it is sent in pieces; so does a range of it", async () => {
    const bytes = randomBytes(700_001);
    const path = `policies/${tenant}/${sha256Of(bytes)}.tar.gz`;
    await store.put(path, bytes);
    const whole = await get(`/${path}`);
    expect([whole.status, whole.headers.get("content-length")]).toEqual([200, "700001"]);
    expect((await bytesOf(whole)).equals(bytes)).toBe(true);
    const part = await get(`/${path}`, { range: "bytes=1-600000" });
    expect([part.status, part.headers.get("content-length")]).toEqual([206, "600000"]);
    expect((await bytesOf(part)).equals(bytes.subarray(1, 600_001))).toBe(true);
  });

  test("HEAD answers what GET does, without the bytes", async () => {
    const path = `/policies/${tenant}/${stable.digest}.tar.gz`;
    const [head, whole] = [await raw("HEAD", path), await get(path)];
    expect([head.status, head.text]).toEqual([200, ""]);
    for (const name of ["content-type", "content-length", "etag", "repr-digest", "cache-control", "accept-ranges"]) {
      expect(head.headers[name]).toBe(whole.headers.get(name));
    }
    // RFC 9110, section 14.2: Range is for GET alone.
    expect((await raw("HEAD", path, { range: "bytes=0-1" })).status).toBe(200);
  });

  test.each([
    ["timestamp.json", "private, max-age=1, no-transform"],
    ["1.snapshot.json", immutable],
    ["1.targets.json", immutable],
    ["1.root.json", immutable],
  ])("metadata %s is JSON that is cached as long as it holds", async (file, cacheControl) => {
    const response = await get(`/tuf/${tenant}/${file}`);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(response.headers.get("cache-control")).toBe(cacheControl);
    const bytes = await bytesOf(response);
    expect(response.headers.get("etag")).toBe(`"${sha256Of(bytes)}"`);
    expect(JSON.parse(bytes.toString())).toMatchObject({ signed: { version: 1 } });
  });

  test("a statement is served under the digest of its file, a delta under what it leads from and to", async () => {
    const statement = Buffer.from(`{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}`);
    await store.put(`statements/${tenant}/${sha256Of(statement)}.dsse.json`, statement);
    const dsse = await get(`/statements/${tenant}/${sha256Of(statement)}.dsse.json`);
    expect(dsse.headers.get("content-type")).toBe("application/json");
    expect((await bytesOf(dsse)).equals(statement)).toBe(true);

    const delta = Buffer.from("28b52ffd", "hex");
    const name = `${sha256Of(Buffer.from("old"))}..${sha256Of(Buffer.from("new"))}.zst`;
    await store.put(`deltas/${tenant}/${name}`, delta);
    const answer = await get(`/deltas/${tenant}/${name}`);
    expect([answer.status, answer.headers.get("content-type")]).toEqual([200, "application/zstd"]);
    expect(answer.headers.get("etag")).toBe(`"${sha256Of(delta)}"`);
    expect((await bytesOf(answer)).equals(delta)).toBe(true);
  });

  test("a channel answers the bundle that the provider's own metadata names, as stock OPA wants it", async () => {
    const response = await get(`/opa/${tenant}/gateway/canary/bundle.tar.gz`);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/vnd.openpolicyagent.bundles");
    expect(response.headers.get("etag")).toBe(`"${canary.digest}"`);
    expect(response.headers.get("cache-control")).toBe("private, max-age=1, no-transform");
    expect((await bytesOf(response)).equals(canary.bytes)).toBe(true);
    const unchanged = await get(`/opa/${tenant}/gateway/canary/bundle.tar.gz`, {
      "if-none-match": `"${canary.digest}"`,
      prefer: "modes=snapshot,delta",
    });
    expect([unchanged.status, await unchanged.text()]).toEqual([304, ""]);
    expect(unchanged.headers.get("etag")).toBe(`"${canary.digest}"`);
    expect((await get(`/opa/${tenant}/gateway/nightly/bundle.tar.gz`)).status).toBe(404);
    expect((await get(`/opa/${tenant}/constructor/stable/bundle.tar.gz`)).status).toBe(404);
  });

  test("a TUF client's target path is the same object as its content address", async () => {
    const path = `/tuf/${tenant}/targets/gateway/stable/${stable.digest}.bundle.tar.gz`;
    const response = await get(path);
    expect([response.status, response.headers.get("etag")]).toEqual([200, `"${stable.digest}"`]);
    expect((await bytesOf(response)).equals(stable.bytes)).toBe(true);
  });

  test("a channel follows a new revision within two seconds", async () => {
    const path = `/opa/${tenant}/follow/stable/bundle.tar.gz`;
    const mine = `${tenant}-follow`;
    const fetcher = await mintFetcher(store, mine);
    const ask = () => get(path.replace(tenant, mine), { authorization: `Bearer ${fetcher.key}` });
    const [first, second] = [bundleOf(), bundleOf()];
    await publish(store, mine, { version: 1, channels: { "follow/stable": first } });
    expect((await ask()).headers.get("etag")).toBe(`"${first.digest}"`);
    await publish(store, mine, { version: 2, channels: { "follow/stable": second } });
    const started = performance.now();
    while ((await ask()).headers.get("etag") !== `"${second.digest}"`) {
      expect(performance.now() - started).toBeLessThan(2_000);
      await sleep(50);
    }
  });

  test("a bundle that nobody vouches for any more is not served, and the answer says why", async () => {
    const mine = `${tenant}-expired`;
    const fetcher = await mintFetcher(store, mine);
    await publish(store, mine, {
      version: 1,
      channels: { "gateway/stable": bundleOf() },
      expires: new Date(Date.now() - 1_000).toISOString(),
    });
    const response = await get(`/opa/${mine}/gateway/stable/bundle.tar.gz`, { authorization: `Bearer ${fetcher.key}` });
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
    expect(await response.json()).toMatchObject({ code: "metadata_expired" });
    // The metadata itself is served: its readers check it.
    const timestamp = await get(`/tuf/${mine}/timestamp.json`, { authorization: `Bearer ${fetcher.key}` });
    expect(timestamp.status).toBe(200);
  });

  test("one range is answered as a part, and what is no single range as the whole", async () => {
    const path = `/policies/${tenant}/${stable.digest}.tar.gz`;
    const size = stable.bytes.length;
    const part = await get(path, { range: "bytes=10-19" });
    expect([part.status, part.headers.get("content-range"), part.headers.get("content-length")]).toEqual([
      206,
      `bytes 10-19/${size}`,
      "10",
    ]);
    // RFC 9530: the digest is that of the whole, also on a part.
    expect(part.headers.get("repr-digest")).toContain(Buffer.from(stable.digest, "hex").toString("base64"));
    expect((await bytesOf(part)).equals(stable.bytes.subarray(10, 20))).toBe(true);
    expect((await bytesOf(await get(path, { range: "bytes=-7" }))).equals(stable.bytes.subarray(-7))).toBe(true);
    const beyond = await get(path, { range: `bytes=${size}-` });
    expect([beyond.status, beyond.headers.get("content-range")]).toEqual([416, `bytes */${size}`]);
    for (const range of ["bytes=0-1,3-4", "lines=1-2", "bytes=5-4", `bytes=${"0-0,".repeat(2_000)}0-0`]) {
      const whole = await get(path, { range });
      expect([whole.status, (await bytesOf(whole)).length]).toEqual([200, size]);
    }
    const same = await get(path, { range: "bytes=0-0", "if-range": `"${stable.digest}"` });
    const another = await get(path, { range: "bytes=0-0", "if-range": `"${canary.digest}"` });
    const dated = await get(path, { range: "bytes=0-0", "if-range": new Date().toUTCString() });
    expect([same.status, another.status, dated.status]).toEqual([206, 200, 200]);
  });

  test("If-None-Match answers 304 for this digest, also weak, in a list, or as a star", async () => {
    const path = `/policies/${tenant}/${stable.digest}.tar.gz`;
    for (const tag of [`"${stable.digest}"`, `W/"${stable.digest}"`, `"x", "${stable.digest}"`, "*"]) {
      const response = await get(path, { "if-none-match": tag, range: "bytes=0-1" });
      expect([response.status, await response.text()]).toEqual([304, ""]);
      expect(response.headers.get("cache-control")).toBe(immutable);
    }
    expect((await get(path, { "if-none-match": `"${canary.digest}"` })).status).toBe(200);
  });

  test("no coding is put on underway, so that tags stay strong", async () => {
    for (const path of [`/tuf/${tenant}/1.targets.json`, `/opa/${tenant}/gateway/stable/bundle.tar.gz`]) {
      const { headers } = await raw("GET", path, { "accept-encoding": "gzip, br" });
      expect(headers["content-encoding"]).toBeUndefined();
      expect(headers.etag).toMatch(/^"[0-9a-f]{64}"$/);
    }
  });

  describe("who may read", () => {
    const path = `/tuf/${tenant}/timestamp.json`;
    const refusalOf = async (headers: Record<string, string>, at = path) => {
      const response = await fetch(`${edgeUrl}${at}`, { headers });
      const { request_id: _, ...document } = (await response.json()) as Record<string, unknown>;
      return { status: response.status, challenge: response.headers.get("www-authenticate"), document };
    };

    test("whatever is not a usable key is one and the same 401", async () => {
      const { key: unknown } = await mintFetcher({ put: async () => {}, delete: async () => {} }, tenant);
      const { key: expired } = await mintFetcher(store, tenant, new Date(Date.now() - 1_000).toISOString());
      const broken = await mintFetcher(store, tenant);
      await store.put(broken.file, Buffer.from(`{"fetcher_id":"pri_x","tenant":"../${tenant}","expires_at":null}`));
      const refusals = await Promise.all(
        [
          {},
          { authorization: key },
          { authorization: `Basic ${key}` },
          { authorization: "Bearer " },
          { authorization: `Bearer ${key}x` },
          { authorization: `Bearer ${key.toUpperCase()}` },
          { authorization: `Bearer ${"m".repeat(4_000)}` },
          { authorization: `Bearer ${unknown}` },
          { authorization: `Bearer ${expired}` },
          { authorization: `Bearer ${broken.key}` },
        ].map((headers) => refusalOf(headers)),
      );
      for (const refusal of refusals) expect(refusal).toEqual(refusals[0]);
      expect(refusals[0]).toMatchObject({ status: 401, challenge: 'Bearer realm="maestro-edge"' });
    });

    test("what is foreign, missing or no name at all is one and the same 404", async () => {
      const mine = { authorization: `Bearer ${key}` };
      const refusals = [
        await refusalOf({ authorization: `Bearer ${otherKey}` }, `/policies/${tenant}/${stable.digest}.tar.gz`),
        await refusalOf({ authorization: `Bearer ${otherKey}` }, path),
        await refusalOf(mine, `/policies/${tenant}/${sha256Of(Buffer.from("none"))}.tar.gz`),
        await refusalOf(mine, `/tuf/no-such-tenant/timestamp.json`),
        await refusalOf(mine, `/tuf/${tenant}/timestamp.json.sig`),
        await refusalOf(mine, `/opa/${tenant}/nothing/stable/bundle.tar.gz`),
        await refusalOf(mine, `/somewhere/else`),
      ];
      for (const refusal of refusals) expect(refusal).toEqual(refusals[0]);
      expect(refusals[0]).toMatchObject({ status: 404, document: { code: "not_found" } });
    });

    test("a revoked key is refused within six seconds", { timeout: 20_000 }, async () => {
      const fetcher = await mintFetcher(store, tenant);
      const ask = () => get(path, { authorization: `Bearer ${fetcher.key}` });
      expect((await ask()).status).toBe(200);
      await store.delete(fetcher.file);
      const revoked = performance.now();
      while ((await ask()).status !== 401) {
        expect(performance.now() - revoked).toBeLessThan(6_000);
        await sleep(100);
      }
    });

    test("a key that was tried before it was made works a second after it was made", async () => {
      const files = new Map<string, Uint8Array>();
      const early = await mintFetcher(
        { put: async (name, bytes) => void files.set(name, bytes), delete: async () => {} },
        tenant,
      );
      const ask = () => get(path, { authorization: `Bearer ${early.key}` });
      expect((await ask()).status).toBe(401);
      await store.put(early.file, files.get(early.file)!);
      await sleep(1_100);
      expect((await ask()).status).toBe(200);
    });

    test("unknown keys are remembered, so that asking again costs the store nothing", async () => {
      const { key: unknown } = await mintFetcher({ put: async () => {}, delete: async () => {} }, tenant);
      const before = await storeReads("fetcher", "missing");
      for (let tries = 0; tries < 10; tries += 1) {
        expect((await get(path, { authorization: `Bearer ${unknown}` })).status).toBe(401);
      }
      expect((await storeReads("fetcher", "missing")) - before).toBeLessThanOrEqual(2);
    });
  });

  test.each([
    ["a step up", (digest: string) => `/policies/${tenant}/../${other}/${digest}.tar.gz`],
    ["an encoded step up", (digest: string) => `/policies/${tenant}/%2e%2e/${other}/${digest}.tar.gz`],
    ["an encoded slash", (digest: string) => `/policies/${tenant}%2f${digest}.tar.gz`],
    ["an encoded letter", (digest: string) => `/policies/%65dge-serving/${digest}.tar.gz`],
    ["an encoded prefix", (digest: string) => `/%70olicies/${tenant}/${digest}.tar.gz`],
    ["two slashes", (digest: string) => `/policies//${tenant}/${digest}.tar.gz`],
    ["a slash at the end", (digest: string) => `/policies/${tenant}/${digest}.tar.gz/`],
    ["upper case", (digest: string) => `/policies/${tenant}/${digest.toUpperCase()}.tar.gz`],
    ["a short digest", (digest: string) => `/policies/${tenant}/${digest.slice(1)}.tar.gz`],
    ["a NUL", (digest: string) => `/policies/${tenant}/${digest}.tar.gz%00`],
    ["a long name", (digest: string) => `/policies/${"a".repeat(4_000)}/${digest}.tar.gz`],
    ["the fetchers", () => `/fetchers/${"0".repeat(64)}.json`],
    ["a version with a zero before it", () => `/tuf/${tenant}/01.root.json`],
    ["a version that is none", () => `/tuf/${tenant}/99999999999999999999.root.json`],
    ["a backslash", (digest: string) => `/policies\\${tenant}\\..\\${other}\\${digest}.tar.gz`],
  ])("a path with %s is nothing", async (_, pathFor) => {
    expect((await raw("GET", pathFor(stable.digest))).status).toBe(404);
  });

  test.each(["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])("%s is refused", async (method) => {
    const response = await raw(method, `/tuf/${tenant}/timestamp.json`);
    expect([response.status, response.headers["allow"]]).toEqual([405, "GET, HEAD"]);
  });

  test("bytes of another digest are refused, counted and never kept", async () => {
    const bundle = bundleOf();
    const path = `/policies/${tenant}/${bundle.digest}.tar.gz`;
    await store.put(path.slice(1), bundleOf().bytes);
    const before = await storeReads("object", "corrupt");
    for (let tries = 0; tries < 2; tries += 1) {
      const response = await get(path);
      expect([response.status, response.headers.get("repr-digest")]).toEqual([502, null]);
      expect(await response.json()).toMatchObject({ code: "store_corrupt" });
    }
    expect((await storeReads("object", "corrupt")) - before).toBe(2);
    await store.put(path.slice(1), bundle.bytes);
    expect((await bytesOf(await get(path))).equals(bundle.bytes)).toBe(true);
  });

  test("metadata of another digest than what names it has is not followed", async () => {
    const mine = `${tenant}-mixed`;
    const fetcher = await mintFetcher(store, mine);
    await publish(store, mine, { version: 1, channels: { "gateway/stable": bundleOf() } });
    const [, otherTargets] = filesOf(mine, { version: 1, channels: { "gateway/stable": bundleOf() } }).at(-3)!;
    await store.put(`tuf/${mine}/1.targets.json`, otherTargets);
    const response = await get(`/opa/${mine}/gateway/stable/bundle.tar.gz`, { authorization: `Bearer ${fetcher.key}` });
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([502, "store_corrupt"]);
  });

  test("a cold burst reads the store once, and goes on when its first client leaves", async () => {
    const bundle = bundleOf(400_000);
    const path = `/policies/${tenant}/${bundle.digest}.tar.gz`;
    await store.put(path.slice(1), bundle.bytes);
    await get(`/tuf/${tenant}/1.root.json`);
    const before = await storeReads("object", "found");
    const leaving = new AbortController();
    const first = fetch(`${edgeUrl}${path}`, {
      headers: { authorization: `Bearer ${key}` },
      signal: leaving.signal,
    }).catch(() => null);
    const rest = Array.from({ length: 40 }, async () => {
      const response = await get(path);
      return response.status === 200 && (await bytesOf(response)).equals(bundle.bytes);
    });
    await sleep(2);
    leaving.abort();
    await first;
    expect(await Promise.all(rest)).toEqual(Array.from({ length: 40 }, () => true));
    expect((await storeReads("object", "found")) - before).toBe(1);
  });

  test("that the next root is not there is remembered for a second", async () => {
    const before = await storeReads("object", "missing");
    for (let tries = 0; tries < 10; tries += 1) expect((await get(`/tuf/${tenant}/2.root.json`)).status).toBe(404);
    expect((await storeReads("object", "missing")) - before).toBeLessThanOrEqual(2);
    await store.put(
      `tuf/${tenant}/2.root.json`,
      Buffer.from(`{"signed":{"_type":"root","version":2},"signatures":[]}`),
    );
    await sleep(1_100);
    expect((await get(`/tuf/${tenant}/2.root.json`)).status).toBe(200);
  });

  test("requests are counted by whether the store was read for them, to the operator alone", async () => {
    const path = `/policies/${tenant}/${canary.digest}.tar.gz`;
    await get(path);
    const labels = ['kind="content"', 'status="200"', 'cache="hit"'];
    const before = await count("mc_edge_requests_total", ...labels);
    for (let tries = 0; tries < 5; tries += 1) await get(path);
    expect((await count("mc_edge_requests_total", ...labels)) - before).toBeGreaterThanOrEqual(4);
    const refused = await count("mc_edge_requests_total", 'status="401"', 'cache="none"');
    await get(path, { authorization: "Bearer nothing" });
    expect((await count("mc_edge_requests_total", 'status="401"', 'cache="none"')) - refused).toBeGreaterThanOrEqual(1);
    for (const authorization of ["", `Bearer ${key}`, "Bearer wrong"]) {
      expect((await fetch(`${edgeUrl}/metrics`, { headers: { authorization } })).status).toBe(401);
    }
  });

  describe("the API through the edge", () => {
    test("a real call passes with its credential and comes back uncached", async () => {
      const { keys } = await stack.seedTenant("edge-serving-api");
      const headers = { authorization: `Bearer ${keys.admin}` };
      const through = await fetch(`${edgeUrl}/api/whoami`, { headers });
      const direct = await fetch(`${stack.apiUrl}/api/whoami`, { headers });
      expect(through.status).toBe(200);
      expect(await through.json()).toEqual(await direct.json());
      expect(through.headers.get("cache-control")).toMatch(/^no-store/);
      expect(through.headers.get("cache-status")).toBe(`maestro-edge-${provider}; fwd=bypass; fwd-status=200`);
      expect(through.headers.get("maestro-request-id")).toMatch(/^req_/);
      expect((await fetch(`${edgeUrl}/api/whoami`)).status).toBe(401);
    });

    test("a body streams in, queries and answers' headers stay as they are", async () => {
      const { keys } = await stack.seedTenant("edge-serving-api");
      const response = await fetch(`${edgeUrl}/api/pql`, {
        method: "POST",
        headers: { authorization: `Bearer ${keys.admin}`, "content-type": "application/json" },
        body: JSON.stringify({ query: "FIND events BUCKET BY 1m SINCE 1h" }),
      });
      expect([response.status, response.headers.get("content-type")]).toEqual([200, "application/json"]);
      const refused = await fetch(`${edgeUrl}/api/market/packages?limit=no`, {
        headers: { authorization: `Bearer ${keys.admin}` },
      });
      expect(refused.status).toBe(400);
      const large = await fetch(`${edgeUrl}/api/pql`, {
        method: "POST",
        headers: { authorization: `Bearer ${keys.admin}`, "content-type": "application/json" },
        body: JSON.stringify({ query: "x".repeat(1_500_000) }),
      });
      expect([large.status, ((await large.json()) as { code: string }).code]).toEqual([413, "too_large"]);
    });

    test("the API knows by the link's secret which edge forwarded, and believes nobody without it", async () => {
      const requestId = async (init: RequestInit, url = edgeUrl): Promise<string> => {
        const response = await fetch(`${url}/api/whoami`, init);
        await response.body?.cancel();
        return response.headers.get("maestro-request-id") ?? "";
      };
      const forged = { headers: { "maestro-edge-provider": "forged", "maestro-edge-link": "guess" } };
      const ids = [await requestId({}), await requestId(forged), await requestId(forged, stack.apiUrl)];
      const edgeOf = (id: string): unknown => {
        const line = readFileSync(stack.logPaths.workers, "utf8")
          .split("\n")
          .find((text) => text.includes(id));
        return line === undefined ? "not logged yet" : (JSON.parse(line) as { edge: unknown }).edge;
      };
      await expect.poll(() => ids.map(edgeOf), { timeout: 5_000 }).toEqual([provider, provider, null]);
    });

    test("a request that was at the edge before is refused", async () => {
      for (const loop of ["maestro-edge", "other-cdn, maestro-edge; v=1"]) {
        const response = await fetch(`${edgeUrl}/api/whoami`, { headers: { "cdn-loop": loop } });
        expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([508, "forwarding_loop"]);
      }
      expect((await fetch(`${edgeUrl}/api/whoami`, { headers: { "cdn-loop": "other-cdn" } })).status).toBe(401);
    });

    test("whatever a stranger sends, the API is not said to be away: not to him, and not in the log", async () => {
      const path = provider === "a" ? stack.logPaths.workers : stack.logPaths.edgeB;
      const faults = (): string[] =>
        readFileSync(path, "utf8")
          .split("\n")
          .filter((line) => line.includes('"level":"error"') && line.includes(`"provider":"${provider}"`));
      const before = faults().length;
      const { hostname, port } = new URL(edgeUrl);
      const begun = (text: string): Socket => {
        const socket = connect(Number(port), hostname);
        socket.write(text);
        return socket;
      };
      const statusOf = async (text: string): Promise<string> => {
        const socket = begun(text);
        const [answer] = (await once(socket, "data")) as [Buffer];
        socket.destroy();
        return answer.toString("latin1").slice(0, 12);
      };
      const head = "host: x\r\ncontent-length: 5\r\n\r\n";
      expect(await statusOf(`GET /api/whoami HTTP/1.1\r\n${head}hello`)).toBe("HTTP/1.1 401");
      expect(await statusOf("TRACE /api/whoami HTTP/1.1\r\nhost: x\r\n\r\n")).toBe("HTTP/1.1 405");
      expect(await statusOf("GET /api/whoami HTTP/1.1\r\nhost: a b\r\n\r\n")).toMatch(/^HTTP\/1\.1 4/);
      for (let times = 0; times < 5; times += 1) {
        const leaving = begun(`POST /api/executions HTTP/1.1\r\n${head}he`);
        await sleep(100);
        leaving.destroy();
      }
      await sleep(1_500);
      expect(faults().slice(before)).toEqual([]);
    });
  });

  // The last one: it reads what all the others have left.
  test("no log line holds a key or a path", () => {
    const log = readFileSync(provider === "a" ? stack.logPaths.workers : stack.logPaths.edgeB, "utf8");
    expect(log).toContain("the store's bytes are not what their name says");
    expect(log).not.toMatch(/\bmk_/);
    expect(log).not.toContain(`/${tenant}/`);
    expect(log).not.toContain(stack.edge.metricsKey);
  });
});

describe("provider b without its store", () => {
  test("what is kept and for good is served, the rest is a 503, and all is well when it is back", async () => {
    const tenant = "edge-outage";
    const store = stack.edgeStores.b;
    const bundle = bundleOf();
    await publish(store, tenant, { version: 1, channels: { "gateway/stable": bundle } });
    const { key } = await mintFetcher(store, tenant);
    const get = (path: string) => fetch(`${stack.edge.b}${path}`, { headers: { authorization: `Bearer ${key}` } });
    const opa = `/opa/${tenant}/gateway/stable/bundle.tar.gz`;
    expect((await get(opa)).status).toBe(200);
    await stack.bunnyStorage.stop();
    try {
      await sleep(1_100);
      expect((await get(`/policies/${tenant}/${bundle.digest}.tar.gz`)).status).toBe(200);
      expect((await get(`/tuf/${tenant}/1.targets.json`)).status).toBe(200);
      for (const path of [opa, `/tuf/${tenant}/timestamp.json`]) {
        const response = await get(path);
        expect([response.status, response.headers.get("retry-after")]).toEqual([503, "1"]);
        expect(await response.json()).toMatchObject({ code: "store_unavailable" });
      }
    } finally {
      await stack.bunnyStorage.start();
    }
    expect((await get(opa)).status).toBe(200);
  });
});
