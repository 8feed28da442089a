// A pack of the real stack on a machine that has only sh, openssl, unzip and DuckDB: README.txt's lines as they are printed.

import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { parseRange } from "../../shared/audit/layout.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { installPackage, jsonCall, must } from "../support/publisher.ts";
import { finishedRun, linkOf } from "../support/runs.ts";
import { useStack } from "../support/stack.ts";
import { Stranger } from "../support/stranger.ts";
import { tool } from "../support/tools.ts";

const stack = useStack();
const isHere = (["openssl", "unzip", "duckdb"] as const).every((name) => tool(name) !== null);

describe.skipIf(!isHere)("README.txt of a pack", () => {
  let api: Contract;
  let tenant: SeededTenant;
  let stranger: Stranger;
  let files: { PACK: string; KEYS: string; SEGMENT: string };
  let readme: string;

  beforeAll(async () => {
    api = await contractOf(stack.apiUrl);
    tenant = await stack.seedTenant("stranger");
    stranger = new Stranger();
    const put = { limit_units: 1_000, leak_units_per_hour: 0 };
    must(200, await api.fetch("/api/privacy/budget", jsonCall(tenant.keys.admin, "PUT", put)));
    await installPackage(api, tenant, "stranger/probe", 10);
    const id = await finishedRun(api, tenant, "stranger/probe");
    const link = await linkOf(api, tenant.keys.auditor, id);
    const pack = new Uint8Array(await (await fetch(link.url)).arrayBuffer());
    const PACK = stranger.write("pack.zip", pack);
    const KEYS = stranger.write("KEYS.json", await (await fetch(`${stack.apiUrl}/api/audit/keys`)).text());
    stranger.sh(["-c", 'unzip -q "$PACK" README.txt -d read && cat read/README.txt > readme'], stranger.folder, {
      PACK,
    });
    readme = readFileSync(`${stranger.folder}/readme`, "utf8");
    const listed = must(200, await api.fetch("/api/audit/manifests", jsonCall(tenant.keys.auditor, "GET"))).json;
    const finished = stranger.sh(
      ["-c", `unzip -p "$PACK" 'events/*.json' | tr '}' '\\n' | cut -c1-4000`],
      stranger.folder,
      { PACK },
    );
    const seq = Number(/"seq":(\d+)[^\n]*"type":"mc\.execution\.finished"/.exec(finished.stdout)?.[1]);
    const range = (listed.ranges as string[]).find((name) => {
      const { from, to } = parseRange(name)!;
      return from <= seq && seq < to;
    })!;
    const path = `/api/audit/segments/${range}`;
    const { bytes } = must(200, await api.fetch(path, jsonCall(tenant.keys.auditor, "GET")));
    files = { PACK, KEYS, SEGMENT: stranger.write("segment.parquet", bytes) };
  }, 120_000);
  afterAll(() => stranger.remove());

  const lines = (): string[] =>
    readme
      .split("\n")
      .filter((line) => line.startsWith("$ "))
      .map((line) => line.slice(2));

  test("says how it is checked with sh, openssl, unzip and DuckDB alone, and each line works as it is printed", () => {
    const commands = lines();
    expect(commands.length).toBeGreaterThan(15);
    const script = ["set -eu", ...commands.flatMap((line, at) => [`echo "--- ${at}"`, line])].join("\n");
    const ran = stranger.sh(["-c", script], stranger.folder, files);
    expect([ran.status, ran.stderr], ran.stdout).toEqual([0, ""]);
    const outputs = ran.stdout.split(/^--- \d+\n/m).slice(1);
    const of = (part: string): string => outputs[commands.findIndex((line) => line.includes(part))]!;
    expect(of("check.sh").trimEnd().split("\n").at(-1)).toBe("VERIFIED");
    expect(of("-verify ../pack.pem")).toBe("Verified OK\n");
    expect(of("was changed")).toBe("");
    expect(of("'\\000'")).toMatch(/[0-9a-f]{64}\n$/);
    expect(of("pkeyutl")).toBe("Signature Verified Successfully\n");
    for (const type of ["mc.policy.decision", "mc.execution.started", "mc.execution.finished", "mc.receipt.signed"]) {
      expect(of("from read_json('events/*.json'")).toContain(type);
    }
    expect(of("mc.privacy.%")).toMatch(/mc\.privacy\.budget_set\s*│\s*1000 /);
    expect(of("mc.privacy.%")).toMatch(/mc\.privacy\.settled\s*│[^\n]*│\s*10\s*│\s*990 /);
    expect(of("read_parquet")).toContain("mc.execution.finished");
  });

  test("every line fails on a pack whose event was changed, or says what was", () => {
    const setUp = `unzip -q "$PACK" -d bent && cd bent && for event in events/*.json; do break; done
      { tr '1' '2' < "$event"; } > ../event && cat ../event > "$event"`;
    const ran = stranger.sh(["-c", `${setUp}; sh check.sh "$KEYS"`], stranger.folder, files);
    expect([ran.status, ran.stdout.includes("was changed")], ran.stdout).toEqual([1, true]);
    const digests = lines().filter((line) => /kid=|pack\.pem|payload\.json|was changed/.test(line));
    const byHand = stranger.sh(["-c", ["cd bent", ...digests].join("\n")], stranger.folder, files);
    expect(byHand.stdout).toMatch(/^events\/\d{20}\.json was changed$/m);
  });
});
