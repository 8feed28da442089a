// Witnesses for tests: the real core over a memory of its own, and policies that name them.

import type { VerifierKey } from "../../shared/audit/note.ts";
import { parseVerifierKey } from "../../shared/audit/note.ts";
import { witnessVerifierKey } from "../../shared/audit/cosignature.ts";
import { originSha256, type WitnessedHead, type WitnessParts, type WitnessStore } from "../../shared/audit/witness.ts";
import { parseWitnessPolicy, type WitnessPolicy } from "../../shared/audit/witness-policy.ts";
import { utf8 } from "../../shared/contract/bytes.ts";
import { sha256 } from "../../workers/audit/hashing.ts";
import { newSigner } from "../simulation/audit-world.ts";

export interface MemoryStore extends WitnessStore {
  readonly heads: Map<string, WitnessedHead & { readonly note: string }>;
  /** Before anything is read or written: where a test interleaves requests, or has the disk fail. */
  gate: (step: "read" | "advance") => Promise<void>;
}

export function memoryStore(): MemoryStore {
  const heads: MemoryStore["heads"] = new Map();
  const store: MemoryStore = {
    heads,
    gate: () => Promise.resolve(),
    async read(origin) {
      await store.gate("read");
      const head = heads.get(origin);
      return head === undefined ? null : { size: head.size, root_sha256: head.root_sha256 };
    },
    async advance(origin, from, to, note) {
      await store.gate("advance");
      const head = heads.get(origin);
      if (head?.size !== from?.size || head?.root_sha256 !== from?.root_sha256) return false;
      heads.set(origin, { ...to, note });
      return true;
    },
    async note(digest) {
      for (const [origin, { note }] of heads) if ((await originSha256(origin)) === digest) return note;
      return null;
    },
  };
  return store;
}

export interface TestWitness extends WitnessParts {
  readonly store: MemoryStore;
  readonly key: VerifierKey;
}

export async function newWitness(
  name: string,
  logs: readonly VerifierKey[],
  clock: () => number,
): Promise<TestWitness> {
  const signer = await newSigner("Ed25519");
  const key = (await parseVerifierKey(await witnessVerifierKey(name, signer.spki)))!;
  return { name, signer, logs, clock, sha256, store: memoryStore(), key };
}

export async function policyOf(text: string): Promise<WitnessPolicy> {
  const parsed = await parseWitnessPolicy(utf8(text));
  if (!parsed.ok) throw new Error(parsed.reason);
  return parsed.policy;
}
