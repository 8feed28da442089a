// One run, decided in pure functions: its row, its events. store.ts commits them together.

import type { EventAttributes } from "../contract/events.ts";
import type { Install } from "../contract/http-installs.ts";
import type { Execution, FinishExecution } from "../contract/http-executions.ts";

/** How long a run may take beyond the wall time that its package declares: fetch, unpack, report. */
export const runOverheadMs = 120_000;

export interface NewExecution {
  readonly id: string;
  readonly install: Pick<
    Install,
    "id" | "name" | "package" | "version" | "channel" | "release_id" | "artifact_sha256" | "units"
  >;
  readonly rolloutId: string | null;
  readonly wallMs: number;
  readonly inputSha256: string | null;
  readonly now: number;
}

export function startedExecution({ id, install, rolloutId, wallMs, inputSha256, now }: NewExecution): Execution {
  return {
    id,
    package: install.package,
    version: install.version,
    channel: install.channel,
    release_id: install.release_id,
    release_sha256: install.artifact_sha256,
    input_sha256: inputSha256,
    units: install.units,
    install: install.name,
    rollout_id: rolloutId,
    status: "running",
    exit_code: null,
    output_sha256: null,
    duration_ms: null,
    started_at: new Date(now).toISOString(),
    deadline_at: new Date(now + wallMs + runOverheadMs).toISOString(),
    finished_at: null,
  };
}

export type Ending =
  | FinishExecution
  | { readonly outcome: "expired"; readonly exit_code: null; readonly output_sha256: null };

export function endedExecution(running: Execution, ending: Ending, now: number): Execution {
  return {
    ...running,
    status: ending.outcome,
    exit_code: ending.exit_code,
    output_sha256: ending.output_sha256,
    duration_ms: Math.max(0, now - Date.parse(running.started_at)),
    finished_at: new Date(now).toISOString(),
  };
}

export function startedEvent(
  execution: Execution,
  installId: string,
  entitlementVersion: number,
  policySha256: string,
): EventAttributes<"mc.execution.started"> {
  return {
    execution_id: execution.id,
    package: execution.package,
    version: execution.version,
    channel: execution.channel,
    release_sha256: execution.release_sha256,
    input_sha256: execution.input_sha256,
    units: execution.units,
    entitlement_version: entitlementVersion,
    policy_sha256: policySha256,
    install_id: installId,
    ...(execution.rollout_id === null ? {} : { rollout_id: execution.rollout_id }),
  };
}

export function finishedEvent(ended: Execution): EventAttributes<"mc.execution.finished"> {
  if (ended.status === "running") throw new TypeError("the execution has not ended");
  return {
    execution_id: ended.id,
    package: ended.package,
    version: ended.version,
    channel: ended.channel,
    release_sha256: ended.release_sha256,
    input_sha256: ended.input_sha256,
    outcome: ended.status,
    exit_code: ended.exit_code,
    output_sha256: ended.output_sha256,
    duration_ms: ended.duration_ms ?? 0,
    units: ended.units,
  };
}
