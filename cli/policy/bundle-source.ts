// A policy's bundle from a folder of Rego and data, or from a tar.gz that is there already, read as the API will read it. Called
// by `maestro policy publish`. The same files give the same bytes.

import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { createInflateRaw, crc32 } from "node:zlib";
import { bundleBytesMax } from "../../shared/contract/http-policies.ts";
import { checkBundle, manifestName, type PolicyBundle } from "../../shared/edge/bundle.ts";
import { regoPackage } from "../../shared/edge/rego-package.ts";
import { errorCode, Failure } from "../failure.ts";
import { filesInFolder, tarGzOf, type FolderFile } from "../package/archive.ts";

export interface SourceBundle {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly bundle: PolicyBundle;
  /** Files of the folder that are not in the bundle, since OPA would not read them, or since they are tests. */
  readonly leftOut: readonly string[];
}

/** `revision`: what the .manifest is to say; null: what it says, or where there is none, a digest of the files. */
export async function bundleFrom(path: string, revision: string | null): Promise<SourceBundle> {
  const found = await stat(path).catch((error: unknown) => {
    throw new Failure("usage", `${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  });
  if (!found.isDirectory()) {
    if (revision !== null)
      throw new Failure("usage", "--revision is for a folder; a packed bundle says its own in .manifest");
    if (found.size > bundleBytesMax)
      throw new Failure("usage", `${path} has ${found.size} bytes; a bundle has at most ${bundleBytesMax}`);
    return { ...(await checked(new Uint8Array(await readFile(path)))), leftOut: [] };
  }
  const all = await filesInFolder(path);
  const files = all.filter(({ name }) => belongs(name));
  const manifest = { name: manifestName, bytes: manifestOf(files, revision) };
  const rest = files.filter(({ name }) => name !== manifestName);
  // .manifest first: its reader knows the roots before the data comes.
  rest.sort((left, right) => (left.name < right.name ? -1 : 1));
  const bytes = await tarGzOf([manifest, ...rest]);
  const leftOut = all.filter(({ name }) => !belongs(name)).map(({ name }) => name);
  return { ...(await checked(bytes)), leftOut: leftOut.toSorted() };
}

const belongs = (name: string): boolean =>
  name === manifestName ||
  name === ".signatures.json" ||
  /(?:^|\/)data\.json$/.test(name) ||
  (name.endsWith(".rego") && !name.endsWith("_test.rego"));

async function checked(bytes: Uint8Array<ArrayBuffer>): Promise<Omit<SourceBundle, "leftOut">> {
  const tools = { zlib: { createInflateRaw, crc32 }, newHasher: () => createHash("sha256") };
  const read = await checkBundle(oneChunk(bytes), tools);
  if (read.ok) return { bytes, bundle: read.bundle };
  throw new Failure("usage", `The bundle would be refused: ${read.reason}`, {
    advice: "Correct it, and publish again.",
  });
}

async function* oneChunk(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** The folder's own .manifest, or one made: v1, and as roots the first segment of each package and each name in data. */
function manifestOf(files: readonly FolderFile[], revision: string | null): Uint8Array {
  const own = files.find(({ name }) => name === manifestName);
  if (own !== undefined) {
    if (revision === null) return own.bytes;
    const value = parsed(own);
    return Buffer.from(JSON.stringify({ ...value, revision }));
  }
  const roots = [...new Set(files.flatMap(rootsOf))].toSorted();
  return Buffer.from(JSON.stringify({ revision: revision ?? digestOf(files), roots, rego_version: 1 }));
}

function rootsOf(file: FolderFile): string[] {
  if (file.name.endsWith(".rego")) return regoPackage(Buffer.from(file.bytes).toString("utf8"))?.slice(0, 1) ?? [];
  if (!/(?:^|\/)data\.json$/.test(file.name)) return [];
  const [top, ...below] = file.name.split("/");
  return below.length > 0 ? [top!] : Object.keys(parsed(file));
}

function parsed({ name, bytes }: FolderFile): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString("utf8"));
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Not JSON: the sentence below is the answer to that, too.
  }
  throw new Failure("usage", `${name} is not a JSON object`, { advice: "Correct it, and publish again." });
}

function digestOf(files: readonly FolderFile[]): string {
  const hash = createHash("sha256");
  for (const { name, bytes } of files.toSorted((left, right) => (left.name < right.name ? -1 : 1)))
    hash.update(`${name}\0${bytes.length}\0`).update(bytes);
  return `sha256-${hash.digest("hex").slice(0, 16)}`;
}
