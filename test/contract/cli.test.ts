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
function samplePackage(version: string): string {
  const folder = testFolder();
  cpSync(join(project, "test", "fixtures", "sbom-inventory"), folder, { recursive: true });
  const path = join(folder, "maestro.json");
  const manifest = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  writeFileSync(path, JSON.stringify({ ...manifest, name: packageName, version }));
  return folder;
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
    await ok(admin, "market", "keygen");
    const release = await ok(admin, "market", "publish", samplePackage("1.0.0"));
    expect(release).toMatchObject({ package: packageName, version: "1.0.0", channel: "stable", units: 10 });
    expect(await ok(admin, "market", "show", packageName)).toEqual(release);

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
    const admin = hostOf("admin");
    await ok(admin, "market", "keygen");
    const folder = samplePackage("2.0.0");
    await ok(admin, "market", "publish", folder);
    writeFileSync(join(folder, "more.txt"), "other bytes");
    const { code, err } = await maestro(admin, "market", "publish", folder);
    expect(code).toBe(5);
    expect(err).toContain("release_exists");
  });

  test("things that are not there are exit code 4", async () => {
    const operator = hostOf("operator");
    expect((await maestro(operator, "executions", "show", `exe_${"0".repeat(26)}`)).code).toBe(4);
    expect((await maestro(operator, "market", "show", "cli-contract/nothing")).code).toBe(4);
  });
});
