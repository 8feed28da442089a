// Wire shapes of PQL questions and answers.

import { z } from "@hono/zod-openapi";
import { timestamp } from "./names.ts";

export const pqlRequest = z
  .strictObject({
    query: z.string().min(1).max(16_384),
    cursor: z.string().max(200).optional().describe("`next_cursor` of the page before; rows only"),
  })
  .openapi("PqlRequest");

const covers = z
  .strictObject({ from: timestamp, to: timestamp })
  .describe("the range that was asked, half-open, UTC; `complete_to` says how much of it the answer can have seen");

const completeTo = timestamp
  .nullable()
  .describe(
    "every event logged before this instant is counted; later ones may still be missing. It is when the newest event " +
      "that the answer can have seen was logged, so that it stands still while nothing happens; null: there was none yet",
  );

export const pqlRows = z.strictObject({
  kind: z.literal("rows"),
  covers,
  complete_to: completeTo,
  columns: z.array(z.string()),
  rows: z.array(z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))),
  next_cursor: z.string().nullable(),
});

export const pqlGroups = z.strictObject({
  kind: z.literal("groups"),
  covers,
  complete_to: completeTo,
  field: z.string().nullable().describe("what TOP groups by"),
  bucket_ms: z.int().nullable(),
  groups: z
    .array(z.strictObject({ name: z.string().nullable(), total: z.int() }))
    .describe("the K largest, ties by name"),
  other: z.int().describe("exactly what the groups leave out"),
  total: z.int(),
  buckets: z
    .array(
      z.strictObject({
        start: timestamp,
        partial: z.boolean(),
        counts: z.array(z.int()).describe("in the order of `groups`"),
        other: z.int(),
      }),
    )
    .nullable(),
});

export const pqlAnswer = z.discriminatedUnion("kind", [pqlRows, pqlGroups]).openapi("PqlAnswer");
export type PqlAnswer = z.infer<typeof pqlAnswer>;
