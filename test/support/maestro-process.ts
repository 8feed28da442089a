// `maestro` as a process of its own, as on an install's host: with a clock that is wrong, where a test wants one.

import { execFile } from "node:child_process";
import { resolve } from "node:path";

const main = resolve(import.meta.dirname, "..", "..", "cli", "main.ts");
const runMsMax = 60_000;

/** A module to preload: every reading of the clock is off by so much. */
const skewedClock = (skewMs: number): string =>
  `data:text/javascript,${encodeURIComponent(`
    const True = Date;
    globalThis.Date = class Date extends True {
      constructor(...given) {
        if (given.length === 0) super(True.now() + ${skewMs});
        else super(...given);
      }
      static now() {
        return True.now() + ${skewMs};
      }
    };
  `)}`;

export interface Ended {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Node with a clock that is off by `skewMs`. `folder`: where it works, and its home. */
export const skewedNode = (
  skewMs: number,
  folder: string,
  env: Readonly<Record<string, string>>,
  args: readonly string[],
): Promise<Ended> =>
  new Promise((done) => {
    execFile(
      process.execPath,
      ["--import", skewedClock(skewMs), ...args],
      { cwd: folder, env: { HOME: folder, ...env }, timeout: runMsMax },
      (error, out, err) =>
        done({ code: error === null ? 0 : typeof error.code === "number" ? error.code : -1, out, err }),
    );
  });

export const skewedMaestro = (
  skewMs: number,
  folder: string,
  env: Readonly<Record<string, string>>,
  ...argv: readonly string[]
): Promise<Ended> => skewedNode(skewMs, folder, env, [main, ...argv]);
