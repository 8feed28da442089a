// A large file by a public link: into FILE.part, resumed by Range after a break (also one of an earlier call), its
// digest checked before it gets its name. Called by `maestro disclosure get`.

import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { ApiProblem, errorCode, Failure, problemOf } from "./failure.ts";
import { notWritten, requireFilePlace, requireWritable } from "./folders.ts";
import type { Host } from "./host.ts";
import { interruptedFailure, networkFailure, readText } from "./http.ts";

const attemptsMax = 6;
const pauseMs = 500;
const idleMs = 30_000;

export interface Wanted {
  readonly url: string;
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Resolves when `file` holds the wanted bytes. What has arrived before a failure stays in FILE.part for the next try. */
export async function download(host: Host, wanted: Wanted, onBytes: (have: number) => void): Promise<void> {
  const part = `${wanted.file}.part`;
  await requireWritable(wanted.file);
  await requireFilePlace(part);
  let resumed = (await sizeOf(part)) > 0;
  for (let attempt = 1; ; attempt += 1) {
    try {
      await fetchRest(host, wanted, part, onBytes);
      if ((await digestOf(part)) === wanted.sha256) {
        await rename(part, wanted.file).catch((error: unknown) => {
          throw notWritten(wanted.file, error);
        });
        return;
      }
      await rm(part, { force: true });
      // The first half may have been of another pack: once more from the start before anyone is accused.
      if (!resumed)
        throw new Failure("verification_failed", "The file that came has another digest than the link promises");
      resumed = false;
    } catch (error) {
      if (!(error instanceof Failure) || error.exit !== "unavailable" || attempt >= attemptsMax) throw error;
      resumed = (await sizeOf(part)) > 0;
      await pause(host);
    }
  }
}

async function pause(host: Host): Promise<void> {
  try {
    await host.sleep(pauseMs, host.interrupted);
  } catch (error) {
    if (host.interrupted.aborted) throw interruptedFailure();
    throw error;
  }
}

async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return 0;
    throw error;
  }
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) hash.update(chunk);
  return hash.digest("hex");
}

async function fetchRest(host: Host, wanted: Wanted, part: string, onBytes: (have: number) => void): Promise<void> {
  let have = await sizeOf(part);
  if (have > wanted.bytes) {
    await rm(part);
    have = 0;
  }
  if (have === wanted.bytes && have > 0) return;
  const idle = new AbortController();
  let timer = setTimeout(() => idle.abort(), idleMs);
  try {
    const response = await fetch(wanted.url, {
      headers: have > 0 ? { range: `bytes=${have}-` } : {},
      signal: AbortSignal.any([host.interrupted, idle.signal]),
      redirect: "error",
    });
    if (response.status === 416) {
      await rm(part, { force: true });
      throw new Failure("unavailable", "The server did not know how to resume the download");
    }
    if (!response.ok) {
      const problem = problemOf(response.status, response.headers.get("content-type"), await readText(response));
      throw new ApiProblem(response.status, problem, null);
    }
    const continues = response.status === 206;
    if (continues && !(response.headers.get("content-range") ?? "").startsWith(`bytes ${have}-`)) {
      await rm(part, { force: true });
      throw new Failure("unavailable", "The server resumed the download at another place");
    }
    if (!continues) have = 0;
    const file = await open(part, continues ? "a" : "w", 0o600);
    try {
      for await (const chunk of response.body ?? []) {
        clearTimeout(timer);
        timer = setTimeout(() => idle.abort(), idleMs);
        have += chunk.length;
        if (have > wanted.bytes) throw new Failure("verification_failed", "More bytes came than the link promises");
        await file.writeFile(chunk);
        onBytes(have);
      }
      await file.sync();
    } finally {
      await file.close();
    }
    if (have < wanted.bytes) throw new Failure("unavailable", "The download ended early");
  } catch (error) {
    if (host.interrupted.aborted) throw interruptedFailure();
    if (error instanceof Failure) throw error;
    if (error instanceof TypeError || idle.signal.aborted) throw networkFailure(new URL(wanted.url).origin, error);
    throw notWritten(part, error);
  } finally {
    clearTimeout(timer);
  }
}
