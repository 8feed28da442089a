// A machine that has sh, openssl, unzip, DuckDB and the plainest tools of POSIX, and nothing else: a PATH of its own. For the
// tests that check packs as a stranger does.

import { spawnSync } from "node:child_process";
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { tool } from "./tools.ts";

/** All of coreutils that check.sh and README.txt of a pack use. */
const plainTools = ["cat", "cut", "head", "mktemp", "od", "rm", "sort", "tail", "tr", "wc"];
const runMsMax = 120_000;

export interface Ran {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Stranger {
  readonly folder = mkdtempSync(join(tmpdir(), "maestro-stranger-"));
  readonly #bin = join(this.folder, "bin");

  /** `shell`: what is called sh here, dash where it is there. Throws where the machine lacks a program. */
  constructor(shell: string = which("dash") ?? which("sh")!) {
    mkdirSync(this.#bin);
    symlinkSync(shell, join(this.#bin, "sh"));
    for (const name of plainTools) symlinkSync(which(name)!, join(this.#bin, name));
    for (const name of ["openssl", "unzip", "duckdb"] as const) {
      const program = tool(name);
      if (program !== null) symlinkSync(program, join(this.#bin, name));
    }
  }

  /** Writes a file, and answers its path. */
  write(name: string, content: string | Uint8Array): string {
    const path = join(this.folder, name);
    writeFileSync(path, content);
    return path;
  }

  sh(args: readonly string[], cwd = this.folder, env: Record<string, string> = {}, input = ""): Ran {
    const { status, stdout, stderr } = spawnSync(join(this.#bin, "sh"), [...args], {
      cwd,
      env: { PATH: this.#bin, HOME: this.folder, TMPDIR: this.folder, ...env },
      encoding: "utf8",
      input,
      timeout: runMsMax,
    });
    return { status, stdout, stderr };
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export function which(name: string): string | null {
  for (const folder of (process.env["PATH"] ?? "").split(delimiter)) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there: the next folder.
    }
  }
  return null;
}
