// The shell as it is typed into: keys in, a screen out, a server behind it. A real terminal is in test/interop.

import { readFileSync } from "node:fs";
import { PassThrough } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import type { PqlExplanation, PricedAnswer } from "../../shared/contract/http-pql.ts";
import { runMaestro } from "../program.ts";
import { testHost } from "../testing/host.ts";
import { apiKey } from "../testing/market.ts";
import { json, problem, testServer, type TestServer } from "../testing/server.ts";
import { historyPath } from "./history.ts";

const price = { rows: 927, limit: 1_000_000 };
const covers = { from: "2026-04-13T16:00:00.000Z", to: "2026-04-13T17:00:00.000Z" };
const groups = (field: string, names: readonly string[]): PricedAnswer => ({
  kind: "groups",
  covers,
  price,
  complete_to: null,
  field,
  bucket_ms: null,
  groups: names.map((name) => ({ name, total: 7 })),
  other: 0,
  total: 7 * names.length,
  buckets: null,
});
const rows = (cursor: string | null): PricedAnswer => ({
  kind: "rows",
  covers,
  price,
  complete_to: null,
  columns: ["seq", "package"],
  rows: [{ seq: 1, package: "tools/seen" }],
  next_cursor: cursor,
});

const explanation: PqlExplanation = {
  kind: "explain",
  covers,
  complete_to: null,
  template: "rows",
  words: ["Rows, newest first, 100 a page.", "It reads at most 927 rows; one question may read 1000000."],
  reads: { totals: [], series: [] },
  cells: null,
  price,
  verdict: "admitted",
  retry_after_ms: null,
  changes: [],
};

const keys = { tab: "\t", enter: "\r", up: "\u001B[A", ctrlC: "\u0003", ctrlD: "\u0004" };

interface Typed {
  readonly server: TestServer;
  readonly host: ReturnType<typeof testHost>;
  /** Types, and waits until what came since is `shows`. Answers what came. */
  readonly type: (text: string, shows: string) => Promise<string>;
  /** Queries that the server was asked. */
  readonly asked: () => string[];
  readonly end: () => Promise<number>;
}

/** Colours and the moves of the cursor left out. */
// oxlint-disable-next-line no-control-regex
const screen = (text: string): string => text.replaceAll(/\u001B\[[0-9;]*[A-Za-z]/g, "");
const shownWithinMs = 5_000;

async function shell(given: { home?: string; argv?: string[] } = {}): Promise<Typed> {
  const server = await testServer();
  const input = new PassThrough();
  const host = testHost({
    stdin: input,
    terminal: true,
    env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey, LANG: "C.UTF-8" },
    ...(given.home === undefined ? {} : { home: given.home }),
  });
  const code = runMaestro(["pql", ...(given.argv ?? [])], host);
  const shown = (from: readonly [number, number]): string =>
    screen(host.out().slice(from[0]) + host.err().slice(from[1]));
  const until = async (from: readonly [number, number], shows: string): Promise<string> => {
    const end = performance.now() + shownWithinMs;
    while (!shown(from).includes(shows)) {
      if (performance.now() > end) throw new Error(`${JSON.stringify(shows)} was not shown: ${shown(from)}`);
      await delay(5);
    }
    return shown(from);
  };
  const type: Typed["type"] = async (text, shows) => {
    const from = [host.out().length, host.err().length] as const;
    // Key by key: what comes at once is a paste, in which a tab is a tab.
    // oxlint-disable-next-line no-control-regex
    for (const [key] of text.matchAll(/\u001B\[[A-Z]|[^]/g)) {
      input.write(key);
      await delay(1);
    }
    return await until(from, shows);
  };
  await until([0, 0], "pql> ");
  return {
    server,
    host,
    type,
    asked: () => server.seen.map(({ body }) => (JSON.parse(body.toString()) as { query: string }).query),
    end: async () => {
      input.write(keys.ctrlD);
      return await code;
    },
  };
}

describe("a question", () => {
  test("of several lines is asked whole, without its semicolon, and answered as a table", async () => {
    const { server, type, asked, end } = await shell();
    server.on("POST /api/pql", json(groups("type", ["mc.policy.decision"])));
    await type("FIND events\r", "...> ");
    const out = await type("TOP 1 BY type;\r", "covers");
    expect(asked()).toEqual(["FIND events\nTOP 1 BY type"]);
    expect(out).toMatch(/mc\.policy\.decision +7\n/);
    expect(await end()).toBe(0);
  });

  test("that is refused is pointed at, and the next one is asked", async () => {
    const { server, type, end } = await shell();
    server.on(
      "POST /api/pql",
      problem(400, { code: "pql_invalid", title: "No", line: 1, column: 6, suggestion: "Did you mean `events`?" }),
    );
    const refused = await type("FIND evnts;\r", "Did you mean");
    expect(refused).toContain("  FIND evnts\n       ^\n");
    server.on("POST /api/pql", json(rows(null)));
    await type("FIND events;\r", "tools/seen");
    expect(await end()).toBe(0);
  });

  test("is cancelled by Ctrl-C, and the shell goes on", async () => {
    const { server, type, end } = await shell();
    server.on("POST /api/pql", () => undefined);
    await type("FIND events;\r", "\r\n");
    while (server.seen.length === 0) await delay(5);
    await type(keys.ctrlC, "cancelled");
    server.on("POST /api/pql", json(rows(null)));
    await type("FIND events;\r", "tools/seen");
    expect(await end()).toBe(0);
  });

  test("that was not finished is cleared by Ctrl-C, all lines of it", async () => {
    const { server, type, asked, end } = await shell();
    server.on("POST /api/pql", json(rows(null)));
    await type("FIND nonsense\r", "...> ");
    await type(`more${keys.ctrlC}`, "^C");
    await type("FIND events;\r", "tools/seen");
    expect(asked()).toEqual(["FIND events"]);
    expect(await end()).toBe(0);
  });

  test("has a next page, once", async () => {
    const { server, type, end } = await shell();
    server.on("POST /api/pql", json(rows("c1")));
    await type("FIND events;\r", "more: \\more");
    server.on("POST /api/pql", json(rows(null)));
    await type("\\more\r", "tools/seen");
    expect(JSON.parse(server.seen.at(-1)!.body.toString())).toEqual({ query: "FIND events", cursor: "c1" });
    await type("\\more\r", "There is no next page.");
    expect(await end()).toBe(0);
  });
});

describe("Tab", () => {
  test("completes keywords, subjects and fields by their place", async () => {
    const { server, type, asked, end } = await shell();
    server.on("POST /api/pql", json(rows(null)));
    await type(`fi${keys.tab}dec${keys.tab}w${keys.tab}act${keys.tab}`, "FIND decisions WHERE action ");
    await type(`= "x";\r`, "tools/seen");
    expect(asked()).toEqual(['FIND decisions WHERE action = "x"']);
    expect(await end()).toBe(0);
  });

  test("on a value asks the tenant once a field, and offers what was seen in answers", async () => {
    const { server, type, asked, end } = await shell();
    server.on("POST /api/pql", json(groups("package", ["tools/alpha", "tools/beta"])));
    await type(`FIND decisions WHERE package = "${keys.tab}`, '"tools/');
    await type(`a${keys.tab}`, 'alpha" ');
    expect(asked()).toEqual(["FIND decisions TOP 20 BY package SINCE 30d"]);
    await type(keys.ctrlC, "^C");
    server.on("POST /api/pql", json(rows(null)));
    await type("FIND decisions;\r", "tools/seen");
    await type(`FIND decisions WHERE package = "tools/s${keys.tab}`, '"tools/seen"');
    expect(asked()).toHaveLength(2);
    await type(keys.ctrlC, "^C");
    expect(await end()).toBe(0);
  });

  test("offers nothing where the tenant's values cannot be read, and says nothing of it", async () => {
    const { server, host, type, asked, end } = await shell();
    server.on("POST /api/pql", problem(403, { code: "role_too_low", title: "Your role does not allow this" }));
    await type(`FIND decisions WHERE rule = "${keys.tab}`, 'rule = "');
    while (asked().length === 0) await delay(5);
    await type("x", "x");
    expect(host.err()).not.toContain("role");
    await type(keys.ctrlC, "^C");
    expect(await end()).toBe(0);
  });

  test("completes commands and their arguments", async () => {
    const { type, end } = await shell();
    await type(`\\for${keys.tab} nd${keys.tab}`, "\\format ndjson");
    expect(await type(keys.enter, "pql> ")).not.toContain("There is no");
    expect(await end()).toBe(0);
  });
});

describe("a command", () => {
  test("sets the format and the chart", async () => {
    const { server, type, end } = await shell();
    server.on("POST /api/pql", json(groups("type", ["a"])));
    await type("\\format csv\r", "pql> ");
    await type("FIND events TOP 1 BY type;\r", "group,,,a,7\n");
    await type("\\f parquet\r", "may be");
    await type("\\format parquet\r", "--out FILE");
    await type("\\format\r", "The format is csv.");
    await type("\\format table\r\\chart bars\r", "pql> ");
    await type("FIND events TOP 1 BY type;\r", "█");
    await type("\\chart pie\r", "sparkline, bars, none?");
    expect(await end()).toBe(0);
  });

  test("explains a query, the last one where none is named", async () => {
    const { server, type, end } = await shell();
    await type("\\explain\r", "Nothing was asked yet");
    server.on("POST /api/pql", json(rows(null)));
    await type("FIND events;\r", "tools/seen");
    server.on("POST /api/pql", json(explanation));
    expect(await type("\\explain\r", "covers")).toContain("It reads at most 927 rows");
    expect(JSON.parse(server.seen.at(-1)!.body.toString())).toEqual({ query: "FIND events", explain: true });
    expect(await end()).toBe(0);
  });

  test("tells the fields of a subject, help, and what it does not know", async () => {
    const { type, end } = await shell();
    expect(await type("\\fields executions\r", "attrs.exit_code")).toMatch(/duration_ms +duration +no/);
    await type("\\fields people\r", "A subject is one of");
    await type("\\?\r", "Ctrl-D does");
    await type("\\nonsense\r", "There is no \\nonsense.");
    expect(await end()).toBe(0);
  });

  test("quits", async () => {
    const { type, end } = await shell();
    await type("\\q\r", "\n");
    expect(await end()).toBe(0);
  });
});

describe("the history", () => {
  test("has whole queries, in this shell and in the next", async () => {
    const first = await shell();
    first.server.on("POST /api/pql", json(rows(null)));
    await first.type("FIND events\r", "...> ");
    await first.type("SINCE 1h;\r", "tools/seen");
    await first.type(keys.up, "FIND events SINCE 1h;");
    await first.type(keys.enter, "tools/seen");
    expect(first.asked()).toEqual(["FIND events\nSINCE 1h", "FIND events SINCE 1h"]);
    expect(await first.end()).toBe(0);
    expect(readFileSync(historyPath(first.host), "utf8")).toBe("FIND events SINCE 1h;\n");

    const second = await shell({ home: first.host.home });
    await second.type(keys.up, "FIND events SINCE 1h;");
    await second.type(keys.ctrlC, "^C");
    expect(await second.end()).toBe(0);
  });
});

test("a signal from outside ends the shell with its exit code, also in the middle of a question", async () => {
  const server = await testServer();
  server.on("POST /api/pql", () => undefined);
  const input = new PassThrough();
  const host = testHost({
    stdin: input,
    terminal: true,
    env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey },
  });
  const code = runMaestro(["pql"], host);
  input.write("FIND events;\r");
  while (server.seen.length === 0) await delay(5);
  host.interrupt();
  expect(await code).toBe(130);
});

test("without a login, or without a terminal, there is no shell", async () => {
  expect(await runMaestro(["pql"], testHost({ stdin: new PassThrough(), terminal: true }))).toBe(3);
  const piped = testHost({ env: { MAESTRO_API_URL: "http://127.0.0.1:9", MAESTRO_API_KEY: apiKey } });
  expect(await runMaestro(["pql"], piped)).toBe(2);
  expect(piped.err()).toContain("No query was given");
});
