// Deltas at a fetcher: what comes of a good one, and that a bad one costs a whole bundle and nothing else. Real HTTP servers, real
// folders, real signatures, real zstd.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { heldSha256, heldState } from "../../shared/edge/held-state.ts";
import { policyKey } from "../../shared/edge/serving-path.ts";
import { testFetcher, type TestFetcher } from "../../test/support/edge-fetcher.ts";
import {
  edgeWorld,
  policyPath,
  startProvider,
  tenant,
  type EdgeWorld,
  type Fault,
  type PublishOptions,
  type TestProvider,
} from "../../test/support/edge-world.ts";
import { testFolder } from "../testing/host.ts";
import { clearQuarantine } from "./held-folder.ts";

interface Scene {
  readonly world: EdgeWorld;
  readonly a: TestProvider;
  readonly b: TestProvider;
  readonly it: TestFetcher;
  readonly folder: string;
  readonly first: Bytes;
  /** Publishes, with a delta from the first bundle, and gives it to both providers. */
  next(options?: PublishOptions): Promise<Bytes>;
}

async function scene(): Promise<Scene> {
  const world = await edgeWorld();
  const { bundle: first } = await world.publish();
  const a = await startProvider("a", world.copy());
  const b = await startProvider("b", world.copy());
  const folder = testFolder();
  const it = await testFetcher(world, [a, b], { folder });
  expect(await it.verdict()).toMatchObject({ verdict: "activated", active: { packed_sha256: null } });
  const next = async (options: PublishOptions = {}): Promise<Bytes> => {
    const { bundle } = await world.publish({ allowed: "bob", deltaFrom: first, ...options });
    for (const provider of [a, b]) {
      provider.objects = world.copy();
      provider.asked.length = 0;
    }
    return bundle;
  };
  return { world, a, b, it, folder, first, next };
}

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const asked = ({ a, b }: Pick<Scene, "a" | "b">, prefix: string): number => a.count(prefix) + b.count(prefix);
const tarServed = async (it: TestFetcher): Promise<Buffer> => gunzipSync((await it.served()) ?? new Uint8Array());

describe("a delta", () => {
  test("is followed instead of the whole bundle: the same tar, packed here, from either provider", async () => {
    for (const dead of ["a", "b"] as const) {
      const at = await scene();
      const bundle = await at.next();
      await at[dead].stop();
      const verdict = await at.it.verdict();
      expect(verdict).toMatchObject({ verdict: "activated", active: { revision: 2, sha256: sha256(bundle) } });
      expect(asked(at, "policies/")).toBe(0);
      expect((await tarServed(at.it)).equals(gunzipSync(bundle))).toBe(true);
      const counts = at.it.counters.read();
      expect(counts).toMatchObject({ deltas_applied: 1, deltas_failed: 0, whole_bytes: at.first.length });
      expect(counts.delta_bytes).toBe(at.world.objects.get([...at.world.objects.keys()].find(isDelta)!)!.length);
      expect(await at.it.verdict()).toMatchObject({ verdict: "current" });
    }
  });

  test("holds over a restart, which compares its tar before it serves it, and leads on to the next one", async () => {
    const at = await scene();
    const second = await at.next();
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated" });
    const again = await testFetcher(at.world, [at.a, at.b], { folder: at.folder });
    expect((await tarServed(again)).equals(gunzipSync(second))).toBe(true);
    expect(await again.verdict()).toMatchObject({ verdict: "current", active: { revision: 2 } });
    const third = await at.next({ allowed: "carol", deltaFrom: second });
    expect(await again.verdict()).toMatchObject({ verdict: "activated", active: { revision: 3 } });
    expect(asked(at, "policies/")).toBe(0);
    expect((await tarServed(again)).equals(gunzipSync(third))).toBe(true);
    expect(readdirSync(join(at.folder, "bundles"))).toHaveLength(1);
  });

  test("whose bundle on the disk is another tar's, under its own digest, is not served: the whole one is fetched", async () => {
    const at = await scene();
    const second = await at.next();
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated" });
    const path = join(at.folder, "held.json");
    const state = heldState.parse(JSON.parse(readFileSync(path, "utf8")));
    const active = state.active[policyPath]!;
    writeFileSync(join(at.folder, "bundles", `${sha256(at.first)}.tar.gz`), at.first);
    const bent = { ...active, packed_sha256: sha256(at.first) };
    writeFileSync(path, JSON.stringify({ ...state, active: { [policyPath]: bent } }));
    const again = await testFetcher(at.world, [at.a, at.b], { folder: at.folder });
    expect(await again.served()).toBeNull();
    expect(await again.verdict()).toMatchObject({ verdict: "activated", active: { packed_sha256: null } });
    expect(await again.served()).toEqual(new Uint8Array(second));
  });

  test("is not asked for by who holds another tar, nor where the metadata names none", async () => {
    const at = await scene();
    const second = await at.next();
    const fresh = await testFetcher(at.world, [at.a, at.b], { folder: testFolder() });
    expect(await fresh.verdict()).toMatchObject({ verdict: "activated", active: { packed_sha256: null } });
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated" });
    await at.world.publish({ allowed: "carol" });
    for (const provider of [at.a, at.b]) provider.objects = at.world.copy();
    at.a.asked.length = 0;
    at.b.asked.length = 0;
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { packed_sha256: null } });
    expect(asked(at, "deltas/")).toBe(0);
    expect(second.length).toBeGreaterThan(0);
  });
});

const isDelta = (key: string): boolean => key.startsWith("deltas/");
const zstdOf = (bytes: number): Bytes => new Uint8Array(zstdCompressSync(new Uint8Array(bytes)));
/** Every provider answers a question for a delta so. */
const with200 =
  (body: (key: string) => Uint8Array): Fault =>
  (key, response) => {
    if (!isDelta(key)) return false;
    response.writeHead(200, { "content-type": "application/zstd" }).end(body(key));
    return true;
  };

interface Attack {
  readonly name: string;
  /** What the publisher writes, and signs the digest of. */
  readonly delta?: (delta: Bytes, at: Scene) => Bytes;
  /** What the providers make of it. */
  readonly fault?: (at: Scene) => Fault;
  readonly code: string;
}

const attacks: readonly Attack[] = [
  {
    name: "with a flipped byte, at both providers",
    fault: (at) =>
      with200((key) => {
        const bytes = new Uint8Array(at.world.objects.get(key)!);
        bytes[bytes.length - 3]! ^= 1;
        return bytes;
      }),
    code: "wrong_digest",
  },
  {
    name: "of another length",
    fault: (at) => with200((key) => at.world.objects.get(key)!.subarray(1)),
    code: "wrong_length",
  },
  {
    name: "without an end",
    fault: () => (key, response) => {
      if (!isDelta(key)) return false;
      response.writeHead(200, { "content-type": "application/zstd" });
      const more = (): void => void (response.destroyed || response.write(new Uint8Array(16_384), more));
      more();
      return true;
    },
    code: "too_large",
  },
  {
    name: "that is not there",
    fault: () => (key, response) => {
      if (!isDelta(key)) return false;
      response.writeHead(404).end();
      return true;
    },
    code: "missing",
  },
  {
    name: "that comes as another type",
    fault: () => (key, response) => {
      if (!isDelta(key)) return false;
      response.writeHead(200, { "content-type": "text/html" }).end("<html>");
      return true;
    },
    code: "wrong_content_type",
  },
  {
    name: "that hangs",
    fault: () => (key) => isDelta(key),
    code: "late",
  },
  { name: "that is a bomb, and signed", delta: () => zstdOf(64 * 1024 * 1024), code: "bad_delta" },
  { name: "that makes one byte too many, and is signed", delta: () => zstdOf(4_097), code: "bad_delta" },
  { name: "that makes too little, and is signed", delta: () => zstdOf(10), code: "bad_delta" },
  { name: "that is garbage, and signed", delta: () => new Uint8Array(300).fill(7), code: "bad_delta" },
  { name: "that breaks off, and is signed", delta: (delta) => delta.slice(0, -2), code: "bad_delta" },
  {
    name: "that is of another base, and signed",
    delta: (_, at) =>
      new Uint8Array(
        zstdCompressSync(gunzipSync(at.first), { dictionary: new Uint8Array(gunzipSync(at.first)).fill(9, 512) }),
      ),
    code: "bad_delta",
  },
];

describe("a bad delta costs the whole bundle, and nothing else:", () => {
  test.each(attacks)("one $name", async ({ delta, fault, code }) => {
    const at = await scene();
    const bundle = await at.next(delta === undefined ? {} : { delta: (made) => delta(made, at) });
    for (const provider of [at.a, at.b]) provider.fault = fault?.(at) ?? null;
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2, packed_sha256: null } });
    expect(await at.it.served()).toEqual(new Uint8Array(bundle));
    const counts = at.it.counters.read();
    expect(counts).toMatchObject({
      deltas_applied: 0,
      deltas_failed: 1,
      whole_bytes: at.first.length + bundle.length,
    });
    expect(counts.refused[code]).toBeGreaterThan(0);
    expect(at.it.fetcher.state.quarantine).toEqual([]);
    expect(at.it.fetcher.state.failed_deltas).toMatchObject([{ code, path: policyPath }]);
  });

  test("it is not asked for again while the whole bundle cannot be had, also after a restart, unless it is cleared", async () => {
    const at = await scene();
    const bundle = await at.next({ delta: () => new Uint8Array(300).fill(7) });
    const noBundles: Fault = (key, response) => {
      if (!key.startsWith("policies/")) return false;
      response.writeHead(503).end();
      return true;
    };
    at.a.fault = noBundles;
    at.b.fault = noBundles;
    expect(await at.it.verdict()).toMatchObject({ verdict: "refused", refusal: { code: "bad_status" } });
    const once = asked(at, "deltas/");
    expect(once).toBeGreaterThan(0);
    expect(await at.it.verdict()).toMatchObject({ verdict: "refused", active: { revision: 1 } });
    const again = await testFetcher(at.world, [at.a, at.b], { folder: at.folder });
    expect(await again.verdict()).toMatchObject({ verdict: "refused", active: { revision: 1 } });
    expect(asked(at, "deltas/")).toBe(once);
    expect(await clearQuarantine(at.folder)).toBe(1);
    const cleared = await testFetcher(at.world, [at.a, at.b], { folder: at.folder });
    expect(await cleared.verdict()).toMatchObject({ verdict: "refused" });
    expect(asked(at, "deltas/")).toBeGreaterThan(once);
    at.a.fault = null;
    at.b.fault = null;
    expect(await cleared.verdict()).toMatchObject({ verdict: "activated", active: { revision: 2 } });
    expect(await cleared.served()).toEqual(new Uint8Array(bundle));
    await at.next({ allowed: "carol", deltaFrom: bundle });
    expect(await cleared.verdict()).toMatchObject({ verdict: "activated", active: { revision: 3 } });
    expect(cleared.fetcher.state.failed_deltas).toEqual([]);
  });

  test("where one provider serves another one's bytes, the other's delta is taken", async () => {
    const at = await scene();
    await at.next();
    at.a.fault = with200(() => new Uint8Array(9));
    await at.it.verdict();
    const counts = at.it.counters.read();
    expect(counts).toMatchObject({ deltas_applied: 1, deltas_failed: 0 });
    expect(asked(at, "policies/")).toBe(0);
  });

  test("a base that was lost from the disk is no fault of the delta's", async () => {
    const at = await scene();
    const bundle = await at.next();
    const active = at.it.fetcher.state.active[policyPath]!;
    writeFileSync(join(at.folder, "bundles", `${heldSha256(active)}.tar.gz`), "other bytes");
    expect(await at.it.verdict()).toMatchObject({ verdict: "activated", active: { packed_sha256: null } });
    expect(at.it.counters.read()).toMatchObject({ deltas_applied: 0, deltas_failed: 0 });
    expect(asked(at, "deltas/")).toBe(0);
    expect(asked(at, policyKey(tenant, sha256(bundle)))).toBeGreaterThan(0);
  });
});
