// Lines to queries, and queries to the history.

import { chmod, mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { describe, expect, test } from "vitest";
import { testHost } from "../testing/host.ts";
import { entryOf, historyPath, readHistory, remember } from "./history.ts";
import { enter, type Entered } from "./shell-input.ts";

/** What the last of the lines makes. */
function entered(...lines: string[]): Entered {
  let result: Entered = { kind: "nothing" };
  for (const line of lines) result = enter(result.kind === "more" ? result.lines : [], line);
  return result;
}

describe("a query", () => {
  test.each<[string[], string]>([
    [["FIND events;"], "FIND events"],
    [["FIND events ; "], "FIND events"],
    [["FIND events", ""], "FIND events"],
    [["FIND events", "  SINCE 1h;"], "FIND events\n  SINCE 1h"],
    [["FIND events", "   "], "FIND events"],
    [['FIND events WHERE rule = "a;"', ";"], 'FIND events WHERE rule = "a;"'],
    [['FIND events WHERE rule = "a;', ""], 'FIND events WHERE rule = "a;'],
    [[String.raw`FIND events WHERE rule = "a\";";`], String.raw`FIND events WHERE rule = "a\";"`],
    [["FIND events;;"], "FIND events"],
  ])("%j is %j", (lines, query) => {
    expect(entered(...lines)).toEqual({ kind: "query", query });
  });

  test("goes on until its end, and a command is none once it has begun", () => {
    expect(entered("FIND events")).toEqual({ kind: "more", lines: ["FIND events"] });
    expect(entered("FIND events", "\\quit")).toEqual({ kind: "more", lines: ["FIND events", "\\quit"] });
    expect(entered("")).toEqual({ kind: "nothing" });
    expect(entered(";")).toEqual({ kind: "nothing" });
    expect(
      enter(
        Array.from({ length: 999 }, () => "x"),
        "x",
      ).kind,
    ).toBe("query");
  });

  test("is no command: a backslash begins one", () => {
    expect(entered("\\format csv")).toEqual({ kind: "command", name: "format", argument: "csv" });
    expect(entered("\\explain FIND events;")).toEqual({ kind: "command", name: "explain", argument: "FIND events" });
    expect(entered("\\")).toEqual({ kind: "command", name: "", argument: "" });
  });
});

describe("the history", () => {
  test("has a query a line, and no secrets, nothing that begins with a blank, nothing huge", () => {
    expect(entryOf("FIND events\n  SINCE 1h;\n")).toBe("FIND events SINCE 1h;");
    expect(entryOf(" FIND events;")).toBeNull();
    expect(entryOf(`mk_${"a".repeat(32)};`)).toBeNull();
    expect(entryOf(`FIND events WHERE rule = "mk_${"a1".repeat(16)}";`)).toBeNull();
    expect(entryOf("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln;")).toBeNull();
    expect(entryOf(`FIND ${"x".repeat(5_000)};`)).toBeNull();
  });

  test("is kept for this user alone, a thousand lines of it, none twice in a row", async () => {
    const host = testHost();
    expect(await readHistory(host)).toEqual([]);
    await remember(host, "FIND a;");
    await remember(host, "FIND a;");
    await remember(host, "FIND b;");
    expect(await readFile(historyPath(host), "utf8")).toBe("FIND a;\nFIND b;\n");
    expect((await stat(historyPath(host))).mode & 0o777).toBe(0o600);
    expect((await stat(dirname(historyPath(host)))).mode & 0o777).toBe(0o700);
    await writeFile(historyPath(host), Array.from({ length: 1_500 }, (_, at) => `FIND x${at};\n`).join(""));
    await remember(host, "FIND last;");
    const kept = await readHistory(host);
    expect([kept.length, kept[0], kept.at(-1)]).toEqual([1_000, "FIND x501;", "FIND last;"]);
  });

  test("of two shells at a time keeps what both were asked", async () => {
    const host = testHost();
    const other = testHost({ home: host.home });
    for (const [at, one] of [host, other, host].entries()) await remember(one, `FIND x${at};`);
    expect(await readHistory(other)).toEqual(["FIND x0;", "FIND x1;", "FIND x2;"]);
  });

  test("that cannot be read is told, and is never taken for an empty one", async () => {
    const host = testHost();
    await mkdir(historyPath(host), { recursive: true });
    await chmod(historyPath(host), 0o700);
    await expect(readHistory(host)).rejects.toThrow("EISDIR");
  });
});
