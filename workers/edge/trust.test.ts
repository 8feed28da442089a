// Trust bundles of the store as an instance holds them: which one counts where two are read at once, and how many are kept.

import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { utf8 } from "../../shared/contract/bytes.ts";
import { trustKey } from "../../shared/edge/serving-path.ts";
import { parseTrustDomain, type TrustDomain } from "../../shared/identity/spiffe-id.ts";
import { bundleBytesMax } from "../../shared/identity/trust-bundle.ts";
import { bundleDocument } from "../../test/support/svid.ts";
import { fetcherLimits } from "./app.ts";
import { EdgeCache } from "./cache.ts";
import { trustMsMax, TrustBundles } from "./trust.ts";

let objects: Map<string, Uint8Array>;
let now: number;
let bundles: TrustBundles;

beforeEach(() => {
  objects = new Map();
  now = 1_000_000;
  const store = {
    get: async (name: string) => {
      const bytes = objects.get(name);
      return bytes === undefined ? null : { size: bytes.length, body: new Blob([new Uint8Array(bytes)]).stream() };
    },
  };
  const parts = { store, clock: () => now, keepAlive: () => {}, onRead: () => {} };
  bundles = new TrustBundles(new EdgeCache(parts, { ...fetcherLimits, objectBytesMax: bundleBytesMax }), () => {});
});

function domainOf(name: string): TrustDomain {
  const parsed = parseTrustDomain(name);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}
const domain = domainOf("td.example");
const find = (tenant = "acme") => bundles.find(tenant, domain, now);

test("an older bundle that was read first and is understood last does not take the newer one's place", async () => {
  const old = utf8(bundleDocument([], { spiffe_sequence: 1 }).padEnd(1_000));
  objects.set(trustKey("acme", domain), old);
  const digest = crypto.subtle.digest.bind(crypto.subtle);
  const [begun, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  let digests = 0;
  const held = vi.spyOn(crypto.subtle, "digest").mockImplementation(async (algorithm, data) => {
    if (data.byteLength === old.length) digests += 1;
    // The first one is the cache's, the second one ends its reading as a bundle.
    if (data.byteLength === old.length && digests === 2) {
      begun.resolve();
      await gate.promise;
    }
    return await digest(algorithm, data);
  });
  onTestFinished(() => held.mockRestore());
  const first = find();
  await begun.promise;
  objects.set(trustKey("acme", domain), utf8(bundleDocument([], { spiffe_sequence: 2 })));
  now += trustMsMax;
  expect(await find()).toMatchObject({ state: "found", bundle: { sequence: 2 } });
  gate.resolve();
  expect(await first).toMatchObject({ state: "unavailable" });
  expect(await find()).toMatchObject({ state: "found", bundle: { sequence: 2 } });
});

test("bundles are held up to 8 MiB together: the longest unused is forgotten, and with it its sequence", async () => {
  const large = (sequence: number): Uint8Array =>
    utf8(bundleDocument([], { spiffe_sequence: sequence }).padEnd(bundleBytesMax));
  const put = async (tenant: string, sequence: number): Promise<string> => {
    objects.set(trustKey(tenant, domain), large(sequence));
    now += trustMsMax;
    return (await find(tenant)).state;
  };
  for (let at = 0; at < 16; at += 1) expect(await put(`t${at}`, 2)).toBe("found");
  expect(await put("t0", 1)).toBe("unavailable");
  expect(await put("t0", 2)).toBe("found");
  expect(await put("t16", 2)).toBe("found");
  expect([await put("t1", 1), await put("t0", 1)]).toEqual(["found", "unavailable"]);
});
