// `maestro witness serve` as a process of its own.

import { spawn, type ChildProcess } from "node:child_process";
import { join } from "node:path";

const main = join(import.meta.dirname, "..", "..", "cli", "main.ts");

export interface RunningWitness {
  readonly child: ChildProcess;
  readonly url: string;
  readonly vkey: string;
  readonly ended: Promise<number | null>;
  /** The server's log: a JSON value a line. */
  err(): string;
}

/** Resolves once it listens. The caller ends it. */
export async function startWitness(state: string, options: readonly string[]): Promise<RunningWitness> {
  const args = ["--disable-sigusr1", main, "witness", "serve", "--json", "--state", state, ...options];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  let [out, err] = ["", ""];
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  await new Promise<void>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      out += chunk.toString();
      if (out.endsWith("\n")) resolve();
    });
    void ended.then((code) => reject(new Error(`the witness ended with ${code}: ${err}`)));
  });
  const { url, vkey } = JSON.parse(out) as { url: string; vkey: string };
  return { child, url, vkey, ended, err: () => err };
}
