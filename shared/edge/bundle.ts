// An OPA bundle (tar.gz), read once as it streams by: what this accepts is kept, signed for and served, and stock OPA loads
// it. Called by the upload (workers/api/policies/) and by `maestro policy publish`. It holds one file at a time, and
// stops at the first thing that may not be. What Rego itself makes of the policies is OPA's to say.

import { concat, hex, utf8Text } from "../contract/bytes.ts";
import { duplicateKey } from "../contract/duplicate-key.ts";
import { bundleBytesMax, policyVersion, tarBytesMax } from "../contract/http-policies.ts";
import { z } from "@hono/zod-openapi";
import { ArchiveRefusal } from "../signing/archive-refusal.ts";
import { SeenNames } from "../signing/entry-names.ts";
import { gunzip } from "../signing/gunzip.ts";
import type { ArchiveTools } from "../signing/package-archive.ts";
import { tarEntries, type TarEntry } from "../signing/tar.ts";
import { BundleData } from "./bundle-data.ts";
import { regoPackage } from "./rego-package.ts";
import { isUnderRoots, overlappingRoots, placeOutsideRoots } from "./roots.ts";

export const manifestName = ".manifest";
const signaturesName = ".signatures.json";
const dataName = "data.json";

export const bundleBounds = {
  bundleBytesMax,
  tarBytesMax,
  /** One `.rego` file, `.manifest`, `.signatures.json`: 1 MiB. */
  textBytesMax: 1024 * 1024,
  /** One `data.json`, which is parsed as a whole: 8 MiB. */
  dataBytesMax: 8 * 1024 * 1024,
} as const;
export type BundleBounds = { readonly [K in keyof typeof bundleBounds]: number };

const rootsMax = 256;
const rootSegmentsMax = 16;

const root = z
  .string()
  .max(512)
  .regex(
    /^(?:[A-Za-z0-9_][A-Za-z0-9_.:@ -]*(?:\/[A-Za-z0-9_][A-Za-z0-9_.:@ -]*)*)?$/,
    "a root is a path like app/authz, without a slash at either end",
  )
  .refine((text) => text.split("/").length <= rootSegmentsMax, `a root has at most ${rootSegmentsMax} segments`);

const manifestShape = z.strictObject({
  revision: policyVersion,
  roots: z.array(root).min(1).max(rootsMax),
  rego_version: z.literal(1, "rego_version is 1: the policies are in the v1 dialect, and say so"),
  file_rego_versions: z.record(z.string(), z.literal(1, "every file is in the v1 dialect: rego_version 1")).optional(),
  wasm: z.array(z.never("WebAssembly is not taken: leave `wasm` out and ship the Rego")).optional(),
  metadata: z.record(z.string(), z.unknown()).optional(),
});

export interface PolicyBundle {
  /** The manifest's `revision`. */
  readonly version: string;
  readonly roots: readonly string[];
  /** Lower-case hex, of the tar.gz. */
  readonly sha256: string;
  readonly bytes: number;
  /** Of the tar inside. */
  readonly tar_sha256: string;
  readonly tar_bytes: number;
  readonly files: number;
}

export type CheckedBundle =
  | { readonly ok: true; readonly bundle: PolicyBundle }
  /** `reason` is a clause about "it", the bundle, that says what to do. */
  | { readonly ok: false; readonly reason: string };

/** Walks the whole archive. Throws only what `archive` threw. */
export async function checkBundle(
  archive: AsyncIterable<Uint8Array>,
  tools: ArchiveTools,
  bounds: BundleBounds = bundleBounds,
): Promise<CheckedBundle> {
  try {
    return { ok: true, bundle: await new Walk(tools, bounds).through(archive) };
  } catch (error) {
    if (error instanceof ArchiveRefusal) return { ok: false, reason: error.message };
    throw error;
  }
}

type Manifest = z.infer<typeof manifestShape>;

class Walk {
  readonly #tools: ArchiveTools;
  readonly #bounds: BundleBounds;
  readonly #names = new SeenNames();
  readonly #packages: { readonly name: string; readonly path: readonly string[] }[] = [];
  readonly #data = new BundleData();
  #waiting: { readonly name: string; readonly path: readonly string[]; readonly value: unknown }[] = [];
  #waitingBytes = 0;
  #manifest: Manifest | null = null;
  #files = 0;

  constructor(tools: ArchiveTools, bounds: BundleBounds) {
    this.#tools = tools;
    this.#bounds = bounds;
  }

  async through(archive: AsyncIterable<Uint8Array>): Promise<PolicyBundle> {
    const { bundleBytesMax: most, tarBytesMax: tarMost } = this.#bounds;
    const whole = counted(archive, this.#tools, most, `it has more than ${most} bytes: split the policy in two`);
    const inside = gunzip(whole.bytes, this.#tools.zlib);
    const tar = counted(
      inside,
      this.#tools,
      tarMost,
      `it unpacks to more than ${tarMost} bytes: split the policy in two`,
    );
    for await (const entry of tarEntries(tar.bytes)) await this.#take(entry);
    const manifest = this.#manifest;
    if (manifest === null)
      throw new ArchiveRefusal(
        `it has no ${manifestName}: add one with revision, roots and rego_version 1 (\`maestro policy publish\` does)`,
      );
    if (this.#files === 0)
      throw new ArchiveRefusal(`it holds no .rego and no ${dataName}: there is nothing to publish`);
    return {
      version: manifest.revision,
      roots: manifest.roots,
      sha256: hex(await whole.hasher.digest()),
      bytes: whole.count(),
      tar_sha256: hex(await tar.hasher.digest()),
      tar_bytes: tar.count(),
      files: this.#files,
    };
  }

  async #take(entry: TarEntry): Promise<void> {
    // `opa build` puts one slash before each name, which OPA takes off; a second one is refused like every empty segment.
    const name = entry.name.startsWith("/") ? entry.name.slice(1) : entry.name;
    // Folders that stand for the top itself hold nothing by themselves.
    if (entry.kind === "folder" && (name === "" || name === ".")) return;
    const refusal = this.#names.add(name, entry.kind);
    if (refusal !== null)
      throw new ArchiveRefusal(`it holds ${refusal}: ${quoted(name)}; rename it, and pack the bundle anew`);
    if (entry.kind === "folder") return;
    const last = name.slice(name.lastIndexOf("/") + 1);
    if (name === manifestName) await this.#takeManifest(entry);
    else if (name === signaturesName) jsonObject(signaturesName, await this.#read(entry, this.#bounds.textBytesMax));
    else if (last === dataName) await this.#takeData(name, entry);
    else if (last.endsWith(".rego") && last !== ".rego") await this.#takeRego(name, entry);
    else throw new ArchiveRefusal(whyNot(name, last));
  }

  async #takeManifest(entry: TarEntry): Promise<void> {
    const bytes = await this.#read(entry, this.#bounds.textBytesMax);
    const value = jsonObject(manifestName, bytes);
    // OPA puts two members of one name together, where they are objects; here the last one would count.
    const twice = duplicateKey(textOf(manifestName, bytes));
    if (twice !== null)
      throw new ArchiveRefusal(`its ${manifestName} has the name ${quoted(twice)} twice in one object: leave one out`);
    const parsed = manifestShape.safeParse(value);
    if (!parsed.success) {
      const [issue] = parsed.error.issues;
      const where = issue?.path.length === 0 ? "" : `, ${issue?.path.join(".")}`;
      throw new ArchiveRefusal(
        `its ${manifestName} is not one that is taken${where}: ${issue?.message ?? "unreadable"}`,
      );
    }
    const overlap = overlappingRoots(parsed.data.roots);
    if (overlap !== null)
      throw new ArchiveRefusal(
        `its roots ${quoted(overlap[0])} and ${quoted(overlap[1])} overlap: leave one of them out of ${manifestName}`,
      );
    this.#manifest = parsed.data;
    for (const { name, path } of this.#packages) this.#holdPackage(name, path);
    for (const { name, path, value: data } of this.#waiting) this.#holdData(name, path, data);
    this.#waiting = [];
  }

  async #takeRego(name: string, entry: TarEntry): Promise<void> {
    const path = regoPackage(textOf(name, await this.#read(entry, this.#bounds.textBytesMax)));
    if (path === null)
      throw new ArchiveRefusal(`${quoted(name)} declares no package: begin it with \`package\` and a path`);
    this.#files += 1;
    if (this.#manifest === null) this.#packages.push({ name, path });
    else this.#holdPackage(name, path);
  }

  #holdPackage(name: string, path: readonly string[]): void {
    const roots = this.#manifest?.roots ?? [];
    if (!isUnderRoots(roots, path))
      throw new ArchiveRefusal(
        `the package ${path.join(".")} of ${quoted(name)} lies under no root: add ${quoted(path.join("/"))} to the roots`,
      );
  }

  async #takeData(name: string, entry: TarEntry): Promise<void> {
    const bytes = await this.#read(entry, this.#bounds.dataBytesMax);
    const value = jsonObject(name, bytes);
    const path = name.split("/").slice(0, -1);
    const refusal = this.#data.add(name, path, value);
    if (refusal !== null) throw new ArchiveRefusal(refusal);
    this.#files += 1;
    if (this.#manifest !== null) return this.#holdData(name, path, value);
    this.#waitingBytes += bytes.length;
    if (this.#waitingBytes > this.#bounds.dataBytesMax)
      throw new ArchiveRefusal(
        `more than ${this.#bounds.dataBytesMax} bytes of data come before ${manifestName}: pack ${manifestName} first`,
      );
    this.#waiting.push({ name, path, value });
  }

  #holdData(name: string, path: readonly string[], value: unknown): void {
    const outside = placeOutsideRoots(this.#manifest?.roots ?? [], path, value);
    if (outside !== null)
      throw new ArchiveRefusal(
        `${quoted(name)} has data at ${quoted(outside.join("/"))}, under no root: add that to the roots, or take it out`,
      );
  }

  async #read(entry: TarEntry, bytesMax: number): Promise<Uint8Array> {
    if (entry.bytes > bytesMax)
      throw new ArchiveRefusal(`${quoted(entry.name)} has more than ${bytesMax} bytes: split it into several files`);
    const pieces: Uint8Array[] = [];
    for await (const piece of entry.body) pieces.push(piece);
    return concat(...pieces);
  }
}

function whyNot(name: string, last: string): string {
  if (last.endsWith(".wasm")) return `it holds WebAssembly, ${quoted(name)}: leave it out and ship the Rego`;
  if (/\.ya?ml$/.test(last)) return `it holds ${quoted(name)}: data is taken as JSON, in files named ${dataName}`;
  if (last === manifestName) return `it holds ${quoted(name)}: the one ${manifestName} stands at the top`;
  if (last === "patch.json") return "it is a delta bundle: publish the whole bundle, deltas are made on the way";
  return `it holds ${quoted(name)}, which OPA does not read: leave it out (files are *.rego, ${dataName}, ${manifestName})`;
}

function jsonObject(name: string, bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(textOf(name, bytes));
  } catch (error) {
    if (error instanceof ArchiveRefusal) throw error;
    throw new ArchiveRefusal(`${quoted(name)} is not JSON: correct it`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new ArchiveRefusal(`${quoted(name)} is not a JSON object: put the value under a name`);
  return value as Readonly<Record<string, unknown>>;
}

function textOf(name: string, bytes: Uint8Array): string {
  try {
    return utf8Text(bytes);
  } catch {
    throw new ArchiveRefusal(`${quoted(name)} is not UTF-8: save it as UTF-8`);
  }
}

const quoted = (text: string): string => JSON.stringify(text.slice(0, 120));

/** The bytes as they are pulled, hashed and counted; refused at the first one too many. */
function counted(source: AsyncIterable<Uint8Array>, { newHasher }: ArchiveTools, bytesMax: number, refusal: string) {
  const hasher = newHasher();
  let seen = 0;
  const bytes = (async function* (): AsyncGenerator<Uint8Array> {
    for await (const piece of source) {
      seen += piece.length;
      if (seen > bytesMax) throw new ArchiveRefusal(refusal);
      hasher.update(piece);
      yield piece;
    }
  })();
  return { bytes, hasher, count: () => seen };
}
