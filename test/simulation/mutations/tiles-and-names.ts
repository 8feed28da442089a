// Tiles, and the names of ranges (verify-mutations.ts).

import { manifestKey, rangeName, segmentKey, type Range } from "../../../shared/audit/layout.ts";
import type { VerdictWord } from "../../../shared/audit/verify.ts";
import { concat, type Bytes } from "../../../shared/contract/bytes.ts";
import { tenantId } from "../audit-events.ts";
import type { Mutation, MutationRoom, PublishedLog } from "../verify-mutations.ts";

export function tileMutations(room: MutationRoom): Mutation[] {
  const key = `${tenantId}/tile/0/000`;
  const tile = room.object(key);
  const changed = (name: string, row: number, bytes: Bytes): Mutation => ({
    name: `tile ${name}`,
    expected: { verdict: "TAMPERED", row, reason: "is not that of its rows" },
    change: () => room.with({ [key]: bytes }),
  });
  const [one, two] = [tile.slice(0, 32), tile.slice(32, 64)];
  return [
    {
      name: "tile deleted",
      expected: { verdict: "GAP", row: 0, reason: "the tile 0/000 is not there" },
      change: () => room.with({ [key]: null }),
    },
    changed("with a byte flipped", 123, tile.with(123 * 32 + 5, tile[123 * 32 + 5]! ^ 1)),
    changed("truncated", 255, tile.slice(0, -1)),
    changed("appended to", 0, concat(tile, new Uint8Array(32))),
    changed("with two hashes swapped", 0, concat(two, one, tile.subarray(64))),
    changed("with a hash deleted", 7, concat(tile.subarray(0, 7 * 32), tile.subarray(8 * 32))),
    changed("of another log", 0, room.anothers.objects.get(key)!),
    changed("of no bytes", 0, new Uint8Array(0)),
  ];
}

export function nameMutations(room: MutationRoom): Mutation[] {
  const names = room.ends.map((_, at) => rangeName(room.range(at)));
  const listed = (
    name: string,
    verdict: VerdictWord,
    row: number | null,
    reason: string,
    list: string[],
  ): Mutation => ({
    name: `names of ranges ${name}`,
    expected: { verdict, row, reason },
    change: () => ({ ...room.base, names: list }),
  });
  const moved = (to: Range): PublishedLog =>
    room.with({
      [room.manifestOf(1)]: null,
      [room.segmentOf(1)]: null,
      [manifestKey(tenantId, to)]: room.object(room.manifestOf(1)),
      [segmentKey(tenantId, to)]: room.object(room.segmentOf(1)),
    });
  return [
    listed("with one that is none", "TAMPERED", null, "is not the name of a range", [names[0]!, "1-2"]),
    listed("with one twice", "TAMPERED", 0, "repeats rows", [names[0]!, names[0]!, ...names.slice(1)]),
    listed("in another order", "GAP", 0, "are not there", names.toReversed()),
    listed("of nothing", "GAP", 0, "are signed for and not there", []),
    {
      name: "range renamed to begin earlier",
      expected: { verdict: "TAMPERED", row: 299, reason: "repeats rows" },
      change: () => moved({ from: 299, to: 316 }),
    },
    {
      name: "range renamed to begin later",
      expected: { verdict: "GAP", row: 300, reason: "are not there" },
      change: () => moved({ from: 301, to: 316 }),
    },
    {
      name: "range renamed to end later",
      expected: { verdict: "TAMPERED", row: null, reason: "of another range" },
      change: () => moved({ from: 300, to: 317 }),
    },
  ];
}
