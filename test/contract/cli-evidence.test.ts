// `maestro pql`, `disclosure` and `audit verify` against the real stack: what a run leaves behind, read back, verified
// offline, and found out when it is changed.

import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { DuckDBInstance } from "@duckdb/node-api";
import { Ajv2020 } from "ajv/dist/2020.js";
import { beforeAll, describe, expect, test } from "vitest";
import type { Role } from "../../shared/contract/names.ts";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const packageName = "cli-evidence/echo";

let tenant: SeededTenant;
let executionId: string;

const hostOf = (role: Role, home?: string): TestHost => {
  const env = { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] };
  return home === undefined ? testHost({ env }) : testHost({ env, home });
};

async function ok(host: TestHost, ...argv: string[]): Promise<Record<string, unknown>> {
  const { code, json, err } = await maestro(host, ...argv, "--json");
  expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
  return json();
}

beforeAll(async () => {
  tenant = await stack.seedTenant("cli-evidence");
  const home = resolve(stack.folder, "cli-evidence");
  mkdirSync(join(home, "package"), { recursive: true });
  const manifest = {
    name: packageName,
    version: "1.0.0",
    channel: "stable",
    entry_point: "main.mjs",
    permissions: { read_input: true },
    privacy_units: 1,
    limits: { wall_ms: 20_000, output_bytes: 10_000, unpacked_bytes: 10_000 },
  };
  writeFileSync(join(home, "package", "maestro.json"), JSON.stringify(manifest));
  writeFileSync(join(home, "package", "main.mjs"), 'process.stdout.write("done");');
  writeFileSync(join(home, "input"), "x");
  const admin = hostOf("admin", home);
  await ok(admin, "market", "keygen");
  const release = await ok(admin, "market", "publish", "package");
  await ok(hostOf("reviewer", home), "market", "review", "approve", String(release["id"]));
  await ok(admin, "market", "entitle", packageName);
  await ok(admin, "market", "install", packageName);
  await ok(admin, "budget", "set", "--limit", "100", "--leak-per-hour", "0");
  const run = await ok(admin, "run", packageName, "input", "--out", "out");
  executionId = String((run["execution"] as Record<string, unknown>)["id"]);
});

test("a question finds the run among the tenant's events, and a wrong one is pointed at", async () => {
  const auditor = hostOf("auditor");
  const total = async (): Promise<number> =>
    Number((await ok(auditor, "pql", "FIND executions BUCKET BY 5m TOP 3 BY package SINCE 1h"))["total"]);
  while ((await total()) < 1) await delay(200); // the log reaches PQL a second or two after the run
  const { out } = await maestro(auditor, "pql", "FIND executions BUCKET BY 5m TOP 3 BY package SINCE 1h");
  expect(out).toContain(packageName);
  const wrong = await maestro(auditor, "pql", "FIND executions\nWHERE nonsense ==== 1");
  expect(wrong.code).toBe(2);
  expect(wrong.err).toMatch(/^ {2}WHERE nonsense ==== 1\n +\^\n/);
});

describe("a disclosure pack", () => {
  test("is fetched by its link, resumed from a part, and verified without a network", async () => {
    const auditor = hostOf("auditor");
    const got = await ok(auditor, "disclosure", "get", executionId, "--out", "pack.zip");
    const whole = readFileSync(join(auditor.home, "pack.zip"));
    expect(got).toMatchObject({ execution_id: executionId, bytes: whole.length });

    rmSync(join(auditor.home, "pack.zip"));
    writeFileSync(join(auditor.home, "pack.zip.part"), whole.subarray(0, 1_000));
    await ok(auditor, "disclosure", "get", executionId, "--out", "pack.zip");
    expect(readFileSync(join(auditor.home, "pack.zip")).equals(whole)).toBe(true);
    expect(existsSync(join(auditor.home, "pack.zip.part"))).toBe(false);

    const { code, json } = await maestro(auditor, "disclosure", "verify", "pack.zip", "--json");
    expect(code).toBe(0);
    expect(json()).toMatchObject({ verdict: "verified", facts: { execution_id: executionId, outcome: "succeeded" } });

    await ok(auditor, "audit", "keys", "--out", "keys.json");
    const stranger = testHost({ home: testFolder() });
    cpSync(join(auditor.home, "pack.zip"), join(stranger.home, "pack.zip"));
    cpSync(join(auditor.home, "keys.json"), join(stranger.home, "keys.json"));
    expect((await maestro(stranger, "disclosure", "verify", "pack.zip", "--keys", "keys.json")).code).toBe(0);

    const changed = Buffer.from(whole);
    const at = changed.indexOf('"mc.execution.finished"');
    expect(at).toBeGreaterThan(0);
    changed[at + 4] = changed[at + 4]! ^ 1;
    writeFileSync(join(auditor.home, "changed.zip"), changed);
    expect((await maestro(auditor, "disclosure", "verify", "changed.zip")).code).toBe(7);
    writeFileSync(join(auditor.home, "no.zip"), "no zip at all");
    expect((await maestro(auditor, "disclosure", "verify", "no.zip")).code).toBe(7);
  });

  test("is handed on by a link that works once, or for one principal, and is taken back by its grant", async () => {
    const auditor = hostOf("auditor");
    const link = async (...options: string[]) =>
      (await ok(auditor, "disclosure", "link", executionId, ...options)) as { url: string; grant_id: string };
    const status = async (url: string, headers: Record<string, string> = {}) => (await fetch(url, { headers })).status;
    const once = await link("--one-time");
    expect([await status(once.url), await status(once.url)]).toEqual([200, 410]);
    const own = await link("--audience", tenant.principals.viewer);
    const bearer = { authorization: `Bearer ${tenant.keys.viewer}` };
    expect([await status(own.url), await status(own.url, bearer)]).toEqual([401, 200]);
    const { url, grant_id: grant } = await link();
    expect(await status(url)).toBe(200);
    const revoked = await maestro(auditor, "disclosure", "revoke", grant);
    expect([revoked.code, revoked.out]).toEqual([0, expect.stringContaining(`${grant} is revoked since`)]);
    expect(await status(url)).toBe(410);
    expect((await maestro(auditor, "disclosure", "revoke", `grt_${"0".repeat(26)}`)).code).toBe(4);
    expect((await maestro(auditor, "disclosure", "link", executionId, "--audience", "someone")).code).toBe(2);
  });

  test("is of version 2 while the export is periodic, and verifies with what it cannot prove", async () => {
    const [admin, auditor] = [hostOf("admin"), hostOf("auditor")];
    await ok(admin, "flags", "set", "audit_rt_export", "off");
    const version = async () => (await ok(auditor, "disclosure", "link", executionId))["pack_version"];
    while ((await version()) !== 2) await delay(100); // the log learns of the flag by its event
    await ok(auditor, "disclosure", "get", executionId, "--out", "second.zip");
    const { code, out } = await maestro(auditor, "disclosure", "verify", "second.zip");
    expect([code, out]).toEqual([0, expect.stringContaining("not proven: that the events are in the log")]);
    await ok(admin, "flags", "set", "audit_rt_export", "on");
    while ((await version()) !== 3) await delay(100);
  });

  test("is not there for another tenant, nor for a role that may not have it", async () => {
    const other = await stack.seedTenant("cli-evidence-other");
    const stranger = testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: other.keys.admin } });
    expect((await maestro(stranger, "disclosure", "get", executionId)).code).toBe(4);
    expect((await maestro(hostOf("viewer"), "disclosure", "link", executionId)).code).toBe(3);
    expect((await maestro(hostOf("auditor"), "disclosure", "get", "../../etc/passwd")).code).toBe(2);
  });
});

describe("maestro audit verify", () => {
  async function duckdb(query: string): Promise<Record<string, unknown>[]> {
    const connection = await (await DuckDBInstance.create(":memory:")).connect();
    try {
      return (await connection.runAndReadAll(query)).getRowObjectsJson();
    } finally {
      connection.closeSync();
    }
  }
  const segmentsIn = (host: TestHost): string => join(host.home, "copy", tenant.tenant_id, "seg", "*.parquet");

  test("verifies over the API, remembers the head, and verifies a copy in a folder", async () => {
    const auditor = hostOf("auditor");
    const first = await ok(auditor, "audit", "verify", "--out", "copy");
    expect(first).toMatchObject({ verdict: "VERIFIED-TO", tenant_id: tenant.tenant_id, remembered: null });
    expect(Number(first["size"])).toBeGreaterThan(5);
    // Rows may have been sealed since: the copy is taken anew, or what is remembered by then would not be in it.
    const second = await ok(auditor, "audit", "verify", "--out", "copy");
    expect(second).toMatchObject({ verdict: "VERIFIED", remembered: first["head"] });
    expect(await ok(auditor, "audit", "verify", "--dir", "copy")).toMatchObject({ size: second["size"] });
    const text = await maestro(auditor, "audit", "verify");
    expect(text.out).toMatch(/^VERIFIED all \d+ rows/);
  });

  test("MC-AUD-1911: each source has counted its events without a hole, as any tool can see in the segments", async () => {
    const auditor = hostOf("auditor");
    let rows: Record<string, unknown>[] = [];
    // What came while the export was periodic is sealed a moment after that has ended.
    const sources = async (): Promise<unknown[]> => {
      await ok(auditor, "audit", "verify", "--out", "copy");
      rows = await duckdb(
        `select source, count(*) as events, count(distinct source_seq) as numbers, min(source_seq) as low, max(source_seq) as high
         from read_parquet('${segmentsIn(auditor)}', union_by_name = true) group by source order by source`,
      );
      return rows.map(({ source }) => source);
    };
    await expect
      .poll(sources, { timeout: 30_000 })
      .toEqual(expect.arrayContaining(["api", "audit", "disclosure", "privacy"]));
    for (const { source, events, numbers, low, high } of rows) {
      expect({ source, numbers, low, high }).toEqual({ source, numbers: events, low: "1", high: events });
    }
  });

  test("every leaf of the log fits the JSON Schema that is published", async () => {
    const served = await fetch(`${stack.apiUrl}/api/audit/events.schema.json`);
    expect(served.headers.get("content-type")).toBe("application/schema+json");
    const schema = (await served.json()) as object;
    const committed = resolve(import.meta.dirname, "..", "..", "docs", "audit", "events.schema.json");
    expect(schema).toEqual(JSON.parse(readFileSync(committed, "utf8")));
    const ajv = new Ajv2020({ strict: false, validateFormats: false });
    const isValid = ajv.compile(schema);
    const auditor = hostOf("auditor");
    await ok(auditor, "audit", "verify", "--out", "copy");
    const bodies = await duckdb(`select body from read_parquet('${segmentsIn(auditor)}', union_by_name = true)`);
    expect(bodies.length).toBeGreaterThan(5);
    for (const { body } of bodies) expect([body, isValid(JSON.parse(String(body)))]).toEqual([body, true]);
  });

  test("is exit code 7 for a changed segment, a missing one, and a tail that was cut off", async () => {
    const auditor = hostOf("auditor");
    await ok(auditor, "audit", "verify", "--out", "copy");
    const segments = join("seg");
    const folderOf = (name: string): string => join(auditor.home, name, tenant.tenant_id, segments);
    const spoiled = async (name: string, spoil: (folder: string, files: string[]) => void) => {
      cpSync(join(auditor.home, "copy"), join(auditor.home, name), { recursive: true });
      spoil(folderOf(name), readdirSync(folderOf(name)).toSorted());
      const { code, json } = await maestro(auditor, "audit", "verify", "--dir", name, "--json");
      return [code, json()["verdict"]];
    };
    expect(
      await spoiled("changed", (folder, [file = ""]) => {
        const bytes = readFileSync(join(folder, file));
        bytes[100] = bytes[100]! ^ 1;
        writeFileSync(join(folder, file), bytes);
      }),
    ).toEqual([7, "TAMPERED"]);
    expect(await spoiled("missing", (folder, [file = ""]) => rmSync(join(folder, file)))).toEqual([7, "GAP"]);
    const cut = await spoiled("cut", (folder, files) => {
      const last = files.at(-1)!;
      rmSync(join(folder, last));
      rmSync(join(folder, "..", "manifest", last.replace(".parquet", ".json")));
      rmSync(join(folder, "..", "checkpoint"), { force: true });
    });
    expect(cut).toEqual([7, "GAP"]);
  });

  test("is denied to a role that may not read the log", async () => {
    expect((await maestro(hostOf("viewer"), "audit", "verify")).code).toBe(3);
  });
});

describe("the keys that are trusted since the first use", () => {
  /** What the host remembers, as if another signer had been there at its first use. */
  function rememberStranger(host: TestHost): string {
    const folder = join(host.home, ".local", "state", "maestro", "keys");
    const [file = ""] = readdirSync(folder);
    const published = JSON.parse(readFileSync(join(folder, file), "utf8")) as { keys: Record<string, string>[] };
    const keys = published.keys.filter(({ use }) => use !== "release" && use !== "checkpoint");
    writeFileSync(join(folder, file), JSON.stringify({ ...published, keys }));
    return join(folder, file);
  }

  test("are the only ones: with others served, nothing is run, verified or fetched, until they are accepted", async () => {
    const admin = hostOf("admin");
    expect((await maestro(admin, "audit", "verify")).err).toContain("note: first use of");
    const file = rememberStranger(admin);
    const remembered = readFileSync(file, "utf8");
    writeFileSync(join(admin.home, "input"), "x");
    const before = (await ok(admin, "executions", "list"))["executions"];
    for (const argv of [
      ["run", packageName, "input", "--out", "out"],
      ["audit", "verify", "--out", "copy"],
      ["disclosure", "get", executionId, "--out", "pack.zip"],
      ["audit", "keys", "--out", "keys.json"],
    ]) {
      const { code, err } = await maestro(admin, ...argv);
      expect([argv[0], code]).toEqual([argv[0], 7]);
      expect(err).toMatch(/new: checkpoint [0-9a-f]{16}, release [0-9a-f]{16}/);
      expect(err).toContain("maestro audit keys --accept");
    }
    expect((await ok(admin, "executions", "list"))["executions"]).toEqual(before);
    expect(readdirSync(admin.home).filter((name) => !name.startsWith("."))).toEqual(["input"]);
    expect(readFileSync(file, "utf8")).toBe(remembered);

    expect(await ok(admin, "audit", "keys", "--accept")).toMatchObject({ replaced: JSON.parse(remembered) });
    expect(await ok(admin, "audit", "verify")).toMatchObject({ verdict: "VERIFIED" });
    await ok(admin, "disclosure", "get", executionId, "--out", "pack.zip");
    expect((await maestro(admin, "run", packageName, "input", "--out", "out")).code).toBe(0);
  });
});

test("maestro login --local gets a token from the stack's own issuer", async () => {
  const host = testHost();
  expect(await ok(host, "login", "--local", "--state", stack.folder, "--role", "auditor")).toMatchObject({
    role: "auditor",
    credential: "token",
  });
  expect(await ok(host, "whoami")).toMatchObject({ kind: "person" });
});
