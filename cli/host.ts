// What `maestro` needs of the process it runs in: streams, environment, clock, interruption. `main.ts` fills it from
// Node; tests fill it with buffers.

import type { Readable, Writable } from "node:stream";

export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly stdin: Readable & { readonly isTTY?: boolean; setRawMode?(on: boolean): unknown };
  /** `columns`: how wide a terminal is. */
  readonly stdout: Writable & { readonly columns?: number };
  readonly stderr: Writable;
  readonly stdoutIsTerminal: boolean;
  readonly stderrIsTerminal: boolean;
  /** Aborts at the first Ctrl-C or SIGTERM. */
  readonly interrupted: AbortSignal;
  now(): number;
  /** Resolves after `ms`, or rejects when `signal` aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}
