// In-toto statements (https://in-toto.io/Statement/v1): what is claimed, of which bytes. Made by whoever signs one
// (releases, manifests, receipts, packs); read by bundle verification.

import { z } from "@hono/zod-openapi";
import { sha256Digest } from "../contract/names.ts";

const statementType = "https://in-toto.io/Statement/v1";

export const statementSubject = z.strictObject({
  name: z.string().min(1).max(512),
  digest: z.strictObject({ sha256: sha256Digest }),
});
export type StatementSubject = z.infer<typeof statementSubject>;

export const inTotoStatement = z.strictObject({
  _type: z.literal(statementType),
  subject: z.array(statementSubject).min(1).max(10_000),
  predicateType: z.url().max(256),
  predicate: z.record(z.string(), z.unknown()),
});
export type Statement = z.infer<typeof inTotoStatement>;

export interface StatementParts {
  readonly subject: readonly StatementSubject[];
  readonly predicateType: string;
  readonly predicate: Readonly<Record<string, unknown>>;
}

/** Throws where the parts make no valid statement: a defect of the caller. */
export const statement = (parts: StatementParts): Statement =>
  inTotoStatement.parse({
    _type: statementType,
    subject: [...parts.subject],
    predicateType: parts.predicateType,
    predicate: { ...parts.predicate },
  });
