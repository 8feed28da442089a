// A host for tests: folders of their own, streams in memory, no waiting between retries. Used by tests in cli/ and
// test/contract.

import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable, Writable } from "node:stream";
import { onTestFinished } from "vitest";
import type { Host } from "../host.ts";
import { runMaestro } from "../program.ts";

export interface TestHost extends Host {
  readonly env: Record<string, string | undefined>;
  readonly home: string;
  readonly slept: number[];
  interrupt(): void;
  out(): string;
  err(): string;
}

/** To remove a test's thousands of files on a machine that is busy; in ms. */
const removeMsMax = 60_000;

/** A folder that goes when the test ends. */
export function testFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "maestro-test-")));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }), removeMsMax);
  return folder;
}

function collector(): { stream: Writable; text(): string } {
  const chunks: string[] = [];
  const stream = new Writable({
    write(chunk, _encoding, done) {
      chunks.push(String(chunk));
      done();
    },
  });
  return { stream, text: () => chunks.join("") };
}

interface TestHostOptions {
  readonly home?: string;
  /** A stream is typed into, as on a terminal. */
  readonly stdin?: string | Uint8Array | Readable;
  readonly terminal?: boolean;
  readonly env?: Record<string, string>;
}

export function testHost(options: TestHostOptions = {}): TestHost {
  const home = options.home ?? testFolder();
  const [stdout, stderr] = [collector(), collector()];
  const interruption = new AbortController();
  const slept: number[] = [];
  return {
    env: { HOME: home, ...options.env },
    home,
    cwd: home,
    stdin:
      options.stdin instanceof Readable
        ? Object.assign(options.stdin, { isTTY: true })
        : Readable.from(options.stdin === undefined ? [] : [Buffer.from(options.stdin)]),
    stdout: stdout.stream,
    stderr: stderr.stream,
    stdoutIsTerminal: options.terminal === true,
    stderrIsTerminal: options.terminal === true,
    interrupted: interruption.signal,
    now: Date.now,
    slept,
    sleep(ms, signal) {
      slept.push(ms);
      signal?.throwIfAborted();
      return Promise.resolve();
    },
    interrupt: () => interruption.abort(),
    out: () => stdout.text(),
    err: () => stderr.text(),
  };
}

/** One command line on a host; answers the exit code, the streams and, with --json, the value on stdout. */
export async function maestro(host: TestHost, ...argv: string[]) {
  const [outBefore, errBefore] = [host.out().length, host.err().length];
  const code = await runMaestro(argv, host);
  const out = host.out().slice(outBefore);
  const err = host.err().slice(errBefore);
  return { code, out, err, json: (): Record<string, unknown> => JSON.parse(out) as Record<string, unknown> };
}
