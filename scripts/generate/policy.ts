// Compiles policy/rego to WASM with a real OPA: `node scripts/generate/policy.ts` writes policy/generated/. Its output
// is committed, so that only a change of the policy needs OPA; the check compares `policySourceDigest()` with the digest
// in authz.json, and where there is an OPA, the bytes.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { access, constants, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { gunzipSync } from "node:zlib";
import { unpackTar } from "modern-tar";
import { openRouteEntrypoint, policyEntrypoint, workerCallEntrypoint } from "../../shared/policy/compiled.ts";

const run = promisify(execFile);
const project = new URL("../../", import.meta.url);
const sources = new URL("policy/rego/", project);
const generated = new URL("policy/generated/", project);

export interface PolicyBuild {
  /** `policySourceDigest()` of what was compiled. */
  readonly source_sha256: string;
  readonly opa_version: string;
  readonly wasm_sha256: string;
}

const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");

/** Names of the policy's files, tests aside, in byte order. */
async function policyFiles(): Promise<string[]> {
  const names = await readdir(sources);
  return names.filter((name) => name.endsWith(".rego") && !name.endsWith("_test.rego")).sort();
}

/** Lower-case hex SHA-256 over name and digest of each file that is compiled. */
export async function policySourceDigest(): Promise<string> {
  const lines: string[] = [];
  for (const name of await policyFiles()) lines.push(`${name} ${sha256(await readFile(new URL(name, sources)))}\n`);
  return sha256(lines.join(""));
}

export async function committedPolicyBuild(): Promise<PolicyBuild & { readonly wasm: Uint8Array<ArrayBuffer> }> {
  const build = JSON.parse(await readFile(new URL("authz.json", generated), "utf8")) as PolicyBuild;
  return { ...build, wasm: new Uint8Array(await readFile(new URL("authz.wasm", generated))) };
}

/** The OPA named by the environment variable OPA, or the first in GOBIN, PATH and ~/go/bin; null where there is none. */
export async function findOpa(): Promise<string | null> {
  const { OPA, GOBIN, PATH = "" } = process.env;
  const folders = [...(GOBIN === undefined ? [] : [GOBIN]), ...PATH.split(delimiter), join(homedir(), "go", "bin")];
  const candidates = OPA === undefined ? folders.map((folder) => join(folder, "opa")) : [OPA];
  for (const candidate of candidates) {
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch {
      // Not there, or not ours to run: the next one.
    }
  }
  return null;
}

/** Compiles the policy; the same source and OPA give the same bytes. */
export async function buildPolicy(opa: string): Promise<PolicyBuild & { readonly wasm: Uint8Array }> {
  const folder = await mkdtemp(join(tmpdir(), "policy-"));
  try {
    const bundle = join(folder, "bundle.tar.gz");
    const files = await policyFiles();
    // Relative names: the bundle holds the names it was given, and the project may lie anywhere.
    const rules = [policyEntrypoint, workerCallEntrypoint, openRouteEntrypoint];
    const entrypoints = rules.flatMap((name) => ["--entrypoint", name]);
    await run(opa, ["build", "--target", "wasm", ...entrypoints, "--output", bundle, ...files], { cwd: sources });
    const { stdout } = await run(opa, ["version"]);
    const entries = await unpackTar(gunzipSync(await readFile(bundle)));
    const wasm = entries.find((entry) => entry.header.name.replace(/^\//, "") === "policy.wasm")?.data;
    if (wasm === undefined) throw new Error("opa build left no policy.wasm");
    const version = /^Version: (\S+)$/m.exec(stdout)?.[1] ?? "unknown";
    return { source_sha256: await policySourceDigest(), opa_version: version, wasm_sha256: sha256(wasm), wasm };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const opa = await findOpa();
  if (opa === null) {
    console.error("No OPA found: `go install github.com/open-policy-agent/opa@v1.22.2`, or set OPA to its path.");
    process.exitCode = 1;
  } else {
    const { wasm, ...build } = await buildPolicy(opa);
    await writeFile(new URL("authz.wasm", generated), wasm);
    await writeFile(new URL("authz.json", generated), `${JSON.stringify(build, null, 2)}\n`);
    console.log(`policy/generated: ${wasm.length} bytes, OPA ${build.opa_version}, source ${build.source_sha256}`);
  }
}
