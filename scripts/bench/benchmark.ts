// What a benchmark is. scripts/bench.ts repeats it, on a stack of its own each time unless it keeps one, and makes medians and
// spreads.

import type { Stack } from "../stack/index.ts";
import type { Spread } from "./statistics.ts";

/** One run's figures; units are in their names. */
export type Figures = Readonly<Record<string, number>>;
/** By part of the benchmark: a load, a way through the API. */
export type Parts<T> = Readonly<Record<string, Readonly<Record<string, T>>>>;

export interface Bench {
  readonly stack: Stack;
  readonly signal: AbortSignal;
  /** What is being done now, for a person who waits. */
  readonly progress: (words: string) => void;
}

/** What is written to `--json FILE`; the headline's figures stand beside these members. */
export interface BenchmarkResult {
  readonly [figure: string]: unknown;
  readonly benchmark: string;
  readonly started_at: string;
  readonly machine: Readonly<Record<string, unknown>>;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly parts: Parts<Spread>;
}

export interface Benchmark {
  readonly about: string;
  /** What was set, as the result repeats it. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** A state folder that every repeat and every later run uses, and that nobody removes; absent: a new one each time. */
  keptFolder?(): string;
  /** Other workers than the product's, by their wrangler.toml, made in `folder`. */
  workerConfigs?(folder: string): string[];
  /** Another entry of provider B than the product's, relative to the project. */
  readonly edgeBEntry?: string;
  run(bench: Bench): Promise<Parts<number>>;
  /** The figures that stand at the top of the result. */
  headline(parts: Parts<Spread>): Figures;
  /** With `--evidence`: the report that is kept, by its path under docs/evidence/. */
  evidence?(result: BenchmarkResult): Readonly<Record<string, string>>;
  /** Sentences on what must never be, whatever the speed; none where all is well. */
  faults(parts: Parts<Spread>): string[];
}
