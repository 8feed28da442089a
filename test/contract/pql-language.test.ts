// docs/pql is true: every example of the page runs through the real engine and finds something, every refusal reads as it
// is printed, and the tables and the grammar say what the code does.

import { readFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import { answerText, chartNames } from "../../cli/pql/answer-text.ts";
import { formatNames } from "../../cli/pql/formats.ts";
import { shellCommands } from "../../cli/pql/shell.ts";
import { createSession } from "../../cli/session.ts";
import { testHost } from "../../cli/testing/host.ts";
import { columns, subjects } from "../../shared/pql/catalogue.ts";
import { askPql } from "../../shared/pql/engine.ts";
import { inFormat, pqlFormats } from "../../shared/pql/formats.ts";
import { limits } from "../../shared/pql/limits.ts";
import { PqlError } from "../../shared/pql/pql-error.ts";
import { writeEventRows } from "../../shared/pql/store.ts";
import { useStack } from "../support/stack.ts";
import { connect, rowOf, tenantNumber, type RowParts } from "./pql-support.ts";

const stack = useStack();
const app = connect(stack, "app");
const tenant = tenantNumber(0x1a06);
const now = Date.UTC(2026, 3, 13, 16, 20);
const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");
const page = read("docs/pql/LANGUAGE.md");
const blocks = (kind: string): string[] =>
  [...page.matchAll(new RegExp(`^\`\`\`${kind}\\n([^]*?)\\n\`\`\`$`, "gm"))].map(([, text]) => text!);

beforeAll(async () => {
  const run = { execution_id: "exe_01k9x6f6c8a0b1c2d3e4f5g6h7", package: "tools/sbom-inventory", version: "1.2.0" };
  const rows: RowParts[] = [
    { type: "mc.execution.started", ...run, channel: "stable", units: 2 },
    { type: "mc.execution.finished", ...run, outcome: "failed", duration_ms: 7_000, attributes: { exit_code: 3 } },
    { type: "mc.receipt.signed", ...run, outcome: "failed" },
    { type: "mc.policy.decision", package: run.package, action: "execution.start", outcome: "deny", rule: "entitlement_missing" },
    { type: "mc.policy.decision", action: "install.write", outcome: "deny", rule: "role_too_low", attributes: { action: "install.write" } },
    { type: "mc.policy.decision", ...run, outcome: "allow", rule: "ok", attributes: { execution_id: run.execution_id } },
    { type: "mc.install.changed", package: run.package, version: "1.2.0", channel: "canary", outcome: "installed" },
    { type: "mc.entitlement.changed", package: run.package, channel: "stable", outcome: "denied", attributes: { allowed: false } },
  ]; // prettier-ignore
  const at = (index: number): string => new Date(now - (rows.length - index) * 1000).toISOString();
  const written = rows.map((parts, seq) => rowOf(tenant, seq, { ...parts, logged_at: at(seq), occurred_at: at(seq) }));
  await writeEventRows(connect(stack, "audit"), written);
});

test.each(blocks("pql"))("%s", async (query) => {
  const answer = await askPql(app, { tenant_id: tenant, now, query });
  expect(answer.kind === "rows" ? answer.rows.length : answer.total).toBeGreaterThan(0);
});

test.each(blocks("pql-refused"))("refused: %s", async (block) => {
  const lines = block.split("\n");
  const printed = lines.pop();
  const error = await askPql(app, { tenant_id: tenant, now, query: lines.join("\n") }).catch(
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof PqlError)) throw error;
  expect(`${error.line}:${error.column} ${[error.message, error.suggestion].join(" ").replace(/[^.?]$/, "$&.")}`).toBe(
    printed,
  );
});

test.each([
  ["csv", "text/csv"],
  ["ndjson", "application/x-ndjson"],
] as const)("an answer as %s reads as it is printed", async (kind, format) => {
  const [block, ...more] = blocks(`pql-${kind}`);
  expect(more).toEqual([]);
  const [query = "", ...printed] = block!.split("\n");
  const { body } = inFormat(format, await askPql(app, { tenant_id: tenant, now, query }));
  if (typeof body !== "string") throw new TypeError("a text was asked for");
  expect(body.replaceAll("\r\n", "\n").trimEnd()).toBe(printed.join("\n"));
});

test("an answer on a terminal reads as it is printed", async () => {
  const [block, ...more] = blocks("pql-terminal");
  expect(more).toEqual([]);
  const [query = "", ...printed] = block!.split("\n");
  const answer = await askPql(app, { tenant_id: tenant, now, query });
  const session = createSession(testHost({ terminal: true, env: { LANG: "C.UTF-8", NO_COLOR: "1" } }), false);
  expect(answerText(session, answer, "sparkline")).toBe(printed.join("\n"));
});

test("the page has the commands that the shell has, and the formats and charts", () => {
  const section = page.slice(page.indexOf("## On the command line"), page.indexOf("## Versions"));
  expect([...section.matchAll(/^\| `\\(\w+)/gm)].map(([, name]) => name)).toEqual([...shellCommands]);
  for (const name of [...formatNames, ...chartNames]) expect(section).toContain(`\`${name}\``);
});

test("the page has every format and every header of an answer", async () => {
  const listed = [...page.matchAll(/^\| `(\w+\/[\w.-]+)` \|/gm)].map(([, type]) => type);
  expect(listed).toEqual([...pqlFormats]);
  const query = "FIND decisions BUCKET BY 1h TOP 1 BY rule SINCE 24h";
  const { headers } = inFormat("text/csv", await askPql(app, { tenant_id: tenant, now, query }));
  const told = Object.keys(headers).filter((name) => name !== "content-type");
  expect(told.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
});

test("every clause, operator and subject has an example", () => {
  const examples = blocks("pql").join("\n");
  const words = [
    "WHERE",
    "BUCKET BY",
    "TOP",
    "LIMIT",
    "SINCE",
    "AND",
    "OR",
    "NOT",
    "IN",
    "LIKE",
    "EXISTS",
    "=",
    "!=",
    ">",
    ">=",
    ...subjects.keys(),
  ];
  expect(words.filter((word) => !examples.includes(word))).toEqual([]);
});

test("the page's tables have the catalogue's subjects and fields, and the limits in force", () => {
  for (const [name, types] of subjects) {
    const type = name === "events" ? "all types" : `\`${types.join("` `")}\``;
    expect(page).toContain(`| \`${name}\` | ${type} |`);
  }
  const fields = page.slice(page.indexOf("| fields |"), page.indexOf("Values are strings"));
  for (const name of columns.keys()) expect(fields).toContain(`\`${name}\``);
  const { sinceMaxMs, sinceDefaultMs, ...listed } = limits;
  expect([sinceMaxMs, sinceDefaultMs]).toEqual([400 * 86_400_000, 24 * 3_600_000]);
  const table = page.slice(page.indexOf("## Limits"), page.indexOf("A query over rows counted"));
  expect([...table.matchAll(/\| (\d+)[ \w]* \|$/gm)].map(([, number]) => Number(number))).toEqual(
    Object.values(listed),
  );
  expect(page).toContain(`"limit": ${limits.priceRowsMax}}`);
});

test("the EBNF has the words that the parser's grammar has, and no others", () => {
  const wordsOf = (text: string): string[] =>
    [...new Set([...text.matchAll(/"([A-Za-z]+)"/g)].map(([, word]) => word!.toUpperCase()))].sort();
  const rules = read("shared/pql/grammar.peggy")
    .split("// ---- errors")[0]!
    .replace(/\{[^]*?\n\}|\{[^}]*\}|\/\/.*/g, "");
  const ebnf = read("docs/pql/GRAMMAR_v1_2.ebnf").replace(/\(\*[^]*?\*\)/g, "");
  // Subjects and `attrs` are words of the catalogue, not of the parser's grammar.
  const catalogue = new Set([...subjects.keys(), "attrs"].map((word) => word.toUpperCase()));
  expect(wordsOf(ebnf).filter((word) => !catalogue.has(word))).toEqual(wordsOf(rules));
});
