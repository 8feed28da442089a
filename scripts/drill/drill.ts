// What a drill is: the product under load while something is done to it, against what must hold then. scripts/drill.ts runs it
// once, on a stack of its own.

import type { Bench, Figures } from "../bench/benchmark.ts";

export interface Goal {
  readonly figure: string;
  readonly is: "at_most" | "under" | "over";
  readonly limit: number;
}

export interface DrillOutcome {
  /** What stands at the top of the result: each figure with a goal, and others. */
  readonly headline: Figures;
  /** By part of the drill. */
  readonly parts: Readonly<Record<string, Figures>>;
  /** Sentences on what must never be, whatever the machine; none where all is well. */
  readonly faults: readonly string[];
  /** What happened, beyond figures, by file name: for `evidence`. */
  readonly record?: DrillRecord;
}

export type DrillRecord = Readonly<Record<string, string | Uint8Array>>;

/** What is written to `--json FILE`; the headline's figures stand beside these members. */
export interface DrillResult extends Omit<DrillOutcome, "headline" | "record"> {
  readonly [figure: string]: unknown;
  readonly drill: string;
  readonly started_at: string;
  readonly machine: Readonly<Record<string, unknown>>;
  readonly settings: Readonly<Record<string, unknown>>;
  /** Each goal with what was measured. */
  readonly goals: readonly (Goal & { readonly measured: number; readonly met: boolean })[];
}

export interface Drill {
  readonly about: string;
  /** What was set, as the result repeats it. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly goals: readonly Goal[];
  /** `keepsRecord`: with `--evidence`. */
  run(bench: Bench, keepsRecord: boolean): Promise<DrillOutcome>;
  /** With `--evidence`: what is kept, by its path under docs/evidence/. `record`: of the run. */
  evidence(result: DrillResult, signal: AbortSignal, record: DrillRecord): Promise<DrillRecord>;
}

export function isMet({ is, limit }: Goal, measured: number): boolean {
  if (is === "at_most") return measured <= limit;
  return is === "under" ? measured < limit : measured > limit;
}
