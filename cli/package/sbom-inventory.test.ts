// The sample package as the CLI runs it: sandboxed, on this project's own lockfile and on nasty input.

import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { testFolder } from "../testing/host.ts";
import { packFolder, readPackage, unpackPackage } from "./archive.ts";
import { runSandboxed } from "./sandbox.ts";

const project = resolve(import.meta.dirname, "..", "..");
const source = join(project, "test", "fixtures", "sbom-inventory");

interface Component {
  readonly "bom-ref": string;
  readonly group?: string;
  readonly name: string;
  readonly version?: string;
  readonly scope: string;
  readonly purl: string;
  readonly hashes?: readonly { alg: string; content: string }[];
  readonly licenses?: readonly unknown[];
  readonly evidence: { occurrences: readonly { location: string }[] };
}
interface Bom {
  readonly specVersion: string;
  readonly metadata: { properties: readonly { name: string; value: string }[]; component: { name: string } };
  readonly components: readonly Component[];
  readonly dependencies: readonly { ref: string; dependsOn?: readonly string[] }[];
}

async function inventoryOf(input: string | Uint8Array) {
  const root = testFolder();
  const folder = join(root, "package");
  const archive = await packFolder(source);
  const { manifest } = await readPackage(archive);
  await unpackPackage(archive, manifest.limits.unpacked_bytes, folder);
  writeFileSync(join(root, "input"), input);
  const result = await runSandboxed({
    folder,
    entryPoint: manifest.entry_point,
    input: join(root, "input"),
    outputFile: join(root, "output"),
    wallMs: manifest.limits.wall_ms,
    outputBytesMax: manifest.limits.output_bytes,
    interrupted: new AbortController().signal,
  });
  const output = readFileSync(join(root, "output"), "utf8");
  return { result, output, bom: (): Bom => JSON.parse(output) as Bom };
}

const lock = (packages: unknown, more: Record<string, unknown> = {}): string =>
  JSON.stringify({ name: "app", version: "1.0.0", lockfileVersion: 3, packages, ...more });
const sha512 = `sha512-${Buffer.alloc(64, 7).toString("base64")}`;
const find = (bom: Bom, ref: string): Component | undefined =>
  bom.components.find((component) => component["bom-ref"] === ref);

describe("the inventory of this project's own lockfile", () => {
  test("has every package of the lockfile once, with its digest, and is the same on every run", async () => {
    const path = join(project, "package-lock.json");
    const copy = join(testFolder(), "package-lock.json");
    copyFileSync(path, copy);
    const [first, second] = [await inventoryOf(readFileSync(path)), await inventoryOf(readFileSync(copy))];
    expect(first.result).toMatchObject({ end: "exited", exitCode: 0 });
    expect(second.result.outputSha256).toBe(first.result.outputSha256);
    const { packages } = JSON.parse(readFileSync(path, "utf8")) as {
      packages: Record<string, { version: string; integrity?: string }>;
    };
    const bom = first.bom();
    const locations = bom.components.flatMap((component) =>
      component.evidence.occurrences.map(({ location }) => location),
    );
    expect(locations.toSorted()).toEqual(
      Object.keys(packages)
        .filter((name) => name !== "")
        .toSorted(),
    );
    const { version, integrity } = packages["node_modules/@hono/zod-openapi"]!;
    expect(find(bom, `pkg:npm/%40hono/zod-openapi@${version}`)).toMatchObject({
      group: "@hono",
      name: "zod-openapi",
      version,
      scope: "excluded",
      hashes: [{ alg: "SHA-512", content: Buffer.from(integrity!.slice(7), "base64").toString("hex") }],
      licenses: [{ expression: "MIT" }],
    });
    const refs = new Set(bom.components.map((component) => component["bom-ref"]));
    expect(refs.size).toBe(bom.components.length);
    for (const { ref, dependsOn = [] } of bom.dependencies) {
      expect(ref === "root" || refs.has(ref)).toBe(true);
      expect(dependsOn.every((target) => refs.has(target))).toBe(true);
    }
  });
});

describe("a lockfile", () => {
  test("gives scopes, aliases, workspaces, licences and the graph as npm would resolve it", async () => {
    const { bom: read } = await inventoryOf(
      lock({
        "": {
          name: "app",
          version: "1.0.0",
          dependencies: { a: "1", alias: "npm:real@2" },
          devDependencies: { tool: "1" },
        },
        "node_modules/a": {
          version: "1.0.0",
          integrity: `${sha512} sha1-${Buffer.alloc(20, 1).toString("base64")}`,
          license: "MIT OR Apache-2.0",
          dependencies: { b: "1" },
        },
        "node_modules/a/node_modules/b": { version: "1.0.0" },
        "node_modules/b": { version: "2.0.0", optional: true, license: "SEE LICENSE IN LICENSE.txt" },
        "node_modules/alias": { name: "real", version: "2.0.0" },
        "node_modules/tool": { version: "1.0.0", dev: true, dependencies: { b: "2" } },
        "node_modules/own": { resolved: "packages/own", link: true },
        "packages/own": { name: "@app/own", version: "0.1.0", dependencies: { a: "1" } },
      }),
    );
    const bom = read();
    const counts = Object.fromEntries(bom.metadata.properties.map(({ name, value }) => [name, value]));
    expect(counts).toEqual({
      "maestro:count:components": "6",
      "maestro:count:required": "4",
      "maestro:count:optional": "1",
      "maestro:count:development": "1",
    });
    expect(find(bom, "pkg:npm/a@1.0.0")?.hashes?.map(({ alg }) => alg)).toEqual(["SHA-1", "SHA-512"]);
    expect(find(bom, "pkg:npm/a@1.0.0")?.licenses).toEqual([{ expression: "MIT OR Apache-2.0" }]);
    expect(find(bom, "pkg:npm/b@2.0.0")).toMatchObject({
      scope: "optional",
      licenses: [{ license: { name: "SEE LICENSE IN LICENSE.txt" } }],
    });
    expect(find(bom, "pkg:npm/real@2.0.0")?.evidence.occurrences).toEqual([{ location: "node_modules/alias" }]);
    expect(find(bom, "pkg:npm/%40app/own@0.1.0")?.group).toBe("@app");
    const edges = Object.fromEntries(bom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn ?? []]));
    expect(edges["root"]).toEqual(["pkg:npm/a@1.0.0", "pkg:npm/real@2.0.0", "pkg:npm/tool@1.0.0"]);
    expect(edges["pkg:npm/a@1.0.0"]).toEqual(["pkg:npm/b@1.0.0"]);
    expect(edges["pkg:npm/tool@1.0.0"]).toEqual(["pkg:npm/b@2.0.0"]);
    expect(edges["pkg:npm/%40app/own@0.1.0"]).toEqual(["pkg:npm/a@1.0.0"]);
  });

  test("with one version at two places is one component; with two contents it is two", async () => {
    const other = `sha512-${Buffer.alloc(64, 8).toString("base64")}`;
    const { bom: read } = await inventoryOf(
      lock({
        "node_modules/a": { version: "1.0.0", integrity: sha512, dev: true },
        "node_modules/x/node_modules/a": { version: "1.0.0", integrity: sha512 },
        "node_modules/y/node_modules/a": { version: "1.0.0", integrity: other },
      }),
    );
    expect(
      read().components.map((component) => [
        component["bom-ref"],
        component.scope,
        component.evidence.occurrences.length,
      ]),
    ).toEqual([
      ["pkg:npm/a@1.0.0", "required", 2],
      ["pkg:npm/a@1.0.0#node_modules/y/node_modules/a", "required", 1],
    ]);
  });

  test("of names made to confuse stays data", async () => {
    const { result, bom: read } = await inventoryOf(
      `{"lockfileVersion":3,"packages":{"node_modules/__proto__":{"version":"1.0.0","dependencies":{"constructor":"1"}},"node_modules/constructor":{"version":"1.0.0"}}}`,
    );
    expect(result.exitCode).toBe(0);
    expect(read().components.map(({ name }) => name)).toEqual(["__proto__", "constructor"]);
  });

  test("without packages is an empty inventory", async () => {
    expect((await inventoryOf(lock({}))).bom().components).toEqual([]);
  });
});

test.each([
  ["not JSON", "{", "not JSON"],
  ["not UTF-8", new Uint8Array([0x7b, 0xff, 0x7d]), "not UTF-8"],
  ["empty", "", "not JSON"],
  ["an array", "[]", "no JSON object"],
  ["a package.json", JSON.stringify({ name: "app", version: "1.0.0" }), "lockfileVersion 2 or 3"],
  ["lockfile version 1", JSON.stringify({ lockfileVersion: 1, dependencies: {} }), "lockfileVersion 1"],
  ["packages as an array", lock([]), "no `packages`"],
  ["an entry that is null", lock({ "node_modules/a": null }), "node_modules/a"],
  ["an entry without a version", lock({ "node_modules/a": {} }), "no version"],
  [
    "an integrity that is no hash",
    lock({ "node_modules/a": { version: "1.0.0", integrity: "sha512-AAAA" } }),
    "integrity",
  ],
  [
    "a name of half a character",
    `{"lockfileVersion":3,"packages":{"node_modules/\\ud800":{"version":"1.0.0"}}}`,
    "usable name",
  ],
])("input that is %s is one clear sentence and exit code 2", async (_name, input, sentence) => {
  const { result, output } = await inventoryOf(input);
  expect(result).toMatchObject({ end: "exited", exitCode: 2 });
  expect(result.stderrTail).toContain(sentence);
  expect(result.stderrTail.trim().split("\n")).toHaveLength(1);
  expect(output).toBe("");
});
