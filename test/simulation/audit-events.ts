// Seeded audit events for simulations, unit tests and workerd: the same seed, the same events.

import type { Bytes } from "../../shared/contract/bytes.ts";
import type { AuditEvent } from "../../shared/contract/events.ts";
import { newId } from "../../shared/contract/ids.ts";

export const tenantId = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001";
export const startTime = Date.parse("2026-04-13T16:00:00.000Z");

/** mulberry32: the same seed, the same run. */
export function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export const randomBytes = (next: () => number, byteCount: number): Bytes =>
  Uint8Array.from({ length: byteCount }, () => Math.floor(next() * 256));

const digest = (letter: string): string => letter.repeat(64);

/** The `index`th event of a run of events: every third one finishes the run that the one before it started. */
export function eventAt(index: number, next: () => number, tenant = tenantId): AuditEvent {
  const executionId = `exe_${String(Math.floor(index / 3)).padStart(26, "0")}`;
  const common = {
    id: newId("event", startTime + index, randomBytes(next, 10)),
    tenant_id: tenant,
    schema_version: 1 as const,
    source: "api" as const,
    source_seq: null,
    occurred_at: new Date(startTime + index).toISOString(),
    principal: "pri_00000000000000000000000000",
  };
  const run = {
    execution_id: executionId,
    package: "tools/sbom-inventory",
    version: "1.2.0",
    channel: "stable" as const,
  };
  const event: AuditEvent =
    index % 3 === 0
      ? {
          ...common,
          type: "mc.policy.decision",
          attributes: {
            action: "execution.start",
            outcome: index % 2 === 0 ? "allow" : "deny",
            rule: "ok",
            package: "tools/sbom-inventory",
            policy_sha256: digest("a"),
            input_sha256: digest("b"),
          },
        }
      : index % 3 === 1
        ? {
            ...common,
            type: "mc.execution.started",
            attributes: {
              ...run,
              release_sha256: digest("c"),
              input_sha256: null,
              units: index,
              entitlement_version: 1,
              policy_sha256: digest("a"),
            },
          }
        : {
            ...common,
            type: "mc.execution.finished",
            attributes: {
              ...run,
              release_sha256: digest("c"),
              input_sha256: null,
              outcome: "succeeded",
              exit_code: 0,
              output_sha256: digest("d"),
              duration_ms: index,
              units: index,
            },
          };
  return event;
}
