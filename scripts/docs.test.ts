// Promises made in prose, held against the tree: paths, npm scripts, commands and links that the pages name must exist.

import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { buildProgram } from "../cli/program.ts";
import { exitCodes } from "../cli/exit-codes.ts";
import { testHost } from "../cli/testing/host.ts";

const root = resolve(import.meta.dirname, "..");
const pages = [
  "README.md",
  "CONTRIBUTING.md",
  "SECURITY.md",
  "CHANGELOG.md",
  ...globSync("docs/**/*.md", { cwd: root }),
];
const textOf = (page: string): string => readFileSync(join(root, page), "utf8");
const scripts = Object.keys((JSON.parse(textOf("package.json")) as { scripts: Record<string, string> }).scripts);

/** Every `maestro` command line that a page shows, as words up to the first argument that is none. */
const commandsIn = (text: string): string[][] =>
  Array.from(text.matchAll(/(?:^|[\s`$])(?:npx )?maestro ((?:[a-z-]+)(?: [a-z-]+)?)/gm), ([, words]) =>
    words!.split(" "),
  );

describe.each(pages)("%s", (page) => {
  const text = textOf(page);

  test("names only files and folders that are there", () => {
    const paths = Array.from(text.matchAll(/`((?:[\w.-]+\/)+[\w.*-]*)`/g), ([, path]) => path!);
    const ours = paths.filter((path) =>
      /^(?:workers|durable-objects|shared|migrations|policy|cli|scripts|test|docs|\.ci)\//.test(path),
    );
    expect(
      ours.filter((path) =>
        path.includes("*") ? globSync(path, { cwd: root }).length === 0 : !existsSync(join(root, path)),
      ),
    ).toEqual([]);
  });

  test("links only to pages that are there", () => {
    const links = Array.from(text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g), ([, link]) => link!);
    expect(links.filter((link) => !existsSync(join(root, dirname(page), link)))).toEqual([]);
  });

  test("names only npm scripts that are there", () => {
    const named = Array.from(text.matchAll(/npm run ([\w:-]+)/g), ([, script]) => script!);
    expect(named.filter((script) => !scripts.includes(script))).toEqual([]);
  });

  test("names only commands that maestro has", () => {
    const program = buildProgram(testHost(), { exit: "ok" });
    const unknown = commandsIn(text).filter(([first, second]) => {
      const command = program.commands.find((candidate) => candidate.name() === first);
      if (command === undefined) return true;
      return (
        command.commands.length > 0 &&
        second !== undefined &&
        !command.commands.some((candidate) => candidate.name() === second)
      );
    });
    expect(unknown).toEqual([]);
  });
});

describe.each(pages.filter((page) => page.startsWith("docs/security/")))("%s", (page) => {
  test("names tests that are there", () => {
    const named = Array.from(textOf(page).matchAll(/`([\w./-]+\.test\.ts)` › `([^`]+)`/g), ([, file, name]) => ({
      file: file!,
      name: name!,
    }));
    expect(named.length).toBeGreaterThan(10);
    expect(named.filter(({ file, name }) => !textOf(file).includes(`"${name}"`))).toEqual([]);
  });

  test("names a test for every threat", () => {
    const rows = textOf(page)
      .split("\n")
      .filter((line) => /^\| (?!threat|---)/.test(line));
    expect(rows.filter((row) => !row.includes(".test.ts` › `"))).toEqual([]);
  });
});

/** What issues of the plan call done, by the lines of its acceptance. */
test.each(["MC-MKT-1901", "MC-MKT-1902", "MC-AUD-1911", "MC-AUD-1912", "MC-ZTE-1942"])(
  "%s is named by a test",
  (line) => {
    const tests = globSync("test/**/*.test.ts", { cwd: root });
    expect(tests.filter((file) => textOf(file).includes(line))).not.toEqual([]);
  },
);

/** Commands reach everything that the API offers of the marketplace. */
test("every route of the marketplace, of policies, of flags and of metrics has a call in the command line", () => {
  const routes = globSync("workers/api/routes/*.ts", { cwd: root })
    .flatMap((file) => [...textOf(file).matchAll(/path: "(\/api\/(?:market\/|policies|flags|metrics)[^"]*)"/g)])
    .map(([, path]) => path!.split("/{")[0]!);
  const client = globSync("cli/**/*.ts", { cwd: root }).map(textOf).join("");
  const missing = routes.filter((path) => !client.includes(path));
  expect(routes.length).toBeGreaterThan(15);
  expect(missing).toEqual([]);
});

test("README's exit codes are the ones that maestro has", () => {
  const rows = Object.values(exitCodes).map(([code, words]) => `| ${code} | ${words} |`);
  expect(textOf("README.md")).toContain(rows.join("\n"));
});
