// Remembered and anchored heads, and key sets (verify-mutations.ts).

import { base64 } from "../../../shared/contract/bytes.ts";
import type { PublishedKeys } from "../../../shared/contract/http-audit.ts";
import { publishedKeysOf } from "../audit-world.ts";
import type { Mutation, MutationRoom } from "../verify-mutations.ts";

export function memoryAndKeyMutations(room: MutationRoom): Mutation[] {
  const { keys } = room.base.keys;
  const known = (name: string, reason: string, kept: PublishedKeys["keys"]): Mutation => ({
    name: `key set ${name}`,
    expected: { verdict: "TAMPERED", reason },
    change: () => ({ ...room.base, keys: { ...room.base.keys, keys: kept } }),
  });
  const other = publishedKeysOf(room.strangers);
  return [
    {
      name: "remembered head of a longer log",
      expected: { verdict: "GAP", row: room.head.size, reason: "are cut off" },
      change: () => ({ ...room.base, remembered: { ...room.head, size: room.head.size + 1 } }),
    },
    ...[room.head.size, 300, 123, 1].map((size): Mutation => ({
      name: `remembered head of ${size} rows with another root`,
      expected: { verdict: "DIVERGED", reason: `the first ${size} rows are not the ones remembered` },
      change: () => ({ ...room.base, remembered: { size, root_sha256: "0".repeat(64) } }),
    })),
    {
      name: "anchored head of a longer log",
      expected: { verdict: "GAP", row: room.head.size, reason: "rows are anchored" },
      change: () => ({ ...room.base, witnessed: [room.head, { ...room.head, size: room.head.size + 1 }] }),
    },
    {
      name: "anchored head with another root, beside a right one",
      expected: { verdict: "DIVERGED", row: null, reason: "the first 300 rows are not the ones that are anchored" },
      change: () => ({ ...room.base, witnessed: [room.head, { size: 300, root_sha256: "0".repeat(64) }] }),
    },
    known("of a stranger", "not signed by a known key", other.keys),
    known(
      "without the checkpoints' key",
      "not signed by a known key",
      keys.filter(({ use }) => use !== "checkpoint"),
    ),
    known(
      "without the manifests' key",
      "is not known",
      keys.filter(({ use }) => use !== "manifest"),
    ),
    ...(["manifest", "checkpoint"] as const).flatMap((used) =>
      [{ not_before: "2030-01-01T00:00:00.000Z" }, { not_after: "2026-04-13T15:59:59.999Z" }].map((time) =>
        known(
          `whose key for every ${used} signed only ${Object.keys(time)[0]} ${Object.values(time)[0]}`,
          `the ${used} is from before or after the time of the key`,
          keys.map((key) => (key.use === used ? { ...key, ...time } : key)),
        ),
      ),
    ),
    known(
      "whose manifests' key is younger than they",
      "the manifest is from before or after the time of the key",
      keys.map((key) => ({ ...key, not_before: "2030-01-01T00:00:00.000Z" })),
    ),
    known(
      "that has a stranger's key under the log's kid",
      "is not known",
      keys.map((key) => (key.use === "manifest" ? { ...key, spki: base64(room.strangers.statement.spki) } : key)),
    ),
    known(
      "that has the manifests' key for another algorithm",
      "is not known",
      keys.map((key) => (key.use === "manifest" ? { ...key, algorithm: "Ed25519" as const } : key)),
    ),
  ];
}
