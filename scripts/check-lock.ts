// Checks package-lock.json: every optional dependency of every entry is in it (an npm that left platform packages out
// makes `npm ci` fail elsewhere), no entry names a registry, exact pins only, and every package with an install script
// is allowed one. Called by scripts/test.ts.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

interface LockEntry {
  readonly version?: string;
  readonly resolved?: string;
  readonly integrity?: string;
  readonly hasInstallScript?: boolean;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

export interface Lock {
  readonly packages: Readonly<Record<string, LockEntry>>;
}

export interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly allowScripts?: Readonly<Record<string, boolean>>;
}

const nameOf = (path: string): string => path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);

/** The folders where Node looks for a package that the entry at `path` asks for, innermost first. */
function placesOf(path: string, name: string): string[] {
  const places: string[] = [];
  for (let at = path; at !== "";) {
    places.push(`${at}/node_modules/${name}`);
    const cut = at.lastIndexOf("/node_modules/");
    at = cut === -1 ? "" : at.slice(0, cut);
  }
  return [...places, `node_modules/${name}`];
}

/** What is wrong, a sentence each. */
export function lockComplaints(lock: Lock, manifest: Manifest): string[] {
  const complaints: string[] = [];
  for (const [path, entry] of Object.entries(lock.packages)) {
    for (const name of Object.keys(entry.optionalDependencies ?? {})) {
      if (!placesOf(path, name).some((place) => place in lock.packages)) {
        complaints.push(`${path || "the project"} has the optional dependency ${name}, which is not in the lockfile`);
      }
    }
    if (entry.resolved !== undefined)
      complaints.push(`${path} names where it came from: ${entry.resolved.slice(0, 40)}`);
    if (path !== "" && entry.integrity === undefined) complaints.push(`${path} has no integrity`);
    if (entry.hasInstallScript === true && manifest.allowScripts?.[nameOf(path)] === undefined) {
      complaints.push(`${nameOf(path)} has an install script, and package.json's allowScripts does not name it`);
    }
  }
  for (const [name, range] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    if (!/^\d+\.\d+\.\d+(?:-[\w.]+)?$/.test(range)) complaints.push(`${name} is not pinned to one version: ${range}`);
    const locked = lock.packages[`node_modules/${name}`]?.version;
    if (locked !== range)
      complaints.push(`${name} is ${range} in package.json and ${locked ?? "absent"} in the lockfile`);
  }
  return complaints;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const read = (name: string): unknown => JSON.parse(readFileSync(new URL(`../${name}`, import.meta.url), "utf8"));
  const complaints = lockComplaints(read("package-lock.json") as Lock, read("package.json") as Manifest);
  for (const complaint of complaints) console.error(complaint);
  process.exitCode = complaints.length === 0 ? 0 : 1;
}
