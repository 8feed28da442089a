// `maestro policy` against the real stack: a root of trust made on this machine, a folder published, promoted, rolled back, and
// the root rotated, with a stock TUF client that follows all of it.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Role } from "../../shared/contract/names.ts";
import { useStack } from "../support/stack.ts";
import { tufClient } from "../support/tuf.ts";

const stack = useStack();
let tenant: SeededTenant;
let home: string;

beforeAll(async () => {
  tenant = await stack.seedTenant("cli-policy");
});

const hostOf = (role: Role, of = tenant): TestHost =>
  testHost({ home, env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: of.keys[role] } });

async function ok(host: TestHost, ...argv: string[]): Promise<Record<string, unknown>> {
  const { code, json, err } = await maestro(host, ...argv, "--json");
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
  return json();
}

/** A folder of Rego and data, with what does not belong into a bundle beside it. */
function policyFolder(allowed: string): string {
  const folder = testFolder();
  mkdirSync(join(folder, "app"));
  writeFileSync(join(folder, "app", "authz.rego"), "package app.authz\n\nallow if input.user in data.app.allowed\n");
  writeFileSync(join(folder, "app", "authz_test.rego"), "package app.authz_test\n");
  writeFileSync(join(folder, "app", "data.json"), JSON.stringify({ allowed: [allowed] }));
  writeFileSync(join(folder, "README.md"), "# Who may\n");
  return folder;
}

test("a folder goes from this machine to a stock TUF client at both providers, forwards, backwards and over a new root", async () => {
  home = testFolder();
  const [admin, publisher, operator] = [hostOf("admin"), hostOf("publisher"), hostOf("operator")];
  const early = await maestro(publisher, "policy", "list");
  expect(early.err).toContain("maestro policy root init");
  const root = await ok(admin, "policy", "root", "init", "--keys", "2", "--threshold", "2");
  expect(root).toMatchObject({
    tenant: "cli-policy",
    version: 1,
    providers: [{ state: "current" }, { state: "current" }],
  });
  const files = root["key_files"] as string[];
  expect(files.map((file) => statSync(file).mode & 0o777)).toEqual([0o600, 0o600]);
  // Again, as after an answer that was lost: the same root, the same keys.
  expect(await ok(admin, "policy", "root", "init", "--keys", "2", "--threshold", "2")).toMatchObject({
    version: 1,
    key_files: files,
  });

  await ok(publisher, "market", "keygen");
  const folder = policyFolder("alice");
  const published = await maestro(
    publisher,
    "policy",
    "publish",
    folder,
    "--name",
    "gateway",
    "--channel",
    "canary",
    "--json",
  );
  expect(published.err).toContain("left out, since OPA does not need them: README.md, app/authz_test.rego");
  const first = published.json();
  expect(first).toMatchObject({
    channel: "canary",
    revision: 1,
    version: expect.stringMatching(/^sha256-[0-9a-f]{16}$/),
  });
  utimesSync(join(folder, "app", "data.json"), 1, 1);
  expect(await ok(publisher, "policy", "publish", folder, "--name", "gateway", "--channel", "canary")).toMatchObject({
    revision: 1,
    bundle_sha256: first["bundle_sha256"],
  });
  expect(await ok(publisher, "policy", "promote", "gateway")).toMatchObject({ channel: "stable", revision: 1 });
  const second = await ok(publisher, "policy", "publish", policyFolder("bob"), "--name", "gateway", "--revision", "r2");
  expect(second).toMatchObject({ channel: "stable", revision: 2, version: "r2" });

  const { key } = (await ok(admin, "keys", "create", "--role", "fetcher")) as { key: string };
  const read = (side: "a" | "b") => async (name: string) => {
    const headers = { authorization: `Bearer ${key}` };
    const response = await fetch(`${stack.edge[side]}/tuf/${tenant.slug}/${name}`, { headers });
    return response.status === 404 ? null : await response.text();
  };
  const path = "gateway/stable/bundle.tar.gz";
  await expect.poll(() => read("b")("1.root.json"), { timeout: 8_000 }).toContain('"version":1');
  const clients = await Promise.all(
    (["a", "b"] as const).map(async (side) => tufClient((await read(side)("1.root.json"))!, read(side))),
  );
  // A provider may serve its timestamp for a second longer.
  const isServed = async (wanted: object): Promise<void> => {
    for (const client of clients) {
      const served = async () => (await client.target(path))?.custom;
      await expect.poll(served, { timeout: 8_000 }).toMatchObject(wanted);
    }
  };
  await isServed({ version: "r2", revision: 2 });

  expect(await ok(operator, "policy", "rollback", "gateway")).toMatchObject({ revision: 3, outcome: "rolled_back" });
  expect(await ok(admin, "policy", "root", "rotate")).toMatchObject({ version: 2 });
  expect(await ok(admin, "policy", "root", "rotate", "--same-keys")).toMatchObject({ version: 3 });
  expect(readdirSync(join(home, ".config", "maestro", "policy-root", "cli-policy"))).toEqual([
    "root-1-1.json",
    "root-1-2.json",
    "root-2-1.json",
    "root-2-2.json",
  ]);
  await isServed({ revision: 3 });

  const shown = await ok(operator, "policy", "root", "show", "--out", "pin.json");
  const pinned = readFileSync(join(home, "pin.json"), "utf8");
  expect(pinned).toBe(await read("b")("3.root.json"));
  expect(shown).toMatchObject({ version: 3, sha256: createHash("sha256").update(pinned).digest("hex") });
  const { publishers } = await ok(operator, "policy", "root", "show", "--publishers");
  expect(publishers).toEqual([expect.stringMatching(/^[A-Za-z0-9+/]{122}==$/)]);
  const listed = await ok(operator, "policy", "list", "gateway");
  expect((listed["revisions"] as { channel: string; revision: number }[]).length).toBe(4);

  const unsure = await maestro(admin, "policy", "remove", "gateway");
  expect([unsure.code, unsure.err]).toEqual([2, expect.stringContaining("maestro policy remove gateway --yes")]);
  expect(await ok(admin, "policy", "remove", "gateway", "--yes")).toMatchObject({ stable_revision: 3 });
  expect((await maestro(admin, "policy", "list", "gateway")).code).toBe(4);
});

test("the lines of PUBLISHING.md run as they stand", async () => {
  home = testFolder();
  const page = readFileSync(new URL("../../docs/edge/PUBLISHING.md", import.meta.url), "utf8");
  const lines = [...page.matchAll(/^\$ (.+)$/gm)].map(([, line]) => line!);
  expect(lines.length).toBeGreaterThan(10);
  const admin = hostOf("admin", await stack.seedTenant("cli-policy-page"));
  for (const line of lines) {
    const [program, ...words] = line.split(" ");
    if (program === "maestro") await ok(admin, ...words);
    else execFileSync("sh", ["-c", line], { cwd: home });
  }
  expect(await ok(admin, "policy", "list", "gateway")).toMatchObject({
    channels: { stable: { revision: 3, version: "2026-04-13.1", outcome: "rolled_back" }, canary: { revision: 1 } },
  });
});

describe("what cannot be done is told before anything is sent, with the command that helps", () => {
  const told = async (host: TestHost, ...argv: string[]): Promise<string> => {
    const { code, err } = await maestro(host, "policy", ...argv);
    expect(code).not.toBe(0);
    return err;
  };

  test("a bundle that the API would refuse", async () => {
    home = testFolder();
    const publisher = hostOf("publisher");
    expect(await told(publisher, "publish", ".", "--name", "x")).toContain("maestro market keygen");
    await ok(publisher, "market", "keygen");
    const folder = policyFolder("alice");
    writeFileSync(join(folder, ".manifest"), JSON.stringify({ revision: "r1", roots: ["other"], rego_version: 1 }));
    expect(await told(publisher, "publish", folder, "--name", "x")).toContain('add "app/authz" to the roots');
    writeFileSync(join(folder, ".manifest"), "{");
    expect(await told(publisher, "publish", folder, "--name", "x")).toContain("is not JSON");
    expect(await told(publisher, "publish", join(folder, "nothing"), "--name", "x")).toContain("cannot be read");
    expect(await told(publisher, "publish", folder, "--name", "keys")).toContain("take another");
    expect(await told(publisher, "publish", folder, "--name", "x", "--revision", "a b")).toContain("--revision is");
  });

  test("a root whose keys are not here", async () => {
    home = testFolder();
    const other = await stack.seedTenant("cli-policy-other");
    const admin = hostOf("admin", other);
    expect(await told(admin, "root", "rotate")).toContain("maestro policy root init");
    await ok(admin, "policy", "root", "init");
    rmSync(join(home, ".config", "maestro", "policy-root"), { recursive: true });
    expect(await told(admin, "root", "rotate")).toContain("0 of the keys of root 1 are on this machine");
    expect(await told(admin, "root", "init")).toContain("maestro policy root rotate");
    expect(await told(admin, "root", "init", "--threshold", "2")).toContain("more than the 1 keys");
  });
});
