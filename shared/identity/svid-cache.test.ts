import { beforeAll, expect, test } from "vitest";
import {
  authorityEntry,
  bundleDocument,
  madeAtMs,
  minuteMs,
  newAuthority,
  newKeys,
  newLeaf,
  type Authority,
  type KeyPair,
} from "../../test/support/svid.ts";
import { parseTrustDomain } from "./spiffe-id.ts";
import { SvidCache } from "./svid-cache.ts";
import { parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";

let root: Authority;
let keys: KeyPair;
let leaf: Uint8Array;
let bundle: TrustBundle;
const now = madeAtMs + minuteMs;

async function bundleOf(sequence: number, authorities: readonly Authority[]): Promise<TrustBundle> {
  const name = parseTrustDomain("td.example");
  if (!name.ok) throw new Error(name.refusal.reason);
  const parsed = await parseTrustBundle(
    name.value,
    bundleDocument(authorities.map(authorityEntry), { spiffe_sequence: sequence }),
  );
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

beforeAll(async () => {
  root = await newAuthority("td.example");
  keys = await newKeys("P-256");
  leaf = await newLeaf(root, "spiffe://td.example/api", { keys });
  bundle = await bundleOf(1, [root]);
});

const roomy = { entriesMax: 100, bytesMax: 100_000 };

test("the second time costs no signature and says the same", async () => {
  const cache = new SvidCache(roomy);
  const first = await cache.verify([leaf], bundle, now);
  expect(await cache.verify([leaf], bundle, now)).toEqual(first);
  expect(cache.size).toMatchObject({ entries: 1, hits: 1 });
});

test("a hit looks at the time: one that has expired since, or is not valid yet, is refused", async () => {
  const cache = new SvidCache(roomy);
  await cache.verify([leaf], bundle, now);
  expect((await cache.verify([leaf], bundle, madeAtMs + 60 * minuteMs + 1)).ok).toBe(false);
  expect(cache.size).toMatchObject({ entries: 0, bytes: 0, hits: 0 });
  await cache.verify([leaf], bundle, now);
  expect((await cache.verify([leaf], bundle, madeAtMs - 1)).ok).toBe(false);
});

test("a hit looks at the bundle: a new sequence is verified anew, and a revoked authority's SVID is refused", async () => {
  const cache = new SvidCache(roomy);
  await cache.verify([leaf], bundle, now);
  expect((await cache.verify([leaf], await bundleOf(2, [root]), now)).ok).toBe(true);
  expect(cache.size).toMatchObject({ entries: 1, hits: 0 });
  expect((await cache.verify([leaf], await bundleOf(3, []), now)).ok).toBe(false);
  // Two bundles that claim one sequence are still two.
  await cache.verify([leaf], bundle, now);
  expect((await cache.verify([leaf], await bundleOf(1, []), now)).ok).toBe(false);
});

test("what was refused is not kept, nor taken for what held: a chain is all of its bytes", async () => {
  const cache = new SvidCache(roomy);
  await cache.verify([leaf], bundle, now);
  const broken = leaf.slice();
  broken[broken.length - 1]! ^= 1;
  expect((await cache.verify([broken], bundle, now)).ok).toBe(false);
  expect((await cache.verify([leaf.subarray(0, 100), leaf.subarray(100)], bundle, now)).ok).toBe(false);
  expect(cache.size).toMatchObject({ entries: 1, hits: 0 });
});

test("a flood of different certificates pushes out the least used ones, and grows nothing beyond its bounds", async () => {
  const leaves = await Promise.all(
    Array.from({ length: 6 }, (_, at) => newLeaf(root, `spiffe://td.example/${at}`, { keys })),
  );
  const cache = new SvidCache({ entriesMax: 3, bytesMax: 100_000 });
  for (const each of leaves) {
    await cache.verify([leaf], bundle, now);
    await cache.verify([each], bundle, now);
  }
  expect(cache.size).toMatchObject({ entries: 3, hits: 5 });
  const one = cache.size.bytes / 3;
  const narrow = new SvidCache({ entriesMax: 100, bytesMax: one * 2.5 });
  for (const each of leaves) await narrow.verify([each], bundle, now);
  expect(narrow.size.entries).toBe(2);
  expect(narrow.size.bytes).toBeLessThanOrEqual(one * 2.5);
});
