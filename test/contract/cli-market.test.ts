// `maestro market` against the real stack: a deny that is answered by its own fixes, a canary that fails and goes back, a
// change under review, flags and counters.

import { execFileSync } from "node:child_process";
import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import type { Role } from "../../shared/contract/names.ts";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { skewedMaestro, skewedNode } from "../support/maestro-process.ts";
import { sampled } from "../support/sampled.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const project = resolve(import.meta.dirname, "..", "..");
const lockfile = join(project, "package-lock.json");

let tenant: SeededTenant;
beforeAll(async () => {
  tenant = await stack.seedTenant("cli-market");
});

const hostOf = (role: Role): TestHost =>
  testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] } });

async function ok(host: TestHost, ...argv: string[]): Promise<Record<string, unknown>> {
  const { code, json, err } = await maestro(host, ...argv, "--json");
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
  return json();
}

/** Publishes and approves a fixture under a name of the test's own. */
async function publish(fixture: string, name: string): Promise<void> {
  const folder = testFolder();
  cpSync(join(project, "test", "fixtures", fixture), folder, { recursive: true });
  const path = join(folder, "maestro.json");
  const manifest = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
  writeFileSync(path, JSON.stringify({ ...manifest, name, privacy_units: 0 }));
  const publisher = hostOf("publisher");
  await ok(publisher, "market", "keygen");
  await ok(publisher, "market", "publish", folder);
  await ok(hostOf("reviewer"), "market", "review", "approve", `${name}@${String(manifest["version"])}`);
}

const wordsOf = (line: string): string[] =>
  execFileSync("sh", ["-c", `for word in ${line}; do printf '%s\\0' "$word"; done`], { encoding: "utf8" })
    .split("\0")
    .slice(1, -1);

test("an explanation's commands, run as they are printed, allow what was denied", async () => {
  const name = "cli-market/explained";
  await publish("sbom-inventory", name);
  const [admin, operator] = [hostOf("admin"), hostOf("operator")];
  const explained = await ok(operator, "market", "explain", "execution.start", name);
  expect(explained).toMatchObject({ allow: false, rule: "entitlement_missing", complete: true });
  const commands = (explained["fixes"] as { command: string }[]).map(({ command }) => command);
  expect(commands).toEqual([`maestro market entitle ${name} --channel stable`, `maestro market install ${name}`]);
  for (const command of commands) await ok(admin, ...wordsOf(command));
  expect(await ok(operator, "market", "explain", "execution.start", name)).toMatchObject({ allow: true, rule: "ok" });
  await ok(operator, "run", name, lockfile, "--out", "sbom.json");

  // Constraints stay where they are not named, and each is explained and mended in its turn.
  await ok(admin, "market", "entitle", name, "--range", ">=2", "--runs-per-day", "1");
  const [row] = (await ok(admin, "market", "entitle", name, "--window", "never"))["entitlements"] as unknown[];
  expect(row).toMatchObject({ version_range: ">=2", runs_per_day_max: 1, run_windows: [] });
  const denied = await ok(operator, "market", "explain", "execution.start", name);
  expect(denied).toMatchObject({ allow: false, rule: "version_not_entitled" });
  for (const { command } of denied["fixes"] as { command: string }[]) await ok(admin, ...wordsOf(command));
  await ok(operator, "run", name, lockfile, "--out", "sbom.json");
  const history = (await ok(admin, "market", "entitlements", "history", name))["entries"] as unknown[];
  expect(history).toHaveLength(4);
});

describe("a canary that fails", () => {
  const name = "cli-market/canary";

  test("is upgraded to in a cohort, rolled back, barred and pinned; each is undone by one command", async () => {
    await publish("sbom-inventory", name);
    await publish("sbom-inventory-broken", name);
    const [admin, operator] = [hostOf("admin"), hostOf("operator")];
    await ok(admin, "market", "entitle", name, "--channel", "canary");
    const installed = await ok(operator, "market", "install", name, "--name", "site-a");
    expect(installed).toMatchObject({
      version: "1.0.0",
      verified: { pointer: { channel: "stable", version: "1.0.0" } },
    });

    const upgraded = await ok(operator, "market", "upgrade", name, "--channel", "canary", "--cohort", "99");
    expect(upgraded).toMatchObject({ rollout: { state: "running" }, verified: { pointer: { version: "1.1.0" } } });
    if (upgraded["in_cohort"] === 0) await ok(operator, "market", "upgrade", name, "--channel", "canary");
    const failed = await maestro(operator, "run", name, lockfile, "--install", "site-a");
    expect(failed.code).toBe(10);
    expect(failed.err).toContain("sbom-inventory 1.1.0 fails at every run");

    const back = await ok(operator, "market", "rollback", name, "--reason", "it fails");
    expect(back).toMatchObject({ moves: [{ name: "site-a", to_version: "1.0.0" }], barred: [{ version: "1.1.0" }] });
    await ok(operator, "run", name, lockfile, "--install", "site-a", "--out", "sbom.json");
    const { out } = await maestro(operator, "market", "status", name);
    expect(out).toContain("site-a\t1.0.0\tstable\ttrue");
    expect(out).toContain("1.1.0\trollback");
    const causes = ((await ok(operator, "market", "history", name, "--install", "site-a"))["entries"] as unknown[]).map(
      (entry) => (entry as Record<string, unknown>)["cause"],
    );
    expect(causes).toEqual(["rollback", "upgrade", "install"]);
    expect(((await ok(operator, "market", "rollouts", name))["rollouts"] as unknown[]).length).toBeGreaterThan(0);

    const again = await maestro(operator, "market", "upgrade", name, "--channel", "canary");
    expect(again.code).toBe(3);
    expect(again.err).toContain(`maestro market unbar ${name} 1.1.0`);
    await ok(operator, "market", "unbar", name, "1.1.0", "--reason", "a test");
    await ok(operator, "market", "unpin", name);
    await ok(operator, "market", "freeze", name, "--reason", "for now");
    const frozen = await maestro(operator, "market", "upgrade", name, "--channel", "canary");
    expect(frozen.err).toContain(`maestro market unfreeze ${name}`);
    await ok(operator, "market", "unfreeze", name);
    expect(await ok(operator, "market", "upgrade", name, "--channel", "canary")).toMatchObject({
      rollout: { state: "completed", version: "1.1.0" },
    });
    expect((await maestro(operator, "metrics")).out).toContain("mc_channel_upgrades_total");
  });
});

test("the examples of upgrades, rollbacks and holds work as --help shows them", async () => {
  const name = "cli-market/examples";
  await publish("sbom-inventory", name);
  await publish("sbom-inventory-broken", name);
  const [admin, operator] = [hostOf("admin"), hostOf("operator")];
  await ok(admin, "market", "entitle", name, "--channel", "canary");
  await ok(operator, "market", "install", name);
  await ok(operator, "market", "install", name, "--name", "site-a");
  await ok(operator, "market", "upgrade", name, "--channel", "canary");
  // Each for itself; the longest first, which names one install of those that the next one moves.
  const commands = ["rollback", "status", "history", "rollouts", "unpin", "pin", "bar", "unbar", "freeze", "unfreeze"];
  for (const command of [...commands, "unpin", "upgrade"]) {
    const { out } = await maestro(operator, "market", command, "--help");
    const examples = Array.from(out.matchAll(/^ {2}\$ maestro (.*)$/gm), ([, line]) => line!);
    expect(examples.length).toBeGreaterThan(0);
    for (const example of examples.toSorted((one, other) => other.length - one.length)) {
      // One that watches its rollout ends with it, and nothing here ends it.
      const line = example.replaceAll("tools/sbom-inventory", name).replace(" --watch", "");
      const { code, err } = await maestro(operator, ...wordsOf(`maestro ${line}`));
      expect({ line, code, err: code === 0 ? "" : err }).toEqual({ line, code: 0, err: "" });
    }
  }
});

describe("on a host whose clock is wrong", () => {
  const skews = [
    ["behind", -600_000],
    ["ahead", 600_000],
  ] as const;
  const taken = sampled(skews, 2);
  test.each(taken)(
    "ten minutes %s, a rollback works, and what it went back to is verified and run",
    async (where, skewMs) => {
      const name = `cli-market/clock-${where}`;
      await publish("sbom-inventory", name);
      await publish("sbom-inventory-broken", name);
      const [admin, operator] = [hostOf("admin"), hostOf("operator")];
      await ok(admin, "market", "entitle", name, "--channel", "canary");
      await ok(operator, "market", "install", name);
      await ok(operator, "market", "upgrade", name, "--channel", "canary");
      const folder = testFolder();
      const env = { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys.operator };
      const read = await skewedNode(skewMs, folder, {}, ["-p", "[Date.now(), new Date().getTime()].join()"]);
      for (const clock of read.out.split(","))
        expect(Math.abs(Number(clock) - Date.now() - skewMs)).toBeLessThan(60_000);

      const said = async (...argv: string[]): Promise<Record<string, unknown>> => {
        const { code, out, err } = await skewedMaestro(skewMs, folder, env, ...argv, "--json");
        expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
        return JSON.parse(out) as Record<string, unknown>;
      };
      expect(await said("market", "rollback", name)).toMatchObject({
        moves: [{ name: "default", from_version: "1.1.0", to_version: "1.0.0" }],
        barred: [{ version: "1.1.0" }],
      });
      expect(await said("run", name, lockfile, "--out", "sbom.json")).toMatchObject({ outcome: "succeeded" });
      expect(await ok(operator, "market", "status", name)).toMatchObject({
        installs: [{ version: "1.0.0", pinned: true }],
      });
      // The history has the time of the API, not of the host.
      const [newest] = (await ok(operator, "market", "history", name))["entries"] as { changed_at: string }[];
      expect(Math.abs(Date.parse(newest!.changed_at) - Date.now())).toBeLessThan(300_000);
    },
  );
});

test("a change is proposed by one, approved by another, applied and reverted", async () => {
  const name = "cli-market/changed";
  const [admin, operator] = [hostOf("admin"), hostOf("operator")];
  const change = await ok(operator, "market", "change", "propose", name, "--range", "^1.0.0", "--reason", "try it");
  const id = String(change["id"]);
  await ok(admin, "market", "change", "approve", id);
  expect(await ok(admin, "market", "change", "apply", id)).toMatchObject({ state: "applied" });
  expect(await ok(admin, "market", "change", "revert", id)).toMatchObject({ state: "reverted" });
  const rows = (await ok(operator, "market", "entitlements"))["entitlements"] as Record<string, unknown>[];
  expect(rows.map((row) => row["package"])).not.toContain(name);
  expect(await ok(operator, "market", "change", "show", id)).toMatchObject({ state: "reverted", reason: "try it" });
});

test("a flag is switched off and on again", async () => {
  const admin = hostOf("admin");
  const stateOf = async (): Promise<unknown> =>
    ((await ok(admin, "flags"))["flags"] as Record<string, unknown>[]).find(
      (one) => one["flag"] === "market_channels",
    )?.["enabled"];
  await ok(admin, "flags", "set", "market_channels", "off");
  expect(await stateOf()).toBe(false);
  await ok(admin, "flags", "set", "market_channels", "on");
  expect(await stateOf()).toBe(true);
});
