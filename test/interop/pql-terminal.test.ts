// `maestro pql` on a real terminal: Python's pty types what a person would, and the program's own process answers, through
// the shim, with raw mode, Ctrl-C and Ctrl-D as the kernel delivers them.

import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { testFolder } from "../../cli/testing/host.ts";
import { apiKey } from "../../cli/testing/market.ts";
import { json, testServer, type TestServer } from "../../cli/testing/server.ts";
import { tool } from "../support/tools.ts";

const python = tool("python3");
const shim = resolve(import.meta.dirname, "..", "..", "cli", "maestro.mjs");

/**
 * Runs a program on a terminal of 24 lines and 80 columns. Each step is [keys, what must be on the screen since then]; prints what
 * was on the screen, and ends with the program's exit code.
 */
const driver = `
import fcntl, json, os, pty, select, struct, sys, termios, time
steps, argv = json.loads(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(argv[0], argv)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
seen = b""
def read(until):
    global seen
    end = time.monotonic() + 20
    start = len(seen)
    while until.encode() not in seen[start:]:
        if time.monotonic() > end:
            sys.stdout.buffer.write(seen + b"\\n[not shown: " + until.encode() + b"]")
            sys.exit(99)
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                part = os.read(terminal, 65536)
            except OSError:
                part = b""
            if part == b"":
                return
            seen += part
read("pql> ")
for keys, until in steps:
    for key in keys:
        os.write(terminal, key.encode())
        time.sleep(0.02)
    read(until)
try:
    while True:
        part = os.read(terminal, 65536)
        if part == b"":
            break
        seen += part
except OSError:
    pass
sys.stdout.buffer.write(seen)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

interface Ended {
  readonly code: number | null;
  readonly screen: string;
}

function onTerminal(home: string, server: TestServer, steps: readonly (readonly [string, string])[]): Promise<Ended> {
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: home,
    TERM: "xterm-256color",
    LANG: "C.UTF-8",
    MAESTRO_API_URL: server.url,
    MAESTRO_API_KEY: apiKey,
  };
  const child = spawn(python!, ["-c", driver, JSON.stringify(steps), process.execPath, shim, "pql"], {
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  let screen = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => (screen += part));
  return new Promise((done) => child.once("close", (code) => done({ code, screen })));
}

const covers = { from: "2026-04-13T16:00:00.000Z", to: "2026-04-13T16:15:00.000Z" };
const counts = {
  kind: "groups",
  covers,
  price: { rows: 12, limit: 1_000_000 },
  complete_to: null,
  field: "package",
  bucket_ms: 300_000,
  groups: [{ name: "tools/alpha", total: 9 }],
  other: 0,
  total: 9,
  buckets: [1, 8, 0].map((count, at) => ({
    start: `2026-04-13T16:${String(at * 5).padStart(2, "0")}:00.000Z`,
    partial: false,
    counts: [count],
    other: 0,
  })),
};

describe("on a terminal", () => {
  test.skipIf(python === null)(
    "keys complete, ask, draw and come back from the history; Ctrl-C cancels, Ctrl-D ends",
    async () => {
      const server = await testServer();
      let asked = 0;
      server.on("POST /api/pql", (request, response) => {
        asked += 1;
        // The second question of the person's is never answered.
        if (asked !== 3) json(counts)(request, response);
      });
      const home = testFolder();
      const first = await onTerminal(home, server, [
        // One Tab each for FIND, decisions, WHERE and package; the value is asked for, and is the only one.
        ['fi\tdec\tw\tpack\t= "\t', '"tools/alpha" '],
        ["bucket by 5m\r", "...> "],
        ["top 1 by package;\r", "▁█·"],
        ["FIND events;\r", "\r\n"],
        ["\u0003", "cancelled"],
        ["\u001b[A\u001b[A", "bucket by 5m top 1 by package;"],
        ["\u0003", "^C"],
        ["\u0004", ""],
      ]);
      expect([first.code, first.screen.includes("[not shown")]).toEqual([0, false]);
      expect(first.screen).toContain("each mark is 5m");
      const queries = server.seen.map(({ body }) => (JSON.parse(body.toString()) as { query: string }).query);
      expect(queries).toEqual([
        "FIND decisions TOP 20 BY package SINCE 30d",
        'FIND decisions WHERE package = "tools/alpha" bucket by 5m\ntop 1 by package',
        "FIND events",
      ]);
      expect(readFileSync(join(home, ".local/state/maestro/pql-history"), "utf8")).toBe(
        'FIND decisions WHERE package = "tools/alpha" bucket by 5m top 1 by package;\nFIND events;\n',
      );

      const second = await onTerminal(home, server, [
        ["\u001b[A", "FIND events;"],
        ["\r", "tools/alpha"],
        ["\\q\r", ""],
      ]);
      expect([second.code, second.screen.includes("[not shown")]).toEqual([0, false]);
    },
  );
});
