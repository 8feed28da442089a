// How long `maestro audit verify` takes for a million rows in a folder, as the process that a person starts, and what it needs
// for that. Called by the audit benchmark, and by hand: node scripts/bench/measure-verify.ts [ROWS].

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { projectFolder } from "../stack/workers.ts";
import type { Bench, Figures } from "./benchmark.ts";
import { rounded } from "./statistics.ts";
import { writtenLog } from "./written-log.ts";

const verifyMsMax = 600_000;

/** Preloaded: the whole process's own account, its threads' too, as the last line on stderr. */
const account = `data:text/javascript,${encodeURIComponent(
  'process.on("exit", () => process.stderr.write("\\n" + JSON.stringify(process.resourceUsage())));',
)}`;

interface Usage {
  /** KiB. */
  readonly maxRSS: number;
  /** Microseconds. */
  readonly userCPUTime: number;
  readonly systemCPUTime: number;
}

export async function measureVerify(
  { signal, progress }: Pick<Bench, "signal" | "progress">,
  rows = 1_000_000,
  threads = availableParallelism(),
): Promise<Figures> {
  const log = await writtenLog({ rows, signal, progress: (words) => progress(`verify: writing a log, ${words}`) });
  progress(`verify: ${rows} rows`);
  const home = mkdtempSync(join(tmpdir(), "maestro-verify-"));
  try {
    const startedAt = performance.now();
    const { code, out, err } = await run(
      ["--import", account, join(projectFolder, "cli/main.ts"), "audit", "verify", "--json"].concat(
        ["--dir", log.folder, "--keys", log.keysPath],
        ["--threads", String(threads)],
      ),
      home,
      signal,
    );
    const seconds = (performance.now() - startedAt) / 1_000;
    if (code !== 0 || (JSON.parse(out) as { size?: unknown }).size !== rows)
      throw new Error(`maestro audit verify ended with ${code}: ${out}${err}`);
    const usage = JSON.parse(err.slice(err.lastIndexOf("\n"))) as Usage;
    return {
      rows,
      threads,
      verify_s: rounded(seconds),
      rows_per_s: Math.round(rows / seconds),
      cpu_s: rounded((usage.userCPUTime + usage.systemCPUTime) / 1e6),
      peak_rss_mib: Math.round(usage.maxRSS / 1_024),
    };
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

const run = (
  args: readonly string[],
  home: string,
  signal: AbortSignal,
): Promise<{ code: number | null; out: string; err: string }> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, {
      env: { PATH: process.env["PATH"], HOME: home },
      stdio: ["ignore", "pipe", "pipe"],
      signal,
      timeout: verifyMsMax,
    });
    const [out, err]: [Buffer[], Buffer[]] = [[], []];
    child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({ code, out: Buffer.concat(out).toString(), err: Buffer.concat(err).toString() }),
    );
  });

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [rows, threads] = process.argv.slice(2).map(Number);
  const figures = await measureVerify(
    { signal: new AbortController().signal, progress: (words) => void process.stderr.write(`\r\u001b[2K${words}`) },
    rows,
    threads,
  );
  process.stdout.write(`\n${JSON.stringify(figures, null, 2)}\n`);
}
