// Whether the mutations of test/simulation/verify-mutations.ts would find a verifier out: with any one of its checks taken
// out, at least one of them must have another outcome. A check that none of them needs is a check too many, or a mutation
// is missing.

import zlib from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  MutationRoom,
  outcomeOf,
  optionsOf,
  readerOf,
  type Mutation,
  type PublishedLog,
} from "../../test/simulation/verify-mutations.ts";
import { allPlants, removePlants, verifierWith, type Plant } from "../../test/simulation/verify-plants.ts";
import { isDeep, sampled } from "../../test/support/sampled.ts";
import { sha256 } from "../../workers/audit/hashing.ts";

let mutations: Mutation[];
const logs = new Map<Mutation, PublishedLog>();

beforeAll(async () => {
  mutations = (await MutationRoom.open()).mutations();
});
afterAll(removePlants);

async function changed(mutation: Mutation): Promise<PublishedLog> {
  const log = logs.get(mutation) ?? (await mutation.change());
  logs.set(mutation, log);
  return log;
}

/** Those first that say what the missing check would have said. */
const inOrder = ({ refusal }: Plant): Mutation[] => {
  const isLikely = ({ expected }: Mutation): boolean => refusal.includes(expected.reason.slice(0, 16));
  return [...mutations.filter(isLikely), ...mutations.filter((mutation) => !isLikely(mutation))];
};

/** The first mutation that has another outcome with the bug, and whether it would have been taken for good; null where none has. */
async function escapeOf(plant: Plant): Promise<{ name: string; found: string } | null> {
  const { verifyLog, gzipOver } = await verifierWith(plant);
  for (const mutation of inOrder(plant)) {
    const log = await changed(mutation);
    const options = { ...optionsOf(log), sha256, gzip: gzipOver(zlib) };
    try {
      const outcome = outcomeOf(mutation, await verifyLog(readerOf(log), options));
      if (!outcome.isExpected) return { name: mutation.name, found: outcome.found };
    } catch (error) {
      return { name: mutation.name, found: `throws ${String(error)}` };
    }
  }
  return null;
}

/** Each plant is a bundle and, where nothing misses it, all of the mutations. */
const testMsMax = isDeep ? 1_800_000 : 60_000;

const why = {
  compiler: "a schema or a regular expression has seen to it; the compiler does not know",
  writer: "who writes or signs is stopped by it, not who verifies",
  twice: "what it lets through, the check beside it refuses in the same words",
  zod: "strict schemas of this version neither pass over a member nor add one; it does not rely on that",
  pages: "the counts of pages leave no row of such a column without a value",
  keys: "keyFor gives no other keys; verifyBundle has other callers",
  bound: "bounds the work where a count is forged; what the file is, is found out behind it",
} as const;

/** Checks that no log can fail here. */
const needless: Readonly<Record<string, string>> = {
  "shared/audit/verify.ts: key === undefined, of key === undefined || !isInForce(key, sealedAt)": why.compiler,
  "shared/audit/verify.ts: key === undefined, of key === undefined || (sealedAt !== null && !isInForce(key, sealedAt))":
    why.compiler,
  "shared/audit/manifest.ts: subject === undefined, of subject === undefined || others.length > 0": why.compiler,
  "shared/audit/checkpoint.ts: origin === undefined || size === undefined || root === undefined": why.compiler,
  "shared/audit/checkpoint.ts: origin === undefined, of origin === undefined || size === undefined || root === undefined":
    why.compiler,
  "shared/audit/checkpoint.ts: size === undefined, of origin === undefined || size === undefined || root === undefined":
    why.compiler,
  "shared/audit/checkpoint.ts: root === undefined, of origin === undefined || size === undefined || root === undefined":
    why.compiler,
  "shared/audit/segment.ts: leaves.length !== range.to - range.from || leaves.length > segmentRowsMax": why.writer,
  "shared/audit/segment.ts: leaves.length !== range.to - range.from, of leaves.length !== range.to - range.from || leaves.length > segmentRowsMax":
    why.writer,
  "shared/audit/segment.ts: leaves.length > segmentRowsMax, of leaves.length !== range.to - range.from || leaves.length > segmentRowsMax":
    why.writer,
  "shared/audit/segment.ts: stored === undefined, of stored === undefined || !bytesEqual(gzip.inflate(stored, page.length), page)":
    why.compiler,
  "shared/audit/segment.ts: (value === null && nullable !== true), of value === undefined || (value === null && nullable !== true)":
    why.pages,
  "shared/audit/segment.ts: rowCount > segmentRowsMax": why.bound,
  'shared/audit/leaf.ts: typeof seq !== "number", of typeof seq !== "number" || !Number.isSafeInteger(seq) || seq < 0':
    why.compiler,
  "shared/audit/leaf.ts: attrs === null, of attrs === null || !isTextOf(attrs, event.attributes)": why.twice,
  'shared/signing/bundle.ts: signer.algorithm !== "P-256"': why.writer,
  "shared/signing/bundle.ts: !parsed.success, of !parsed.success || !isTextOf(canonicalText(bundle), parsed.data)":
    why.twice,
  "shared/signing/bundle.ts: !isTextOf(canonicalText(bundle), parsed.data), of !parsed.success || !isTextOf(canonicalText(bundle), parsed.data)":
    why.zod,
  "shared/signing/bundle.ts: signature === undefined, of signature === undefined || others.length > 0": why.compiler,
  "shared/signing/bundle.ts: key === undefined, of key === null || key === undefined": why.compiler,
  "shared/signing/bundle.ts: !algorithms.includes(key.algorithm.name)": why.keys,
  "shared/signing/bundle.ts: !statement.success, of !statement.success || !isTextOf(text, statement.data)": why.twice,
  "shared/signing/bundle.ts: !isTextOf(text, statement.data), of !statement.success || !isTextOf(text, statement.data)":
    why.zod,
  "shared/signing/published.ts: (await kidOf(base64Bytes(spki))) !== kid": why.writer,
  "shared/signing/canonical.ts:  || !Object.hasOwn(read, name)": why.twice,
  "shared/signing/canonical.ts: return count === Object.keys(read).length;": why.zod,
};

test("without a planted bug the bundled verifier passes every mutation", async () => {
  const { verifyLog, gzipOver } = await verifierWith(null);
  for (const mutation of sampled(mutations, 40)) {
    const log = await changed(mutation);
    const options = { ...optionsOf(log), sha256, gzip: gzipOver(zlib) };
    expect(outcomeOf(mutation, await verifyLog(readerOf(log), options))).toMatchObject({ isExpected: true });
  }
});

test(
  "every check of the verifier, taken out, is missed by a mutation",
  async () => {
    const plants = allPlants();
    expect(plants.length).toBeGreaterThan(100);
    const unseen: string[] = [];
    const nameOf = ({ file, check }: Plant): string => `${file}: ${check}`;
    const needed = plants.filter((plant) => !(nameOf(plant) in needless));
    for (const plant of isDeep ? plants : sampled(needed, 130)) {
      const escape = await escapeOf(plant);
      if (escape === null) unseen.push(nameOf(plant));
    }
    expect(unseen.filter((name) => !(name in needless))).toEqual([]);
    const missed = isDeep ? Object.keys(needless).filter((name) => !unseen.includes(name)) : [];
    expect(missed).toEqual([]);
  },
  testMsMax,
);
