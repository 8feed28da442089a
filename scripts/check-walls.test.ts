// The walls' check against planted violations: each must be caught, and nothing else.

import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { readSources, wallComplaints } from "./check-walls.ts";
import { scan } from "./walls/imports.ts";

const plant = (path: string, source: string): string[] => wallComplaints([{ path, source }]);

describe("a planted violation is caught", () => {
  const planted: [why: string, path: string, source: string][] = [
    ["one capability imports another", "shared/pql/plan.ts", 'import { leaf } from "../audit/leaf.ts";'],
    ["a type is an import, too", "shared/market/entitlements.ts", 'import type { Tree } from "../audit/tree.ts";'],
    ["so is a re-export", "shared/market/index.ts", 'export * from "../privacy/ledger.ts";'],
    ["and one over several lines", "shared/audit/log.ts", 'import {\n  a,\n  type B,\n} from "../pql/plan.ts";'],
    ["a dynamic import", "shared/audit/log.ts", 'const parse = await import("../pql/parse.ts");'],
    ["a type by import()", "shared/audit/log.ts", 'type Plan = import("../pql/plan.ts").Plan;'],
    ["an import that cannot be checked", "shared/audit/log.ts", "const parts = await import(name);"],
    ["the ground imports a capability", "shared/outbox/drain.ts", 'import { x } from "../audit/log.ts";'],
    ["the contract imports anything", "shared/contract/ids.ts", 'import { x } from "../signing/keys.ts";'],
    ["shared/ imports a worker", "shared/executions/run.ts", 'import { app } from "../../workers/api/app.ts";'],
    ["an object imports a worker", "durable-objects/ledger.ts", 'import { app } from "../workers/api/app.ts";'],
    ["a worker imports another one's files", "workers/api/app.ts", 'import { keys } from "../audit/keys.ts";'],
    ["the CLI imports a room with a store only", "cli/run.ts", 'import { put } from "../shared/market/publish.ts";'],
    ["a route holds SQL", "workers/api/routes/pql.ts", 'import { sql } from "drizzle-orm";'],
    ["a rule holds SQL", "shared/market/entitlements.ts", 'import { sql } from "drizzle-orm/pg-core";'],
    ["a store knows HTTP", "shared/market/store.ts", 'import { HTTPException } from "hono/http-exception";'],
    ["shared/ needs Node", "shared/audit/log.ts", 'import { createHash } from "node:crypto";'],
    ["shared/ needs workerd", "shared/audit/log.ts", 'import { waitUntil } from "cloudflare:workers";'],
    ["shared/ reads the clock", "shared/audit/log.ts", "const now = Date.now();"],
    ["shared/ reads the clock by new Date()", "shared/audit/log.ts", "const now = new Date( );"],
    ["shared/ draws a number", "shared/audit/log.ts", "const salt = Math.random();"],
    ["shared/ opens the environment", "shared/audit/log.ts", 'const url = process.env["URL"];'],
    ["shared/ opens globalThis", "shared/audit/log.ts", "globalThis.fetch(url);"],
    ["code in a template is code", "shared/audit/log.ts", "const text = `at ${Date.now()}`;"],
  ];
  test.each(planted)("%s", (_why, path, source) => {
    expect(plant(path, source)).toHaveLength(1);
  });

  test("a store that the CLI reaches by way of a pure part", () => {
    const files = [
      { path: "cli/verify.ts", source: 'import { verify } from "../shared/audit/verify.ts";' },
      { path: "shared/audit/verify.ts", source: 'import { rows } from "./store.ts";' },
      { path: "shared/audit/store.ts", source: 'import { sql } from "drizzle-orm";' },
    ];
    expect(wallComplaints(files)).toEqual([
      "shared/audit/verify.ts:1 brings a store into the CLI: shared/audit/store.ts",
    ]);
  });
});

describe("what is allowed is not reported", () => {
  const allowed: [why: string, path: string, source: string][] = [
    ["a capability stands on the ground", "shared/pql/plan.ts", 'import { utf8 } from "../contract/bytes.ts";'],
    ["a store holds SQL", "shared/market/store.ts", 'import { sql } from "drizzle-orm";'],
    ["so does a named one", "shared/market/entitlement-store.ts", 'import { sql } from "drizzle-orm";'],
    ["a run joins capabilities", "shared/executions/run.ts", 'import { reserve } from "../privacy/ledger.ts";'],
    ["an object reads its clock", "durable-objects/ledger.ts", "const now = Date.now();"],
    ["a date of a given time", "shared/audit/log.ts", "const text = new Date(now).toISOString();"],
    ["Date as a type", "shared/audit/log.ts", "function at(date: Date): number { return date.getTime(); }"],
    ["a comment about Date.now()", "shared/audit/log.ts", "// never Date.now() here\n/* nor Math.random() */"],
    ["a string about it", "shared/audit/log.ts", `const text = "Date.now() and 'import x from \\"../pql/plan.ts\\"'";`],
    ["a member called process", "shared/audit/log.ts", "batch.process.start();"],
    ["a test may import what it likes", "shared/pql/plan.test.ts", 'import { x } from "../audit/log.ts";'],
  ];
  test.each(allowed)("%s", (_why, path, source) => {
    expect(plant(path, source)).toEqual([]);
  });
});

test("a quote in a regular expression does not hide the import after it", () => {
  const { imports } = scan(`const quote = /["'\`]/;\nconst half = a / b;\nimport { x } from "./x.ts";`);
  expect(imports).toEqual([{ specifier: "./x.ts", line: 3 }]);
});

test("every file of the walled rooms is read", () => {
  const paths = readSources(fileURLToPath(new URL("..", import.meta.url))).map(({ path }) => path);
  expect(paths).toContain("shared/contract/events.ts");
  expect(paths).toContain("workers/api/index.ts");
  expect(paths.length).toBeGreaterThan(40);
});
