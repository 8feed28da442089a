// Provider B on this machine: workers/edge/bunny.ts as one file, on Deno from npm through Bunny's SDK. Called by startStack. Deno
// gets the addresses that it needs and its own settings, and nothing else of this machine.

import { spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { StackFailure } from "./failure.ts";
import type { Keeper } from "./keeper.ts";
import { loopback } from "./ports.ts";
import { projectFolder } from "./workers.ts";

const startMsMax = 10_000;
const stopMsMax = 2_000;
const pollMs = 10;

/** What the script finds in its environment; docs/edge/SERVING.md lists the same names for Bunny. */
export interface EdgeBSettings {
  readonly BUNNY_STORAGE_URL: string;
  readonly BUNNY_STORAGE_ZONE: string;
  readonly BUNNY_STORAGE_READ_ONLY_KEY: string;
  readonly API_ORIGIN: string;
  readonly EDGE_LINK_KEY: string;
  readonly EDGE_METRICS_KEY: string;
}

export interface EdgeBOptions {
  /** The state folder. */
  readonly folder: string;
  readonly port: number;
  /** Of prepareDenoScript. */
  readonly script: string;
  readonly settings: EdgeBSettings;
  readonly keeper: Keeper;
  readonly onDeath: (how: string) => void;
}

export interface EdgeB {
  readonly url: string;
  readonly logPath: string;
  pid(): number;
  stop(): Promise<void>;
}

export async function startEdgeB(options: EdgeBOptions): Promise<EdgeB> {
  const url = `http://${loopback}:${options.port}`;
  const folder = join(options.folder, "edge-b");
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const scriptPath = join(folder, "bunny.js");
  writeFileSync(scriptPath, options.script, { mode: 0o600 });
  const logPath = join(options.folder, "logs", "edge-b.log");
  const log = openSync(logPath, "a", 0o600);
  const settings = { EDGE_PROVIDER: "b", EDGE_LISTEN_PORT: String(options.port), ...options.settings };
  const reached = [url, settings.BUNNY_STORAGE_URL, settings.API_ORIGIN].map((address) => new URL(address).host);
  const child = spawn(
    denoBinary(),
    [
      "run",
      "--no-remote",
      "--cached-only",
      "--no-npm",
      "--no-config",
      "--no-lock",
      "--no-prompt",
      `--allow-net=${reached.join(",")}`,
      `--allow-env=${Object.keys(settings).join(",")}`,
      scriptPath,
    ],
    {
      cwd: folder,
      detached: true,
      stdio: ["ignore", log, log],
      env: { ...settings, DENO_DIR: join(folder, "deno"), DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1", TZ: "UTC" },
    },
  );
  closeSync(log);
  const state: { ended: string | null; stopping: boolean } = { ended: null, stopping: false };
  const gone = new Promise<void>((resolve) => {
    const end = (how: string): void => {
      if (state.ended !== null) return;
      state.ended = how;
      if (child.pid !== undefined) options.keeper.forget(child.pid);
      resolve();
      if (!state.stopping) options.onDeath(how);
    };
    child.once("error", (error) => end(error.message));
    child.once("exit", (code, signal) => end(signal ?? `exit status ${code}`));
  });
  if (child.pid !== undefined) {
    options.keeper.watch(child.pid);
    // For whoever wants to see what a provider's outage is: README stops this process for a while.
    writeFileSync(join(folder, "pid"), `${child.pid}\n`);
  }

  async function stop(): Promise<void> {
    state.stopping = true;
    if (state.ended !== null) return;
    child.kill("SIGINT");
    const forced = setTimeout(() => child.kill("SIGKILL"), stopMsMax);
    await gone;
    clearTimeout(forced);
  }

  const deadline = performance.now() + startMsMax;
  while (!(await answers(url))) {
    if (state.ended === null && performance.now() < deadline) {
      await sleep(pollMs);
      continue;
    }
    const how = state.ended ?? `no answer within ${startMsMax} ms`;
    await stop();
    throw new StackFailure(`Provider B cannot be started: Deno: ${how}.`, `The whole log is ${logPath}.`);
  }
  return { url, logPath, pid: () => child.pid ?? 0, stop };
}

/** Any answer: a port that listens. */
async function answers(url: string): Promise<boolean> {
  try {
    await (await fetch(url)).body?.cancel();
    return true;
  } catch {
    return false;
  }
}

/** The platform's package of `deno`, which has the binary; the install script of `deno` itself is not needed. */
function denoBinary(): string {
  const platform = `${process.platform}-${process.arch}${process.platform === "linux" ? "-glibc" : ""}`;
  const path = join(projectFolder, "node_modules", "@deno", platform, "deno");
  if (!existsSync(path)) {
    throw new StackFailure(
      `Deno from npm has no binary for this machine (${platform}).`,
      "Install what package-lock.json lists, optional packages too: npm ci",
    );
  }
  return path;
}
