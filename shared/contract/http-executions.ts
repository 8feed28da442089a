// Wire shapes of runs and of their disclosure.

import { z } from "@hono/zod-openapi";
import { installName } from "./http-installs.ts";
import { idPattern } from "./ids.ts";
import { channel, packageName, sha256Digest, timestamp, version } from "./names.ts";

export const executionId = z
  .string()
  .regex(idPattern("execution"))
  .openapi({ example: "exe_01k9x6f6c8a0b1c2d3e4f5g6h7" });

export const startExecution = z
  .strictObject({
    package: packageName,
    install: installName.default("default").describe("which of the package's installs runs"),
    input_sha256: sha256Digest
      .nullable()
      .default(null)
      .describe("digest of the input file; the bytes stay with the caller"),
  })
  .openapi("StartExecution");
export type StartExecution = z.infer<typeof startExecution>;

export const finishExecution = z
  .strictObject({
    outcome: z.enum(["succeeded", "failed"]),
    exit_code: z.int().min(0).max(255).nullable().default(null),
    output_sha256: sha256Digest.nullable().default(null),
  })
  .openapi("FinishExecution");
export type FinishExecution = z.infer<typeof finishExecution>;

export const execution = z
  .strictObject({
    id: executionId,
    package: packageName,
    version,
    channel,
    release_id: z.string().regex(idPattern("release")),
    release_sha256: sha256Digest,
    input_sha256: sha256Digest.nullable(),
    units: z.int(),
    install: installName.nullable().describe("null: a run from before installs had names"),
    rollout_id: z
      .string()
      .regex(idPattern("rollout"))
      .nullable()
      .describe("the staged rollout that was running when it started, whose health gate counts it"),
    status: z.enum(["running", "succeeded", "failed", "expired"]),
    exit_code: z.int().nullable(),
    output_sha256: sha256Digest.nullable(),
    duration_ms: z.int().nullable(),
    started_at: timestamp,
    deadline_at: timestamp,
    finished_at: timestamp.nullable(),
  })
  .openapi("Execution");
export type Execution = z.infer<typeof execution>;

export const executionList = z
  .strictObject({
    executions: z.array(execution).describe("newest first"),
    next_cursor: z.string().nullable(),
  })
  .openapi("ExecutionList");

export const grantId = z.string().regex(idPattern("grant")).openapi({ example: "grt_01k9x6f6c8a0b1c2d3e4f5g6h7" });
export const principalId = z.string().regex(idPattern("principal"));

export const disclosureLink = z
  .strictObject({
    url: z.url(),
    sha256: sha256Digest,
    bytes: z.int(),
    pack_version: z
      .int()
      .min(2)
      .max(3)
      .describe("2: without proofs and appendices, while the log is exported periodically"),
    one_time: z.boolean(),
    audience: principalId
      .nullable()
      .describe("who alone may use it, with a credential of their own; null: whoever has it"),
    expires_at: timestamp,
    grant_id: grantId,
  })
  .openapi("DisclosureLink");
export type DisclosureLink = z.infer<typeof disclosureLink>;

export const disclosurePending = z
  .strictObject({ state: z.literal("building"), retry_after_s: z.int() })
  .openapi("DisclosurePending");

export const revokedLink = z
  .strictObject({ grant_id: grantId, execution_id: executionId, revoked_at: timestamp })
  .openapi("RevokedLink");
export type RevokedLink = z.infer<typeof revokedLink>;
