// Wire shapes of PQL questions and answers.

import { z } from "@hono/zod-openapi";
import { timestamp } from "./names.ts";

export const pqlRequest = z
  .strictObject({
    query: z.string().min(1).max(16_384),
    cursor: z.string().max(200).optional().describe("`next_cursor` of the page before; rows only"),
    explain: z
      .boolean()
      .optional()
      .describe("true: say how the question would be answered and what it would cost, and read nothing"),
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

const price = z
  .strictObject({
    rows: z.int().describe("rows that the question reads at most, by counters, known before anything is read"),
    limit: z.int().describe("the most that one question may read"),
  })
  .openapi("PqlPrice");

const rows = z.strictObject({
  kind: z.literal("rows"),
  covers,
  complete_to: completeTo,
  columns: z.array(z.string()),
  rows: z.array(z.record(z.string(), z.union([z.string(), z.number(), z.boolean(), z.null()]))),
  next_cursor: z.string().nullable(),
});

const groups = z.strictObject({
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

/** What was found, before its price is written on it. */
export type PqlAnswer = z.infer<typeof rows> | z.infer<typeof groups>;

export const pqlAnswer = z
  .discriminatedUnion("kind", [rows.extend({ price }), groups.extend({ price })])
  .openapi("PqlAnswer");
export type PricedAnswer = z.infer<typeof pqlAnswer>;

const parts = z.array(
  z.strictObject({
    level: z.enum(["raw", "hour", "day"]).describe("events, or rows of counts of sealed hours and days"),
    from: timestamp,
    to: timestamp,
  }),
);

export const pqlExplanation = z
  .strictObject({
    kind: z.literal("explain"),
    covers,
    complete_to: completeTo,
    template: z.enum(["rows", "buckets", "top", "top_buckets"]),
    words: z.array(z.string()).describe("the same in sentences"),
    reads: z.strictObject({
      totals: parts.describe("what the groups' totals are read from"),
      series: parts.describe("what the counts by bucket are read from"),
    }),
    cells: z.int().nullable().describe("buckets times (groups + 1); null: rows"),
    price,
    verdict: z.enum(["admitted", "too_expensive", "rate_limited"]).describe("were it asked now"),
    retry_after_ms: z.int().nullable(),
    changes: z
      .array(z.strictObject({ kind: z.enum(["since", "drop", "top", "bucket"]), text: z.string(), rows: z.int() }))
      .describe("where it is too expensive: what would fit, the least change first, each with its price"),
  })
  .openapi("PqlExplanation");
export type PqlExplanation = z.infer<typeof pqlExplanation>;

/** All that POST /api/pql answers. */
export const pqlReply = z.discriminatedUnion("kind", [...pqlAnswer.options, pqlExplanation]).openapi("PqlReply");
export type PqlReply = z.infer<typeof pqlReply>;
