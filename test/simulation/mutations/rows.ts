// Rows, bodies and columns that were changed (verify-mutations.ts).

import { columnsOf, newestSchema, type SegmentRow } from "../../../shared/audit/segment-schema.ts";
import type { LeafRow } from "../../../shared/audit/service.ts";
import { canonicalJson, type LoggedEvent } from "../../../shared/contract/events.ts";
import { edited, renumbered, reordered, spoken, pagesChanged } from "./forging.ts";
import type { Mutation, MutationRoom, Forgery } from "../verify-mutations.ts";

/** Rows changed without a key: the file is another than the signed one. And with the key: the log is another than the remembered one. */
export function rowMutations(room: MutationRoom): Mutation[] {
  const kinds: [string, (leaves: LeafRow[]) => LeafRow[]][] = [
    ["deleted", (leaves) => renumbered(leaves.filter(({ seq }) => seq !== 304))],
    ["appended in the middle", (leaves) => renumbered(leaves.toSpliced(304, 0, leaves[302]!))],
    ["swapped", (leaves) => renumbered(leaves.toSpliced(304, 2, leaves[305]!, leaves[304]!))],
    ["replaced by another run's", (leaves) => renumbered(leaves.with(304, leaves[308]!))],
    [
      "edited",
      (leaves) =>
        leaves.with(
          304,
          edited(leaves[304]!, (event) => ({ ...event, principal: null })),
        ),
    ],
    ["salted anew", (leaves) => leaves.with(304, { ...leaves[304]!, salt: new Uint8Array(16) })],
  ];
  return kinds.flatMap(([kind, leaves]): Mutation[] => [
    {
      name: `row ${kind}, in a segment and manifest of a log that adds up, signed by a stranger`,
      expected: { verdict: "TAMPERED", row: null, reason: "is not known" },
      change: async () => {
        const forged = await room.forge({ leaves, by: room.strangers });
        return { ...forged, checkpoint: null, remembered: room.head };
      },
    },
    {
      name: `row ${kind}, in a segment that nobody signed`,
      expected: { verdict: "TAMPERED", reason: "is not the one that the manifest is about" },
      change: async () => {
        const { objects } = await room.forge({ leaves });
        const [, second] = [...objects.keys()].filter((key) => key.includes("/seg/"));
        return room.with({ [room.segmentOf(1)]: objects.get(second!)! });
      },
    },
    {
      name: `row ${kind}, in a log that adds up and that its own keys signed, behind a remembered head`,
      expected: {
        verdict: kind === "deleted" ? "GAP" : "DIVERGED",
        reason: kind === "deleted" ? "are cut off" : "not the ones remembered",
      },
      change: () => room.forge({ leaves, remembered: room.head }),
    },
  ]);
}

/** Leaves that are hashed, and signed for, and are not what a leaf is. */
export function bodyMutations(room: MutationRoom): Mutation[] {
  const row = 304;
  const body = room.leaves[row]!.body;
  const receipt = room.leaves.findIndex((leaf) => leaf.body.includes('"type":"mc.receipt.signed"'));
  const event = JSON.parse(body) as LoggedEvent;
  const stored = (lie: string): Forgery => ({
    leaves: (leaves) => leaves.with(row, spoken(leaves[row]!, body, lie)),
  });
  const named = (change: Partial<Record<keyof LoggedEvent, unknown>>): string => canonicalJson({ ...event, ...change });
  const { seq: _, ...unnumbered } = event;
  const { logged_at: __, ...timeless } = event;
  const lies: [string, string, string][] = [
    ["another seq", named({ seq: 305 }), "the leaf is that of row 305"],
    ["another tenant", named({ tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002" }), "another tenant's"],
    ["a type that is none", named({ type: "mc.nothing" }), "is no event"],
    ["an attribute too many", named({ attributes: { ...event.attributes, name: "x" } }), "is no event"],
    ["an attribute of another kind", named({ attributes: { ...event.attributes, units: "1" } }), "is no event"],
    ["a member too many", canonicalJson({ ...event, note: "x" }), "is no event"],
    ["a space", body.replace("{", "{ "), "not canonical"],
    [
      "members in another order",
      JSON.stringify(Object.fromEntries(Object.entries(event).toReversed())),
      "not canonical",
    ],
    ["attributes in another order", reordered(body, event), "not canonical"],
    ["a member twice", body.replace('"id":', '"id":"evt_other","id":'), "not canonical"],
    ["a member that parsers pass over", body.replace('{"attributes":', '{"__proto__":{},"attributes":'), "is no event"],
    [
      "an attribute that parsers pass over",
      body.replace('{"attributes":{', '{"attributes":{"__proto__":1,'),
      "is no event",
    ],
    ["a number in another spelling", body.replace('"seq":304', '"seq":3.04e2'), "not canonical"],
    ["no JSON", `${body}x`, "is not JSON"],
    ["a list", "[]", "is not an object"],
    ["null", "null", "is not an object"],
    ["text", '"x"', "is not an object"],
    ["no seq", canonicalJson(unnumbered), "has no seq"],
    ["a negative seq", named({ seq: -304 }), "has no seq"],
    ["half a seq", named({ seq: 304.5 }), "has no seq"],
    ["a seq beyond counting", body.replace('"seq":304', '"seq":9007199254740993'), "has no seq"],
    ["a seq in quotes", named({ seq: "304" }), "has no seq"],
    ["no logged_at", canonicalJson(timeless), "has no logged_at"],
    ["a time that never was", named({ logged_at: "2026-02-30T00:00:00.000Z" }), "has no logged_at"],
  ];
  return [
    ...lies.map(([kind, lie, reason]): Mutation => ({
      name: `leaf with ${kind}`,
      expected: { verdict: "TAMPERED", row, reason },
      change: () => room.forge(stored(lie)),
    })),
    {
      name: "leaf with half of a character, escaped",
      expected: { verdict: "TAMPERED", row: receipt, reason: "not canonical" },
      change: () =>
        room.forge({
          leaves: (leaves) => {
            const leaf = leaves[receipt]!;
            const lie = leaf.body.replace('"payload":"', '"payload":"\\ud800');
            return leaves.with(receipt, spoken(leaf, leaf.body, lie));
          },
        }),
    },
    ...[15, 17, 0].map((byteCount): Mutation => ({
      name: `leaf with a salt of ${byteCount} bytes`,
      expected: { verdict: "TAMPERED", row, reason: "the salt has not 16 bytes" },
      change: () =>
        room.forge({ leaves: (leaves) => leaves.with(row, { ...leaves[row]!, salt: new Uint8Array(byteCount) }) }),
    })),
    ...[row, 300].map((seq): Mutation => ({
      name: `leaf ${seq} logged before the one ahead of it`,
      expected: { verdict: "TAMPERED", row: seq, reason: "was logged before the row ahead of it" },
      change: () =>
        room.forge({
          leaves: (leaves) =>
            leaves.with(
              seq,
              edited(leaves[seq]!, (event) => ({ ...event, logged_at: "2026-04-13T15:00:00.000Z" })),
            ),
        }),
    })),
    {
      name: "leaf whose body is not UTF-8",
      expected: { verdict: "TAMPERED", reason: "not UTF-8" },
      change: () =>
        room.forge({
          gzip: pagesChanged((page) => {
            const at = Buffer.from(page).indexOf('"schema_version":1,"seq":304');
            return at < 0 ? page : page.with(at + 1, 0xff);
          }),
        }),
    },
  ];
}

/** Signed segments whose leaves are right, and whose other columns say something else. */
export function columnMutations(room: MutationRoom): Mutation[] {
  const lies: Partial<Record<keyof SegmentRow, (event: LoggedEvent) => LoggedEvent>> = {
    tenant_id: (event) => ({ ...event, tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002" }),
    seq: (event) => ({ ...event, seq: event.seq + 1 }),
    logged_at: (event) => ({ ...event, logged_at: "2026-04-13T15:00:00.000Z" }),
    occurred_at: (event) => ({ ...event, occurred_at: "2026-04-13T15:00:00.000Z" }),
    event_id: (event) => ({ ...event, id: "evt_00000000000000000000000000" }),
    type: (event) => ({ ...event, type: "mc.log.gap" }),
    source: (event) => ({ ...event, source: "disclosure" }),
    principal: (event) => ({ ...event, principal: null }),
    source_seq: (event) => ({ ...event, source_seq: 7 }),
  };
  const attribute = (name: string, value: unknown) => (event: LoggedEvent) => ({
    ...event,
    attributes: { ...event.attributes, [name]: value } as never,
  });
  const words = ["execution_id", "package", "version", "channel", "outcome", "rule", "action"] as const;
  for (const name of words) lies[name] = attribute(name, `other ${name}`);
  for (const name of ["units", "duration_ms"] as const) lies[name] = attribute(name, 987_654);
  lies.attrs = attribute("more", true);
  const names = columnsOf(newestSchema).map(({ name }) => name);
  return names
    .filter((name) => name !== "salt" && name !== "body")
    .map((name): Mutation => ({
      name: `column ${name} that is not what its leaf says, signed`,
      expected: { verdict: "TAMPERED", row: 304, reason: `row 304: the column ${name} is not what the leaf says` },
      change: () =>
        room.forge({
          leaves: (leaves) =>
            leaves.with(304, spoken(leaves[304]!, edited(leaves[304]!, lies[name]!).body, leaves[304]!.body)),
        }),
    }));
}
