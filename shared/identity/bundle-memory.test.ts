import { expect, test } from "vitest";
import { BundleMemory } from "./bundle-memory.ts";
import { parseTrustDomain, type TrustDomain } from "./spiffe-id.ts";

function domainOf(at: number): TrustDomain {
  const parsed = parseTrustDomain(`d${at}.example`);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}
const documentOf = (characters: number, sequence = 1): string =>
  `{"keys":[],"spiffe_sequence":${sequence}}`.padEnd(characters);
const heldOf = (memory: BundleMemory, count: number): number[] =>
  Array.from({ length: count }, (_, at) => at).filter((at) => memory.get(domainOf(at)) !== null);

test("documents are kept up to 16 Mi characters together; the longest unused goes first", async () => {
  const memory = new BundleMemory();
  const most = 32;
  for (let at = 0; at < most; at += 1) await memory.read(domainOf(at), documentOf(524_288));
  expect(heldOf(memory, most)).toHaveLength(most);
  memory.get(domainOf(0));
  await memory.read(domainOf(most), documentOf(524_288));
  expect([memory.get(domainOf(0)), memory.get(domainOf(1))]).toEqual([expect.anything(), null]);
  expect(heldOf(memory, most + 1)).toHaveLength(most);
});

test("one that is read again counts once, as it is now", async () => {
  const memory = new BundleMemory();
  for (let times = 0; times < 64; times += 1) await memory.read(domainOf(0), documentOf(524_288, times));
  expect(memory.get(domainOf(0))?.sequence).toBe(63);
  for (let at = 1; at < 32; at += 1) await memory.read(domainOf(at), documentOf(524_288));
  expect(heldOf(memory, 32)).toHaveLength(32);
});

test("of small ones a thousand are kept, and what is no bundle is a fault", async () => {
  const memory = new BundleMemory();
  for (let at = 0; at < 1_010; at += 1) await memory.read(domainOf(at), documentOf(0));
  expect(heldOf(memory, 1_010)).toHaveLength(1_000);
  await expect(memory.read(domainOf(1), "{")).rejects.toThrow("the stored bundle of d1.example is none");
});
