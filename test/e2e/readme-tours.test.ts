// README's four tours, run as they are printed: by a shell, with the real command line, one after the other on one tenant.
// `npx` is a script here that starts the same entry without npm's own second, and names the state folder of the test's stack.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freePort } from "../../scripts/stack/ports.ts";
import { tourOf } from "../support/readme-tours.ts";
import { useStack } from "../support/stack.ts";
import { tool } from "../support/tools.ts";

const project = resolve(import.meta.dirname, "..", "..");
const readme = readFileSync(join(project, "README.md"), "utf8");
const stepMsMax = 180_000;
/** "within a second or two" is what the page promises; a busy machine gets more. */
const logMsMax = 20_000;
/** "within two seconds", and a busy machine. */
const followMsMax = 20_000;

const stack = useStack();
let folder: string;
let execution = "exe_none";

beforeAll(async () => {
  const { local_subjects: subjects } = await stack.seedTenant("demo");
  folder = realpathSync(mkdtempSync(join(tmpdir(), "maestro-tour-")));
  for (const name of ["bin", ".maestro", "home"]) mkdirSync(join(folder, name));
  for (const name of ["edge.multicdn.json", "edge-b", "spiffe"])
    symlinkSync(join(stack.folder, name), join(folder, ".maestro", name));
  for (const name of ["cli", "test", "package-lock.json"]) symlinkSync(join(project, name), join(folder, name));
  const local = JSON.parse(readFileSync(join(stack.folder, "local-issuer.json"), "utf8")) as object;
  writeFileSync(join(folder, ".maestro", "local-issuer.json"), JSON.stringify({ ...local, subjects }));
  writeFileSync(
    join(folder, "bin", "npx"),
    `#!/bin/sh
[ "$1" = maestro ] || exit 127
shift
if [ "$1 $2" = "login --local" ]; then set -- "$@" --state "${join(folder, ".maestro")}"; fi
exec node cli/maestro.mjs "$@"
`,
    { mode: 0o700 },
  );
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const environment = (): Record<string, string> => ({
  PATH: [join(folder, "bin"), dirname(process.execPath), process.env["PATH"]].join(delimiter),
  HOME: join(folder, "home"),
  TMPDIR: tmpdir(),
  NODE_COMPILE_CACHE: join(folder, "compiled"),
});

/** Exit code, and standard output and error as they came. A run's id of the page is the one of our run. */
async function sh(command: string): Promise<{ code: number | null; text: string }> {
  const child = spawn("bash", ["-c", command.replace(/exe_[0-9a-z]{26}/, execution)], {
    cwd: folder,
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
    env: environment(),
  });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part) => (text += part));
  // A loop that does not end is ended with all that it started.
  const timer = setTimeout(() => process.kill(-child.pid!, "SIGKILL"), stepMsMax);
  const code = await new Promise<number | null>((done) => child.once("close", done));
  clearTimeout(timer);
  execution = /^execution\s+(exe_\w+)$/m.exec(text)?.[1] ?? execution;
  return { code, text };
}

/** What differs from one machine and one run to the next is left out; a table's columns are tabs where nobody looks. */
const comparable = (line: string): string =>
  line
    .replace(/http:\/\/127\.0\.0\.1:\d+/, "URL")
    .replace(/exe_[0-9a-z]{26}/, "exe_ID")
    .replace(/^(output sha256\s+)[0-9a-f]{64}$/, "$1DIGEST")
    .replace(/^(output\s+)\S*(\/sbom\.json)$/, "$1…$2")
    .replace(/rows 0 to \d+/, "rows 0 to N")
    .replaceAll(/\s+/g, " ")
    .trim();

/** Lines that the page shows and the command did not print, in this order. */
function missing(shown: readonly string[], printed: string): string[] {
  const lines = printed.split("\n").map(comparable);
  let from = 0;
  return shown.filter((line) => {
    if (line === "" || line === "…") return false;
    const at = lines.indexOf(comparable(line), from);
    if (at >= 0) from = at + 1;
    return at < 0;
  });
}

async function take(heading: string): Promise<void> {
  for (const { command, output } of tourOf(readme, heading)) {
    // The log is told a moment later, and so is the API of another bundle.
    const follows = /maestro (?:pql|whoami --svid) /.test(command);
    const end = performance.now() + (follows ? logMsMax : 0);
    const here = command.replace("https://127.0.0.1:8793", stack.tls.url);
    let done = await sh(here);
    while (missing(output, done.text).length > 0 && performance.now() < end) {
      done = await sh(here);
    }
    // xargs says 123 where one of its commands failed: the runs of the bad release do.
    const codes = command.includes("xargs") ? [0, 123] : [output[0]?.startsWith("error: ") ? 3 : 0];
    expect(codes, `${command}\n${done.text}`).toContain(done.code);
    expect(missing(output, done.text), `${command}\n${done.text}`).toEqual([]);
  }
}

test(
  "the first tour prints what the page shows, and a third run is refused as it says",
  { timeout: 300_000 },
  async () => {
    await take("A tour of two minutes");
    const again = "npx maestro run tools/sbom-inventory package-lock.json --out sbom.json";
    expect((await sh(again)).code).toBe(0);
    const third = await sh(again);
    expect([third.code, third.text]).toEqual([3, expect.stringContaining("privacy_budget_exceeded")]);
  },
);

test("the second tour ends with the gate's abort, whatever hosts the cohort has", { timeout: 300_000 }, async () => {
  await take("An upgrade that goes wrong, in two minutes");
  const { text } = await sh("npx maestro market status tools/sbom-inventory --json");
  const status = JSON.parse(text);
  expect(status).toMatchObject({
    rollout: { state: "aborted", rule: "health_gate", version: "1.1.0" },
    bars: [{ version: "1.1.0", rule: "health_gate" }],
  });
  for (const install of status.installs) {
    const inCohort = install.bucket < status.rollout.cohort_percent * 100;
    expect(install).toMatchObject({ version: "1.0.0", pinned: inCohort });
  }
  // Hosts on both sides, whatever buckets they drew, or there is nothing to compare.
  const edges = status.installs.filter(({ name }: { name: string }) => name.startsWith("edge-"));
  const pinned = edges.filter((install: { pinned: boolean }) => install.pinned);
  expect([edges.length, pinned.length]).toEqual([6, expect.toSatisfy((count: number) => count >= 3 && count < 6)]);
  const explained = await sh("npx maestro market explain upgrade.start tools/sbom-inventory --channel canary");
  expect(explained.text).toMatch(/^fix: [\s\S]*^ +PUT \/api\/market\/bars [\s\S]*^ +maestro market unbar /m);
});

/** One shell for a tour that leaves programs running in it: each command's exit code and output. End it, and they end. */
function shell(): { run(command: string): Promise<{ code: number; text: string }>; end(): void } {
  const child = spawn("bash", [], { cwd: folder, detached: true, stdio: ["pipe", "pipe", "pipe"], env: environment() });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (part) => (text += part));
  let count = 0;
  return {
    async run(command) {
      count += 1;
      const end = new RegExp(`^<${count} (\\d+)>\n`, "m");
      text = "";
      child.stdin.write(`${command}\nprintf '\\n<%s %s>\\n' ${count} $?\n`);
      const deadline = performance.now() + stepMsMax;
      while (!end.test(text)) {
        if (child.exitCode !== null || performance.now() > deadline) throw new Error(`${command}\n${text}`);
        await sleep(20);
      }
      return { code: Number(end.exec(text)![1]), text: text.replace(end, "") };
    },
    // Whatever the tour left running is of the shell's process group.
    end: () => void process.kill(-child.pid!, "SIGKILL"),
  };
}

const opa = tool("opa");
test.skipIf(opa === null)(
  "the third tour: a stock OPA follows a policy through both providers, and through one when the other has stopped",
  { timeout: 300_000 },
  async () => {
    symlinkSync(opa!, join(folder, "bin", "opa"));
    const ports = { "8181": String(await freePort()), "8383": String(await freePort()) };
    const tour = shell();
    let status = "";
    const edgeB = readFileSync(join(stack.folder, "edge-b", "pid"), "utf8").trim();
    try {
      for (const { command, output } of tourOf(readme, "A policy on two CDN providers, in two minutes")) {
        let line = command;
        for (const [shown, free] of Object.entries(ports)) line = line.replaceAll(`:${shown}`, `:${free}`);
        // The one that listens says where only here: the page has the port that it has by itself.
        line = line.replace("edge serve gateway ", `edge serve gateway --listen 127.0.0.1:${ports["8383"]} `);
        const deadline = performance.now() + followMsMax;
        let done = await tour.run(line);
        while (command.startsWith("curl ") && missing(output, done.text).length > 0 && performance.now() < deadline)
          done = await tour.run(line);
        expect([done.code, missing(output, done.text)], `${command}\n${done.text}`).toEqual([0, []]);
        if (command.includes("edge status")) status = done.text;
      }
      // Provider B was stopped, so this one came from A.
      expect(status).toMatch(/^gateway\tstable\t3\tr3\ta\t/m);
    } finally {
      process.kill(Number(edgeB), "SIGCONT");
      tour.end();
    }
  },
);

test("the fourth tour: an SVID opens the API and is refused once its authority is revoked, and keys rotate", async () => {
  await take("A workload without a secret, in two minutes");
  const { code, text } = await sh("npx maestro audit verify");
  expect([code, text]).toEqual([0, expect.stringMatching(/^VERIFIED /m)]);
});
