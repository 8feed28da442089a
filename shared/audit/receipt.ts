// Receipts: the signed statement that a run finished, with what it ran, read and wrote. The log signs one for each
// `mc.execution.finished` and logs it as `mc.receipt.signed`; packs carry it.

import { derivedId } from "../contract/ids.ts";
import { sha256, utf8, type Bytes, hex } from "../contract/bytes.ts";
import type { AuditEvent, EventAttributes } from "../contract/events.ts";
import { statement, type Statement, type StatementSubject } from "../signing/statement.ts";

export const receiptPredicateType = "https://maestro-conductor.dev/attestations/receipt/v1";

export type FinishedEvent = AuditEvent<"mc.execution.finished"> & { readonly seq: number; readonly logged_at: string };

/** The subjects are `exe_…/release`, and `/input`, `/output` where the run had them. */
export function receiptStatement(finished: FinishedEvent, leafHash: Bytes): Statement {
  const run: EventAttributes<"mc.execution.finished"> = finished.attributes;
  const subject = (part: string, sha256: string | null): StatementSubject[] =>
    sha256 === null ? [] : [{ name: `${run.execution_id}/${part}`, digest: { sha256 } }];
  return statement({
    subject: [
      ...subject("release", run.release_sha256),
      ...subject("input", run.input_sha256),
      ...subject("output", run.output_sha256),
    ],
    predicateType: receiptPredicateType,
    predicate: {
      schema_version: 1,
      tenant_id: finished.tenant_id,
      execution_id: run.execution_id,
      package: run.package,
      version: run.version,
      channel: run.channel,
      outcome: run.outcome,
      exit_code: run.exit_code,
      duration_ms: run.duration_ms,
      units: run.units,
      finished_at: finished.occurred_at,
      finished_event: { id: finished.id, seq: finished.seq, logged_at: finished.logged_at, leaf_sha256: hex(leafHash) },
    },
  });
}

/** The same finished event has the same receipt event, however often it is made. */
export const receiptEventId = async (finishedEventId: string): Promise<string> =>
  derivedId("event", await sha256(utf8(`mc.receipt.signed of ${finishedEventId}`)));
