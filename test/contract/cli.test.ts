// `maestro` against the real stack: the whole way of a package from its publisher to a run, a question and its denial.

import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { sha256Hex } from "../../shared/contract/bytes.ts";
import type { Role } from "../../shared/contract/names.ts";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const project = resolve(import.meta.dirname, "..", "..");
const lockfile = join(project, "package-lock.json");
const packageName = "cli-contract/sbom-inventory";

let tenant: SeededTenant;
beforeAll(async () => {
  tenant = await stack.seedTenant("cli-contract");
});

const hostOf = (role: Role): TestHost =>
  testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] } });

/** The sample package under a name of this file's own, so that other tests may publish theirs. */
function samplePackage(version: string, name = packageName, given: Record<string, unknown> = {}): string {
  const folder = testFolder();
  cpSync(join(project, "test", "fixtures", "sbom-inventory"), folder, { recursive: true });
  const path = join(folder, "maestro.json");
  const manifest = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  writeFileSync(path, JSON.stringify({ ...manifest, name, version, ...given }));
  return folder;
}

/** Publishes a folder as the publisher, and approves it as the reviewer; answers the release as it is published. */
async function publish(folder: string): Promise<Record<string, unknown>> {
  const publisher = hostOf("publisher");
  await ok(publisher, "market", "keygen");
  const uploaded = await ok(publisher, "market", "publish", folder);
  expect(uploaded).toMatchObject({ state: "in_review", marketplace_bundle: null });
  return await ok(hostOf("reviewer"), "market", "review", "approve", String(uploaded["id"]), "--reason", "read it");
}

async function ok(host: TestHost, ...argv: string[]): Promise<Record<string, unknown>> {
  const { code, json, err } = await maestro(host, ...argv, "--json");
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
  return json();
}

describe("maestro and the API", () => {
  test("each role is who it is, by key and by the local issuer's token", async () => {
    expect(await ok(hostOf("viewer"), "whoami")).toMatchObject({
      tenant: "cli-contract",
      role: "viewer",
      credential: "key",
    });
    const host = testHost({ stdin: tenant.keys.operator });
    expect(await ok(host, "login", "--api-url", stack.apiUrl)).toMatchObject({ role: "operator" });
    expect(await ok(host, "whoami")).toMatchObject({ principal_id: tenant.principals.operator });
  });

  test("a key is made, works, is revoked, and works no more", async () => {
    const admin = hostOf("admin");
    const made = await ok(admin, "keys", "create", "--role", "viewer", "--expires-in-days", "1");
    const host = testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: String(made["key"]) } });
    expect(await ok(host, "whoami")).toMatchObject({ role: "viewer", kind: "service" });
    const listed = (await ok(admin, "keys", "list"))["keys"] as Record<string, unknown>[];
    expect(listed.map((key) => key["id"])).toContain(made["id"]);
    expect(JSON.stringify(listed)).not.toContain(String(made["key"]));
    await ok(admin, "keys", "revoke", String(made["id"]));
    expect((await maestro(host, "whoami")).code).toBe(3);
    expect((await maestro(hostOf("viewer"), "keys", "create", "--role", "admin")).code).toBe(3);
  });

  test("a package goes from its publisher to a run, its record, and a denial with the way out", async () => {
    const admin = hostOf("admin");
    const release = await publish(samplePackage("1.0.0"));
    expect(release).toMatchObject({ package: packageName, version: "1.0.0", state: "published", units: 10 });
    expect(await ok(hostOf("publisher"), "market", "show", packageName)).toEqual(release);

    const operator = hostOf("operator");
    const refused = await maestro(operator, "market", "install", packageName, "--json");
    expect(refused.code).toBe(3);
    expect(refused.err).toContain(`maestro market entitle ${packageName}`);

    const entitled = await ok(admin, "market", "entitle", packageName, "--reason", "the contract test");
    expect(
      (await maestro(admin, "market", "entitle", packageName, "--if-match", String(Number(entitled["version"]) - 1)))
        .code,
    ).toBe(5);
    await ok(admin, "budget", "set", "--limit", "25", "--leak-per-hour", "0");
    expect(await ok(operator, "market", "install", packageName)).toMatchObject({
      version: "1.0.0",
      artifact_sha256: release["artifact_sha256"],
    });

    const out = join(operator.home, "sbom.json");
    const run = await ok(operator, "run", packageName, lockfile, "--out", out);
    const execution = run["execution"] as Record<string, unknown>;
    expect(run).toMatchObject({ outcome: "succeeded", exit_code: 0, finish_recorded: true });
    expect(execution).toMatchObject({ status: "succeeded", input_sha256: await sha256Hex(readFileSync(lockfile)) });
    expect(execution["output_sha256"]).toBe(await sha256Hex(readFileSync(out)));
    expect(await ok(operator, "executions", "show", String(execution["id"]))).toEqual(execution);
    const listed = (await ok(operator, "executions", "list"))["executions"] as Record<string, unknown>[];
    expect(listed[0]).toEqual(execution);
    expect(await ok(operator, "budget", "show")).toMatchObject({ spent_units: 10, held_units: 0, remaining_units: 15 });

    // An input that the package refuses: its own failure, recorded as such.
    writeFileSync(join(operator.home, "bad.json"), "{");
    const bad = await maestro(operator, "run", packageName, "bad.json", "--json");
    expect(bad.code).toBe(10);
    expect((bad.json()["execution"] as Record<string, unknown>)["exit_code"]).toBe(2);

    const spent = await maestro(operator, "run", packageName, lockfile, "--out", out);
    expect(spent.code).toBe(3);
    expect(spent.err).toContain("privacy_budget_exceeded");

    await ok(admin, "market", "entitle", packageName, "--deny");
    const denied = await maestro(operator, "run", packageName, lockfile, "--out", out);
    expect(denied.code).toBe(3);
    expect(denied.err).toContain("entitlement_denied");
  });

  test("a version is published once; other bytes under it are a conflict", async () => {
    const publisher = hostOf("publisher");
    await ok(publisher, "market", "keygen");
    const folder = samplePackage("2.0.0");
    await ok(publisher, "market", "publish", folder);
    writeFileSync(join(folder, "more.txt"), "other bytes");
    const { code, err } = await maestro(publisher, "market", "publish", folder);
    expect(code).toBe(5);
    expect(err).toContain("release_exists");
  });

  test("a release is reviewed by its difference, by someone else, and found and moved afterwards", async () => {
    const name = "cli-contract/reviewed";
    await publish(samplePackage("1.0.0", name));
    const folder = samplePackage("1.1.0", name, { channel: "canary", privacy_units: 20 });
    writeFileSync(join(folder, "more.txt"), "a file more");
    const publisher = hostOf("publisher");
    await ok(publisher, "market", "keygen");
    expect(await ok(publisher, "market", "publish", folder, "--draft")).toMatchObject({ state: "draft" });
    const named = `${name}@1.1.0`;
    expect(await ok(publisher, "market", "submit", named)).toMatchObject({ state: "in_review" });

    const reviewer = hostOf("reviewer");
    const { out } = await maestro(reviewer, "market", "review", "show", named);
    expect(out).toContain("~ /privacy_units 10 → 20");
    expect(out).toContain("+ more.txt (11 bytes)");
    expect(out).toContain("It asks for more:");
    expect((await maestro(publisher, "market", "review", "approve", named)).code).toBe(3);
    await ok(reviewer, "market", "review", "approve", named);

    const channels = async (): Promise<unknown> =>
      ((await ok(publisher, "market", "channels", name))["channels"] as Record<string, unknown>[])
        .map((pointer) => `${String(pointer["channel"])} ${String(pointer["version"])}`)
        .toSorted();
    expect(await channels()).toEqual(["canary 1.1.0", "stable 1.0.0"]);
    await ok(publisher, "market", "promote", name);
    expect(await channels()).toEqual(["canary 1.1.0", "stable 1.1.0"]);
    expect((await maestro(publisher, "market", "promote", name, "1.0.0")).code).toBe(5);
    await ok(publisher, "market", "promote", name, "1.0.0", "--down");

    await ok(publisher, "market", "yank", named, "--reason", "it was a test");
    const versions = (await ok(publisher, "market", "versions", name))["releases"] as Record<string, unknown>[];
    expect(versions.map(({ version, state }) => [version, state])).toEqual([
      ["1.1.0", "yanked"],
      ["1.0.0", "published"],
    ]);
    const found = (await ok(publisher, "market", "search", "reviewed"))["packages"] as Record<string, unknown>[];
    expect(found.map((one) => one["name"])).toContain(name);
  });

  test("things that are not there are exit code 4", async () => {
    const operator = hostOf("operator");
    expect((await maestro(operator, "executions", "show", `exe_${"0".repeat(26)}`)).code).toBe(4);
    expect((await maestro(operator, "market", "show", "cli-contract/nothing")).code).toBe(4);
  });
});
