// `maestro` within a drill's own process, as a user with that role has it: what it remembers is in a folder of the drill's, and what
// it says is kept. Made by the drill of rotating keys and its load.

import { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import type { Host } from "../../cli/host.ts";

export interface DrillHost extends Host {
  out(): string;
  said(): string;
}

export interface DrillUser {
  readonly apiUrl: string;
  /** An API key. */
  readonly key: string;
  readonly folder: string;
}

export function drillHost({ apiUrl, key, folder }: DrillUser, interrupted: AbortSignal): DrillHost {
  const texts = { out: "", said: "" };
  const collected = (name: keyof typeof texts): Writable =>
    new Writable({
      write(piece, _encoding, done) {
        texts[name] += String(piece);
        done();
      },
    });
  return {
    env: { HOME: folder, MAESTRO_API_URL: apiUrl, MAESTRO_API_KEY: key },
    cwd: folder,
    stdin: Readable.from([]),
    stdout: collected("out"),
    stderr: collected("said"),
    stdoutIsTerminal: false,
    stderrIsTerminal: false,
    interrupted,
    now: Date.now,
    sleep: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
    out: () => texts.out,
    said: () => texts.said,
  };
}
