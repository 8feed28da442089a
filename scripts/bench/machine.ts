// What a benchmark ran on, and the processor time that the stack's processes took (Linux: /proc). Called by the benchmarks.

import { readdirSync, readFileSync, statfsSync } from "node:fs";
import { createRequire } from "node:module";
import { arch, cpus, loadavg, platform, totalmem } from "node:os";
import { withClient } from "../stack/connection.ts";
import type { Stack } from "../stack/index.ts";

/** statfs(2), `TMPFS_MAGIC`. */
const tmpfs = 0x01021994;
/** What the kernel counts processor time in for programs: USER_HZ, 100 on every Linux that Node runs on. */
const ticksPerSecond = 100;

const versionOf = (name: string): string =>
  (createRequire(import.meta.url)(`${name}/package.json`) as { version: string }).version;

export interface Machine {
  readonly platform: string;
  readonly processor: string;
  readonly cores: number;
  readonly memory_gib: number;
  readonly node: string;
  readonly workerd: string;
  readonly miniflare: string;
}

export const machineFacts = (): Machine => ({
  platform: `${platform()} ${arch()}`,
  processor: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  memory_gib: Math.round(totalmem() / 2 ** 30),
  node: process.versions.node,
  workerd: versionOf("workerd"),
  miniflare: versionOf("miniflare"),
});

/** The load of the last minute: what else ran beside the benchmark, and so how far its figures are to be trusted. */
export const loadAverage = (): number => loadavg()[0] ?? 0;

/** Durability as PostgreSQL itself says, and not as it was started: a benchmark without fsync measures something else. */
export async function requireDurable(stack: Stack): Promise<string> {
  const { rows } = await withClient(stack.databaseUrls.owner, (client) =>
    client.query<{ fsync: string; pages: string; commit: string; version: string }>(
      `select current_setting('fsync') as fsync, current_setting('full_page_writes') as pages,
         current_setting('synchronous_commit') as commit, current_setting('server_version') as version`,
    ),
  );
  const { fsync, pages, commit, version } = rows[0]!;
  if (fsync !== "on" || pages !== "on" || commit !== "on")
    throw new Error("PostgreSQL is not durable here: fsync, full_page_writes and synchronous_commit must be on");
  if (statfsSync(stack.folder).type === tmpfs) throw new Error(`${stack.folder} is in memory, not on a disk`);
  return version;
}

export interface ProcessorTime {
  readonly workerd_s: number;
  readonly postgres_s: number;
  /** This process: the load, the Neon proxy and the watching. */
  readonly harness_s: number;
  /** How long workerd's main thread, on which all workers and objects run, was ready and had no core: others' load. */
  readonly workerd_waited_s: number;
}

/** So far; null where there is no /proc. */
export function processorTime(stack: Stack): ProcessorTime | null {
  if (platform() !== "linux") return null;
  const processes = readProcesses();
  const total = (pick: (process: Process) => boolean): number =>
    processes.filter(pick).reduce((sum, { seconds }) => sum + seconds, 0);
  const postmaster = stack.postgres.pid();
  const own = process.cpuUsage();
  const workerd = processes.find(({ parent, name }) => parent === process.pid && name === "workerd");
  // Nanoseconds on a core, nanoseconds ready without one, slices (Documentation/scheduler/sched-stats.rst of Linux).
  const waitedNs = workerd === undefined ? "0" : (statusOf(workerd.pid, "schedstat")?.split(" ")[1] ?? "0");
  return {
    workerd_s: total(({ parent, name }) => parent === process.pid && name === "workerd"),
    postgres_s: total(({ pid, parent }) => pid === postmaster || parent === postmaster),
    harness_s: (own.user + own.system) / 1e6,
    workerd_waited_s: Number(waitedNs) / 1e9,
  };
}

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly name: string;
  readonly seconds: number;
}

function readProcesses(): Process[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      const text = statusOf(Number(pid), "stat");
      const match = text === null ? null : /^(\d+) \((.*)\) \S (.*)$/s.exec(text.trim());
      if (match === null) return [];
      // proc(5): after the state come ppid (4), …, utime (14), stime, and those of children that were waited for.
      const fields = match[3]!.split(" ").map(Number);
      const ticks = fields.slice(10, 14).reduce((sum, value) => sum + value, 0);
      return [{ pid: Number(pid), parent: fields[0]!, name: match[2]!, seconds: ticks / ticksPerSecond }];
    });
}

function statusOf(pid: number, file: "stat" | "schedstat"): string | null {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "utf8");
  } catch (error) {
    // It ended meanwhile.
    if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}
