// How answers look: on a terminal, in a pipe, as JSON; where a PQL error points; what help says.

import type { Command } from "commander";
import { describe, expect, test } from "vitest";
import { pointAt } from "./pql/point-at.ts";
import { exitCodes } from "./exit-codes.ts";
import { createOutput, printable } from "./output.ts";
import { buildProgram } from "./program.ts";
import { maestro, testHost } from "./testing/host.ts";
import { apiKey } from "./testing/market.ts";
import { json, problem, testServer } from "./testing/server.ts";

const covers = { from: "2026-04-13T16:00:00.000Z", to: "2026-04-13T17:00:00.000Z" };

describe("a table", () => {
  const table = (terminal: boolean, env = {}) =>
    createOutput(testHost({ terminal, env }), false).table(
      ["name", "count"],
      [
        ["a", 5],
        ["longer", 10],
      ],
    );

  test("is tabs in a pipe, columns on a terminal, without colour where NO_COLOR is set", () => {
    expect(table(false)).toBe("name\tcount\na\t5\nlonger\t10");
    expect(table(true, { NO_COLOR: "1" })).toBe("name    count\na           5\nlonger     10");
    expect(table(true)).toContain("\u001B[1m");
    expect(table(true, { TERM: "dumb" })).not.toContain("\u001B");
  });

  test("holds no control characters of what it shows", () => {
    expect(printable("a\u001b]0;title\u0007\tb")).toBe("a\\u{1b}]0;title\\u{7}\\u{9}b");
    const marks = "\u009b\u061c\u200e\u200f\u2028\u202e\u2066";
    expect(printable(marks)).toBe("\\u{9b}\\u{61c}\\u{200e}\\u{200f}\\u{2028}\\u{202e}\\u{2066}");
    expect(printable("ä 猫 🐈\u200d")).toBe("ä 猫 🐈\u200d");
  });
});

test.each([true, false])("JSON has none either, and means the same (on a terminal: %s)", (terminal) => {
  const value = { description: 'a\u009b31m"\\b\u007f\u202ec\u200f\u001bd\n', more: ["ä"] };
  const host = testHost({ terminal });
  createOutput(host, true).result(value, () => "");
  expect(JSON.parse(host.out())).toEqual(value);
  expect(host.out()).not.toMatch(/[[\p{Cc}\p{Bidi_Control}]--[\n]]/v);
});

test("a next page is told as a command that a shell reads as nothing else, whatever cursor the API gives", async () => {
  const server = await testServer();
  server.on("GET /api/executions", json({ executions: [], next_cursor: "x; rm -rf ~ \u001b[2J" }));
  server.on(
    "POST /api/pql",
    json({
      kind: "rows",
      covers,
      complete_to: covers.to,
      price: { rows: 0, limit: 9 },
      columns: [],
      rows: [],
      next_cursor: "x; rm -rf ~ \u001b[2J",
    }),
  );
  const host = (stdin?: string) =>
    testHost({
      env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey },
      ...(stdin === undefined ? {} : { stdin }),
    });
  const listed = await maestro(host(), "executions", "list");
  expect(listed.err).toBe("more: maestro executions list --limit 20 --cursor 'x; rm -rf ~ \\u{1b}[2J'\n");
  const asked = await maestro(host(), "pql", "FIND executions");
  expect(asked.err).toBe("more: add --cursor 'x; rm -rf ~ \\u{1b}[2J'\n");
});

describe("what an API answers", () => {
  const id = "exe_01k9x6f6c8a0b1c2d3e4f5g6h7";
  const link = {
    url: "https://maestro.example/\u001b]0;title\u0007\u009b2J",
    sha256: "a".repeat(64),
    bytes: 1,
    pack_version: 3,
    one_time: false,
    audience: null,
    expires_at: covers.to,
    grant_id: "grt_01k9x6f6c8a0b1c2d3e4f5g6h7",
  };
  test.each([[[]], [["--json"]]])("does not steer a terminal, with %j, and is JSON still", async (flags) => {
    const server = await testServer();
    server.on(`GET /api/executions/${id}/disclosure:link`, json(link));
    const env = { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey, NO_COLOR: "1" };
    const { code, out } = await maestro(testHost({ terminal: true, env }), "disclosure", "link", id, ...flags);
    expect(code).toBe(0);
    // oxlint-disable-next-line no-control-regex
    expect(out).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/);
    const shown = flags.length === 0 ? printable(link.url) : JSON.stringify(link.url).replace("\u009b", "\\u009b");
    expect(out).toContain(shown);
    const read = flags.length === 0 ? link : (JSON.parse(out) as unknown);
    expect(read).toEqual(link);
  });
});

describe("maestro pql", () => {
  async function withAnswer(answer: unknown) {
    const server = await testServer();
    server.on("POST /api/pql", json(answer));
    return {
      server,
      host: testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey }, stdin: "FIND executions\n" }),
    };
  }

  test("shows groups, their rest and their buckets; without an Idempotency-Key", async () => {
    const { server, host } = await withAnswer({
      kind: "groups",
      covers,
      complete_to: "2026-04-13T16:59:59.123Z",
      price: { rows: 3, limit: 1_000_000 },
      field: "package",
      bucket_ms: 60_000,
      groups: [
        { name: "tools/a", total: 3 },
        { name: null, total: 1 },
      ],
      other: 2,
      total: 6,
      buckets: [{ start: covers.from, partial: true, counts: [3, 1], other: 2 }],
    });
    const { code, out } = await maestro(host, "pql", "FIND executions");
    expect(code).toBe(0);
    expect(out.split("\n").slice(0, 5)).toEqual([
      "package\ttotal",
      "tools/a\t3",
      "(none)\t1",
      "(other)\t2",
      "(total)\t6",
    ]);
    expect(out).toContain(`${covers.from}\t3\t1\t2\tpartial`);
    expect(out).toContain(`covers ${covers.from} to ${covers.to}, complete to 2026-04-13T16:59:59.123Z`);
    expect(server.seen[0]!.headers["idempotency-key"]).toBeUndefined();
  });

  test("shows rows in the order of the columns, and reads the query from stdin for -", async () => {
    const { server, host } = await withAnswer({
      kind: "rows",
      covers,
      complete_to: null,
      price: { rows: 3, limit: 1_000_000 },
      columns: ["b", "a"],
      rows: [{ a: 1, b: "x" }],
      next_cursor: "c1",
    });
    const { out, err } = await maestro(host, "pql", "-");
    expect(out.trim().split("\n")).toEqual([
      "b\ta",
      "x\t1",
      `covers ${covers.from} to ${covers.to}, nothing logged yet`,
    ]);
    expect(err).toContain("--cursor c1");
    expect(JSON.parse(server.seen[0]!.body.toString())).toEqual({ query: "FIND executions" });
  });

  test("puts a caret under the place that the problem names", async () => {
    const server = await testServer();
    server.on(
      "POST /api/pql",
      problem(400, {
        code: "pql_invalid",
        title: "The PQL query cannot be run",
        detail: "Expected a subject.",
        line: 2,
        column: 3,
        suggestion: "Did you mean `executions`?",
      }),
    );
    const host = testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
    const { code, err } = await maestro(host, "pql", "FIND\n  nothing");
    expect(code).toBe(2);
    expect(err.split("\n").slice(0, 2)).toEqual(["    nothing", "    ^"]);
    expect(err).toContain("hint: Did you mean `executions`?");
  });

  test("points into long lines, and nowhere where the query has no such place", () => {
    const [line = "", caret = ""] = pointAt(`${"a".repeat(500)}!`, 1, 501);
    expect(line[caret.indexOf("^")]).toBe("!");
    expect(line.length).toBeLessThan(170);
    expect(pointAt("short", 1, 99)).toEqual([]);
    expect(pointAt("short", 2, 1)).toEqual([]);
  });
});

describe("help", () => {
  test("every command has examples, and --json", async () => {
    const host = testHost();
    const leavesOf = (command: Command, path: readonly string[]): string[][] =>
      command.commands.length === 0
        ? [[...path]]
        : command.commands.flatMap((one) => leavesOf(one, [...path, one.name()]));
    const leaves = leavesOf(buildProgram(host, { exit: "ok" }), []);
    expect(leaves.length).toBeGreaterThanOrEqual(59);
    for (const path of leaves) {
      const { code, out } = await maestro(host, ...path, "--help");
      expect(code).toBe(0);
      expect(out).toContain(`$ maestro ${path.join(" ")}`);
      expect(out).toContain("--json");
    }
  });

  test("every example is a command line that is taken as it stands", async () => {
    const program = buildProgram(testHost(), { exit: "ok" });
    let taken: unknown = null;
    const examples: string[] = [];
    const stub = async (command: Command): Promise<void> => {
      for (const one of command.commands) await stub(one);
      if (command.commands.length > 0) return;
      const { out } = await maestro(testHost(), ...pathOf(command), "--help");
      examples.push(...Array.from(out.matchAll(/^ {2}\$ maestro (.*)$/gm), ([, line]) => line!));
      command.action(() => void (taken = command));
    };
    const pathOf = (command: Command): string[] =>
      command.parent === null ? [] : [...pathOf(command.parent), command.name()];
    await stub(program);
    // What the shell does with them, but for another program behind a pipe and a file in the place of a stream. What a command in
    // an argument prints is not known here: it is one word, and an example by itself.
    const wordsOf = (line: string): string[] =>
      Array.from(line.split(/ [|<>] /)[0]!.matchAll(/(?:\$\([^)]*\)|'[^']*'|"[^"]*"|[^\s'"])+/g), ([word]) =>
        word.replaceAll(/'([^']*)'|"([^"]*)"/g, "$1$2"),
      );
    const inside = examples.flatMap((line) =>
      Array.from(line.matchAll(/\$\(maestro ([^)]*)\)/g), ([, inner]) => inner!),
    );
    examples.push(...inside);
    expect(examples.length).toBeGreaterThan(80);
    for (const example of examples) {
      taken = null;
      await program.parseAsync(wordsOf(example), { from: "user" }).catch((error: unknown) => {
        throw new Error(`maestro ${example}`, { cause: error });
      });
      expect(taken, example).not.toBeNull();
    }
  });

  test("every group names its commands where a word is none of them, also one that lists by default", async () => {
    const groupsOf = (command: Command, path: readonly string[]): { path: string[]; names: string[] }[] =>
      command.commands
        .filter((one) => one.commands.length > 0)
        .flatMap((one) => {
          const to = [...path, one.name()];
          return [{ path: to, names: one.commands.map((below) => below.name()) }, ...groupsOf(one, to)];
        });
    const groups = groupsOf(buildProgram(testHost(), { exit: "ok" }), []);
    expect(groups.length).toBeGreaterThanOrEqual(20);
    for (const { path, names } of groups) {
      const { code, err, json } = await maestro(testHost(), ...path, "nothing", "more", "--json");
      const title = `unknown command 'nothing'; maestro ${path.join(" ")} has: ${names.join(", ")}`;
      expect(err).toBe(`error: ${title}\n(add --help for how it is used)\n`);
      expect(json()).toEqual({ error: { title, exit: "usage", exit_code: 2 } });
      expect(code).toBe(2);
    }
  });

  test("exit-codes lists them all, and unknown things are exit code 2 with one JSON value", async () => {
    const { json: value } = await maestro(testHost(), "help", "exit-codes", "--json");
    expect((value()["exit_codes"] as unknown[]).length).toBe(Object.keys(exitCodes).length);
    const wrong = await maestro(testHost(), "market", "nothing", "--json");
    expect(wrong.code).toBe(2);
    expect((wrong.json()["error"] as Record<string, unknown>)["exit_code"]).toBe(2);
    expect((await maestro(testHost(), "help", "nothing")).code).toBe(2);
    expect((await maestro(testHost())).code).toBe(2);
  });
});
