// API keys as text.

import { expect, test } from "vitest";
import { apiKeyDigest, apiKeyPattern, mintApiKey } from "./api-key.ts";

test("a minted key has the form that the door looks for, and its digest is what is kept of it", async () => {
  const random = Uint8Array.from({ length: 32 }, (_, index) => (index * 37) % 256);
  const minted = await mintApiKey(random);
  expect(minted.key).toMatch(apiKeyPattern);
  expect(minted.key.startsWith(minted.prefix)).toBe(true);
  expect(minted.prefix).toHaveLength(8);
  expect(minted.secret_sha256).toBe(await apiKeyDigest(minted.key));
});

test("every value of a random byte gives a character of the alphabet, each equally often", async () => {
  const seen = new Map<string, number>();
  for (let from = 0; from < 256; from += 32) {
    const { key } = await mintApiKey(Uint8Array.from({ length: 32 }, (_, index) => from + index));
    expect(key).toMatch(apiKeyPattern);
    for (const character of key.slice(3)) seen.set(character, (seen.get(character) ?? 0) + 1);
  }
  expect(new Set(seen.values())).toEqual(new Set([8]));
  expect(seen.size).toBe(32);
});
