// One run of a package's entry point: a Node process of its own under the permission model, without environment,
// in its own process group, with a time limit and a bound on its output. Called by `maestro run`.
//
// Always contained: files through Node (reads only its own folder and the input copy, writes nothing), child processes,
// workers, add-ons, WASI, the inspector, environment, time, output. Three things that the permission model of Node 24
// leaves open are shut by flags: node:sqlite opens any file, V8's own flags write files, SIGUSR1 opens the inspector.
// Where `findIsolation` says `none`, also: the network, Unix sockets, other processes, and all other files by the kernel.
// Where it says `open`, these stay open to the package, and so does what listens there (an inspector of another
// process, a Docker socket). Not contained anywhere: memory outside the heap, and exploits of V8 or the kernel.
// https://nodejs.org/docs/latest-v24.x/api/permissions.html

import { spawn, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { findIsolation, isolatedCommand, type Isolation } from "./isolation.ts";
import { errorCode } from "../failure.ts";

const heapMaxMib = 512;
/** What is kept of the package's stderr: its end. */
const stderrKeptBytes = 16 * 1024;

export interface SandboxPlan {
  /** The unpacked package, an absolute real path. */
  readonly folder: string;
  readonly entryPoint: string;
  /** The run's own copy of the input, an absolute real path; null where the package may not read one. */
  readonly input: string | null;
  /** A file that is not there yet. */
  readonly outputFile: string;
  readonly wallMs: number;
  readonly outputBytesMax: number;
  readonly interrupted: AbortSignal;
  readonly isolation?: Isolation;
}

export type RunEnd = "exited" | "killed" | "time_limit" | "output_limit" | "interrupted" | "not_started";

export interface SandboxResult {
  readonly end: RunEnd;
  /** 0 to 255 where the entry point exited by itself, else null. */
  readonly exitCode: number | null;
  readonly outputBytes: number;
  readonly outputSha256: string;
  /** The end of what the package said on stderr, as it came. */
  readonly stderrTail: string;
  readonly network: Isolation["network"];
}

const nodeCommand = (node: string, folder: string, entryPoint: string, input: string | null): string[] => [
  node,
  "--permission",
  `--allow-fs-read=${folder}`,
  ...(input === null ? [] : [`--allow-fs-read=${input}`]),
  "--no-experimental-sqlite",
  "--freeze-flags-after-init",
  "--disable-sigusr1",
  "--no-addons",
  "--no-warnings",
  `--max-old-space-size=${heapMaxMib}`,
  join(folder, entryPoint),
  ...(input === null ? [] : [input]),
];

async function commandOf(plan: SandboxPlan, isolation: Isolation): Promise<string[]> {
  const { folder, entryPoint, input } = plan;
  if (isolation.unshare === null) return nodeCommand(process.execPath, folder, entryPoint, input);
  // Beside the output: in the run's private folder, which goes when the run is over.
  const root = `${plan.outputFile}.root`;
  await mkdir(root, { mode: 0o700 });
  const inside = { node: "/run/node", folder: "/run/package", input: input === null ? null : "/run/input" };
  const shown = [
    { from: process.execPath, to: inside.node },
    { from: folder, to: inside.folder },
    ...(input === null || inside.input === null ? [] : [{ from: input, to: inside.input }]),
  ];
  const command = nodeCommand(inside.node, inside.folder, entryPoint, inside.input);
  return isolatedCommand(isolation.unshare, root, shown, inside.folder, command);
}

/** Runs to the end, whatever it is: resolves when the whole process group is gone and the output is on disk. */
export async function runSandboxed(plan: SandboxPlan): Promise<SandboxResult> {
  const isolation = plan.isolation ?? (await findIsolation());
  const hash = createHash("sha256");
  const output = await open(plan.outputFile, "wx", 0o600);
  let outputBytes = 0;
  let end: RunEnd = "exited";
  let exitCode: number | null = null;
  let stderrTail = "";
  try {
    if (plan.interrupted.aborted) {
      end = "interrupted";
    } else {
      const [program = "", ...args] = await commandOf(plan, isolation);
      const child = spawn(program, args, {
        cwd: plan.folder,
        env: {},
        detached: true, // a process group of its own
        stdio: ["ignore", "pipe", "pipe"],
      });
      const stop = (why: RunEnd): void => {
        if (end === "exited") end = why;
        killGroup(child);
      };
      const onInterrupt = (): void => stop("interrupted");
      plan.interrupted.addEventListener("abort", onInterrupt, { once: true });
      const timer = setTimeout(() => stop("time_limit"), plan.wallMs);
      const exited = new Promise<number | null>((resolve) => {
        child.once("error", () => {
          stop("not_started");
          resolve(null);
        });
        // Exited, but something in its group may hold the pipes open: nothing is left behind, and the pipes end.
        child.once("exit", (code) => {
          killGroup(child);
          resolve(code);
        });
      });
      const reading = (async () => {
        for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
          const room = plan.outputBytesMax - outputBytes;
          const kept = chunk.length > room ? chunk.subarray(0, room) : chunk;
          hash.update(kept);
          // All of it, or an error: a single write may come short where the disk is nearly full.
          await output.writeFile(kept);
          outputBytes += kept.length;
          if (chunk.length > room) {
            stop("output_limit");
            return;
          }
        }
      })();
      try {
        [exitCode, stderrTail] = await Promise.all([exited, tailOf(child.stderr), reading]);
      } finally {
        if (child.exitCode === null && child.signalCode === null) killGroup(child);
        clearTimeout(timer);
        plan.interrupted.removeEventListener("abort", onInterrupt);
      }
      if (end === "exited" && exitCode === null) end = "killed";
    }
    await output.sync();
  } finally {
    await output.close();
  }
  return {
    end,
    exitCode: end === "exited" ? exitCode : null,
    outputBytes,
    outputSha256: hash.digest("hex"),
    stderrTail,
    network: isolation.network,
  };
}

async function tailOf(stream: Readable): Promise<string> {
  let kept = Buffer.alloc(0);
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    kept = Buffer.concat([kept, chunk]);
    if (kept.length > stderrKeptBytes * 2) kept = kept.subarray(kept.length - stderrKeptBytes);
  }
  return new TextDecoder().decode(kept.subarray(Math.max(0, kept.length - stderrKeptBytes)));
}

/** SIGKILL to every process of the child's group: it gets no say in when it ends. */
function killGroup(child: ChildProcess): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch (error) {
    // ESRCH: gone already. EPERM (macOS): only zombies are left.
    if (errorCode(error) !== "ESRCH" && errorCode(error) !== "EPERM") throw error;
  }
}
