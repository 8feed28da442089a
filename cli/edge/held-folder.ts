// What a fetcher holds, in a folder of its own: bundles under their digests, and one pointer, held.json, that says what is
// trusted and active. Made by cli/edge/fetching.ts for shared/edge's port.
//
// A restart after a crash at any step finds the old state or the new one, whole:
//
// | the crash comes …                          | a restart finds                             | and does                          |
// |--------------------------------------------|---------------------------------------------|-----------------------------------|
// | before or while a bundle's part is written | the old pointer, perhaps a *.part           | goes on with the old; sweeps it   |
// | after the part is whole, before its rename | the old pointer, a *.part                   | the same                          |
// | after its rename                           | the old pointer, a bundle nobody names      | the same; the bundle is swept     |
// | before or while the pointer's part is written | the old pointer, perhaps a *.part        | the same                          |
// | after that part is whole, before its rename | the old pointer, a *.part                  | the same                          |
// | after the rename, before the sweep         | the new pointer, bundles of the old one     | goes on with the new; sweeps them |
// | while the disk is full (not a crash)       | the old pointer                             | goes on with the old, and says so |
//
// The order on the disk is kept by fsync: a part before its rename, the folder after it.

import { createHash, randomUUID } from "node:crypto";
import { open, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { heldSha256, heldState, type HeldState, type HeldStore, type Kept } from "../../shared/edge/held-state.ts";
import { errorCode, Failure } from "../failure.ts";
import { diskErrors, makeFolder } from "../folders.ts";

const pointerName = "held.json";
const bundlesName = "bundles";
/** The trusted metadata is at most 1.2 MB; the rest is small beside it. */
const pointerBytesMax = 16 * 1024 * 1024;

/** Where a fault may be put in, in the order of the table above. */
export type Step = "open" | "write" | "sync" | "rename" | "sync folder" | "sweep";
/** Called before each step; a test throws from it. */
export type BeforeStep = (step: Step, file: "bundle" | "pointer") => void;

export interface HeldFolder extends HeldStore {
  /** Null where nothing was held yet. Throws Failure where the pointer is damaged. */
  load(): Promise<HeldState | null>;
}

/** Takes the folder over: sweeps what an end in the middle has left. Throws Failure where it cannot be made. */
export async function openHeldFolder(folder: string, beforeStep: BeforeStep = () => undefined): Promise<HeldFolder> {
  const bundles = join(folder, bundlesName);
  const pointer = join(folder, pointerName);
  await makeFolder(bundles);
  let generation = 0;

  async function load(): Promise<HeldState | null> {
    const state = await readPointer(pointer);
    generation = state?.generation ?? 0;
    await sweep(state, "");
    return state;
  }

  /** `partsOf`: whose parts go, by how their names begin; those of others are being written while this process runs. */
  async function sweep(state: HeldState | null, partsOf: string): Promise<void> {
    beforeStep("sweep", "pointer");
    const named = new Set(Object.values(state?.active ?? {}).map((active) => `${heldSha256(active)}.tar.gz`));
    for (const name of await readdir(folder))
      if (name.startsWith(partsOf) && name.endsWith(".part")) await rm(join(folder, name), { force: true });
    for (const name of await readdir(bundles)) if (!named.has(name)) await rm(join(bundles, name), { force: true });
  }

  async function put(path: string, folderOfIt: string, content: Uint8Array, file: "bundle" | "pointer"): Promise<Kept> {
    const part = `${path}.${randomUUID()}.part`;
    let isInPlace = false;
    try {
      beforeStep("open", file);
      const handle = await open(part, "wx", 0o600);
      try {
        beforeStep("write", file);
        await handle.writeFile(content);
        beforeStep("sync", file);
        await handle.sync();
      } finally {
        await handle.close();
      }
      beforeStep("rename", file);
      await rename(part, path);
      isInPlace = true;
      beforeStep("sync folder", file);
      await syncFolder(folderOfIt);
      return { ok: true };
    } catch (error) {
      const code = errorCode(error);
      const reason = diskErrors[code ?? ""];
      // Once it is in place, nobody can say that nothing has changed: that is a crash, and a restart finds out.
      if (reason === undefined || isInPlace) throw error;
      await rm(part, { force: true });
      return { ok: false, reason: `${reason} (${code})` };
    }
  }

  return {
    load,
    putBundle: async (sha256, bytes) => await put(join(bundles, `${sha256}.tar.gz`), bundles, bytes, "bundle"),
    async swap(state) {
      const there = await readPointer(pointer);
      if ((there?.generation ?? 0) !== generation)
        throw new Failure("conflict", `Another process holds policies in ${folder}`, {
          advice: "Let one process fetch into a folder; name another one with --state.",
        });
      const kept = await put(pointer, folder, Buffer.from(`${JSON.stringify(state)}\n`), "pointer");
      if (!kept.ok) return kept;
      ({ generation } = state);
      await sweep(state, pointerName);
      return kept;
    },
    async bundle(sha256): Promise<Bytes | null> {
      const bytes = await readFile(join(bundles, `${sha256}.tar.gz`)).catch((error: unknown) => {
        if (errorCode(error) === "ENOENT") return null;
        throw error;
      });
      if (bytes === null || createHash("sha256").update(bytes).digest("hex") !== sha256) return null;
      return new Uint8Array(bytes);
    },
  };
}

async function syncFolder(path: string): Promise<void> {
  // Windows opens no folders; NTFS keeps renames in order by its own journal.
  if (process.platform === "win32") return;
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** What stands in the pointer; null where there is none. Throws Failure where it is damaged. */
async function readPointer(path: string): Promise<HeldState | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw new Failure("failure", `${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  try {
    if (text.length <= pointerBytesMax) return heldState.parse(JSON.parse(text));
  } catch (error) {
    if (!(error instanceof SyntaxError) && (error as Error).name !== "ZodError") throw error;
  }
  throw new Failure("failure", `${path} is damaged`, {
    advice:
      "Nothing is served from it. Put it back from a copy, or begin with an empty folder: what is trusted begins at the " +
      "pinned root then, and versions that were seen before are not known any more.",
  });
}

/** What a folder holds, for who only shows it: nothing is swept. */
export const readHeld = (folder: string): Promise<HeldState | null> => readPointer(join(folder, pointerName));

/** Forgets which bundles and deltas failed; answers how many, or null where nothing is held. Throws Failure where that cannot be written. */
export async function clearQuarantine(folder: string): Promise<number | null> {
  const store = await openHeldFolder(folder);
  const state = await store.load();
  if (state === null) return null;
  const kept = await store.swap({ ...state, generation: state.generation + 1, quarantine: [], failed_deltas: [] });
  if (!kept.ok) throw new Failure("failure", `${folder} cannot be written: ${kept.reason}`);
  return state.quarantine.length + state.failed_deltas.length;
}
