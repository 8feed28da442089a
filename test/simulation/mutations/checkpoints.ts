// Checkpoints that were changed, and such that lie (verify-mutations.ts).

import { originOf, signCheckpoint } from "../../../shared/audit/checkpoint.ts";
import { base64, base64Bytes, type Bytes } from "../../../shared/contract/bytes.ts";
import { tenantId } from "../audit-events.ts";
import { originPrefix, type TestKeys } from "../audit-world.ts";
import { statementIn, misSigned } from "./forging.ts";
import type { Mutation, MutationRoom } from "../verify-mutations.ts";

export function checkpointMutations(room: MutationRoom): Mutation[] {
  const origin = originOf(originPrefix, tenantId);
  const note = room.base.checkpoint!;
  const { size } = room.head;
  const root = base64Bytes(note.split("\n")[2]!);
  const sign = (by: TestKeys, claim: Partial<{ origin: string; size: number; root: Bytes }>): Promise<string> =>
    signCheckpoint(by.checkpoint, { origin, size, root, ...claim });
  const signatureLine = note.split("\n\n")[1]!;
  const served = (name: string, reason: string, checkpoint: string | (() => Promise<string>)): Mutation => ({
    name: `checkpoint ${name}`,
    expected: { verdict: "TAMPERED", reason },
    change: async () => ({
      ...room.base,
      checkpoint: typeof checkpoint === "string" ? checkpoint : await checkpoint(),
    }),
  });
  const inside = (name: string, reason: string, forged: (root: Bytes, to: number) => Promise<string>): Mutation => ({
    name: `checkpoint in a manifest ${name}`,
    expected: { verdict: "TAMPERED", row: null, reason },
    change: () =>
      room.forge({ note: async (honest, at, root) => (at === 1 ? await forged(root, room.ends[1]!) : honest) }),
  });
  const edit = (from: string | RegExp, to: string): string => note.replace(from, to);
  return [
    served("with another size", "signature does not verify", edit(`\n${size}\n`, `\n${size + 1}\n`)),
    served("with another root", "signature does not verify", edit(base64(root), base64(new Uint8Array(32)))),
    served("with an edited signature", "signature does not verify", misSigned(note)),
    served("without a signature", "not a signed note", `${note.split("\n\n")[0]}\n\n`),
    served("of nothing", "not a signed note", ""),
    served("with a fourth line", "not a signed note", edit("\n\n", "\nmore\n\n")),
    served("with a size in another spelling", "not a signed note", edit(`\n${size}\n`, `\n0${size}\n`)),
    served("with a size beyond counting", "not a signed note", edit(`\n${size}\n`, "\n9999999999999999\n")),
    served("with a root that is no hash", "not a signed note", edit(base64(root), base64(new Uint8Array(31)))),
    served("with a root that is not base64", "not a signed note", edit(base64(root), `=${base64(root).slice(1)}`)),
    served("with its signature twice", "two signatures", `${note}${signatureLine}`),
    served("with a signature that is not base64", "not base64", edit(/(— \S+ ).*\n$/u, "$1?\n")),
    served("signed by a stranger", "not signed by a known key", () => sign(room.strangers, {})),
    served("of another log", "is of the log", () => sign(room.keys, { origin: `${origin}x` })),
    served("that ends inside of a segment", "ends inside of a segment", () => sign(room.keys, { size: 305 })),
    {
      name: "checkpoint of more rows than are there",
      expected: { verdict: "GAP", row: size, reason: "are signed for and not there" },
      change: async () => ({ ...room.base, checkpoint: await sign(room.keys, { size: size + 3 }) }),
    },
    {
      name: "checkpoint of the same size with another root, signed",
      expected: { verdict: "DIVERGED", row: null, reason: "another root than their manifest" },
      change: async () => ({ ...room.base, checkpoint: await sign(room.keys, { root: new Uint8Array(32) }) }),
    },
    {
      name: "checkpoint of before, replayed, behind a remembered head",
      expected: { verdict: "GAP", row: 316, reason: "are cut off" },
      change: () => {
        const { predicate } = statementIn(room.object(room.manifestOf(1)));
        return { ...room.base, checkpoint: String(predicate["checkpoint"]) };
      },
    },
    inside("signed by a stranger", "not signed by a known key", (root, to) => sign(room.strangers, { size: to, root })),
    inside("of another log", "is of the log", (root, to) => sign(room.keys, { origin: `${origin}x`, size: to, root })),
    inside("of another size", "of different trees", (root) => sign(room.keys, { size: 305, root })),
    inside("with another root", "of different trees", (_, to) =>
      sign(room.keys, { size: to, root: new Uint8Array(32) }),
    ),
    {
      name: "checkpoint and manifest that agree on a root which the rows do not have, signed",
      expected: { verdict: "TAMPERED", row: null, reason: "do not lead to the signed root" },
      change: () =>
        room.forge({
          note: async (honest, at) =>
            at === 1 ? await sign(room.keys, { size: room.ends[1]!, root: new Uint8Array(32) }) : honest,
          predicate: (predicate, at) => (at === 1 ? { ...predicate, root_sha256: "0".repeat(64) } : predicate),
        }),
    },
  ];
}
