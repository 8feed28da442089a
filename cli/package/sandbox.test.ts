// The sandbox against packages that try to get out of it: real processes, real files.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, type AddressInfo, type Server } from "node:net";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { sha256Hex } from "../../shared/contract/bytes.ts";
import { testFolder } from "../testing/host.ts";
import { findIsolation, type Isolation } from "./isolation.ts";
import { runSandboxed, type SandboxPlan, type SandboxResult } from "./sandbox.ts";

const open: Isolation = { network: "open", unshare: null };
const found = await findIsolation();
/** The permission model alone, and what this machine can add to it. */
const isolations = found.unshare === null ? [open] : [open, found];

interface Place {
  readonly root: string;
  readonly plan: SandboxPlan;
  output(): string;
}

function place(source: string, more: Partial<SandboxPlan> = {}): Place {
  const root = testFolder();
  const folder = join(root, "package");
  mkdirSync(folder);
  writeFileSync(join(folder, "main.mjs"), source);
  writeFileSync(join(root, "input"), "the input");
  const outputFile = join(root, "output");
  const plan: SandboxPlan = {
    folder,
    entryPoint: "main.mjs",
    input: join(root, "input"),
    outputFile,
    wallMs: 20_000,
    outputBytesMax: 1_000_000,
    interrupted: new AbortController().signal,
    ...more,
  };
  return { root, plan, output: () => readFileSync(outputFile, "utf8") };
}

/** Runs `attempts` (name → expression) in the sandbox; answers each one's error code, or what it got. */
async function attempt(isolation: Isolation, attempts: (root: string) => Record<string, string>) {
  const made = place("", { isolation });
  const lines = Object.entries(attempts(made.root)).map(
    ([name, code]) =>
      `try { out[${JSON.stringify(name)}] = "got " + String(await (${code})); } catch (error) { out[${JSON.stringify(name)}] = error.code ?? error.name; }`,
  );
  writeFileSync(
    join(made.plan.folder, "main.mjs"),
    `import { createRequire } from "node:module"; const require = createRequire(import.meta.url); const fs = require("node:fs");
     const net = require("node:net"); const out = {};
     const reach = (to) => new Promise((resolve, reject) => net.connect(to).on("connect", () => resolve("reached")).on("error", reject));
     ${lines.join("\n")}
     console.log(JSON.stringify(out)); process.exit();`,
  );
  return {
    ...made,
    run: async (): Promise<Record<string, string>> => {
      const result = await runSandboxed(made.plan);
      expect(result.stderrTail).toBe("");
      return JSON.parse(made.output()) as Record<string, string>;
    },
  };
}

describe.each(isolations)("a run, with the network $network,", (isolation) => {
  test("reads its input and its own files, and its output is kept to the byte with its digest", async () => {
    const made = place(
      'import fs from "node:fs"; import { word } from "./lib.mjs"; process.stdout.write(word + fs.readFileSync(process.argv[2], "utf8"));',
      { isolation },
    );
    writeFileSync(join(made.plan.folder, "lib.mjs"), 'export const word = "read: ";');
    const result = await runSandboxed(made.plan);
    expect(result).toMatchObject({ end: "exited", exitCode: 0, outputBytes: 15, network: isolation.network });
    expect(made.output()).toBe("read: the input");
    expect(result.outputSha256).toBe(await sha256Hex(Buffer.from("read: the input")));
  });

  test("gets an empty environment, its own folder to stand in, and nothing on stdin", async () => {
    process.env["MAESTRO_SECRET_FOR_TEST"] = "leak";
    onTestFinished(() => void delete process.env["MAESTRO_SECRET_FOR_TEST"]);
    const made = place(
      "const stdin = []; for await (const chunk of process.stdin) stdin.push(chunk); console.log(JSON.stringify([process.env, process.cwd() === import.meta.dirname, stdin.length]));",
      { isolation },
    );
    await runSandboxed(made.plan);
    expect(JSON.parse(made.output())).toEqual([{}, true, 0]);
  });

  test("may not read an input that it did not ask for", async () => {
    const made = place("", { input: null, isolation });
    writeFileSync(
      join(made.plan.folder, "main.mjs"),
      `import fs from "node:fs"; for (const path of ["../input", "${made.root}/input"]) try { fs.readFileSync(path) } catch (error) { console.log(error.code, process.argv.length) }`,
    );
    await runSandboxed(made.plan);
    expect(made.output()).toBe("ERR_ACCESS_DENIED 2\nERR_ACCESS_DENIED 2\n");
  });

  test("can neither read other files, nor write, nor start anything, nor reach for natives", async () => {
    const { root, run } = await attempt(isolation, (root) => ({
      passwd: 'fs.readFileSync("/etc/passwd")',
      proc: 'fs.readFileSync("/proc/self/environ")',
      sibling: `fs.readFileSync("${root}/package-sibling/secret")`,
      parent: 'fs.readdirSync("..")',
      relative: 'fs.readFileSync("../../../../etc/passwd")',
      output: `fs.readFileSync("${root}/output")`,
      write: 'fs.writeFileSync("made", "x")',
      writeInput: 'fs.writeFileSync(process.argv[2], "x")',
      remove: 'fs.rmSync("main.mjs")',
      link: 'fs.symlinkSync("/etc", "etc")',
      spawn: 'require("node:child_process").spawnSync("/bin/true")',
      fork: 'require("node:child_process").fork("main.mjs")',
      execve: 'process.execve("/bin/true", ["true"], {})',
      worker: 'new (require("node:worker_threads").Worker)("1", { eval: true })',
      addon: 'process.dlopen({ exports: {} }, "/x.node")',
      binding: 'process.binding("fs")',
      wasi: 'new (require("node:wasi").WASI)({ version: "preview1" })',
      inspector: 'require("node:inspector").open(0)',
      sqlite: 'require("node:sqlite")',
      tracing: 'require("node:trace_events").createTracing({ categories: ["node"] }).enable()',
      report: 'process.report.writeReport("made.json")',
      heap: 'require("node:v8").writeHeapSnapshot("made.heap")',
      nearLimit: 'require("node:v8").setHeapSnapshotNearHeapLimit(1)',
      permission: 'process.permission.has("fs.write")',
    }));
    mkdirSync(join(root, "package-sibling"));
    writeFileSync(join(root, "package-sibling", "secret"), "x");
    const { permission, addon, sqlite, ...denied } = await run();
    expect({ permission, addon, sqlite }).toEqual({
      permission: "got false",
      addon: "ERR_DLOPEN_DISABLED",
      sqlite: "ERR_UNKNOWN_BUILTIN_MODULE",
    });
    const allowed = Object.entries(denied).filter(([, code]) => code !== "ERR_ACCESS_DENIED");
    expect(allowed).toEqual([]);
    for (const made of ["made", "made.json", "made.heap", "etc"]) {
      expect(existsSync(join(root, "package", made))).toBe(false);
    }
  });

  test("cannot make V8 write files by flags of its own: it is killed for trying", async () => {
    const made = place("", { isolation });
    writeFileSync(
      join(made.plan.folder, "main.mjs"),
      `import v8 from "node:v8"; v8.setFlagsFromString("--trace-turbo"); v8.setFlagsFromString("--trace-turbo-path=${made.root}");
       function hot(i) { return i * 2; } let sum = 0; for (let i = 0; i < 3e6; i += 1) sum += hot(i); console.log(sum);`,
    );
    const result = await runSandboxed(made.plan);
    expect(result.exitCode).not.toBe(0);
    expect(made.output()).toBe("");
    expect(readdirSync(made.root).filter((name) => name.startsWith("turbo"))).toEqual([]);
  });

  test("reaches the network, Unix sockets and other processes only where they are said to be open", async () => {
    const servers = [createServer((socket) => socket.end()), createServer((socket) => socket.end())];
    onTestFinished(() => servers.forEach((server) => void server.close()));
    const [tcp, unix] = servers as [Server, Server];
    const socketFolder = testFolder();
    await new Promise<void>((resolve) => tcp.listen(0, "127.0.0.1", resolve));
    await new Promise<void>((resolve) => unix.listen(join(socketFolder, "socket"), resolve));
    const { run } = await attempt(isolation, () => ({
      tcp: `reach({ host: "127.0.0.1", port: ${(tcp.address() as AddressInfo).port} })`,
      unix: `reach(${JSON.stringify(join(socketFolder, "socket"))})`,
      listen: `new Promise((resolve, reject) => net.createServer().on("error", reject).listen(${JSON.stringify(join(socketFolder, "own"))}, () => resolve("listens")))`,
      process: `process.kill(${process.pid}, 0)`,
    }));
    const openToIt = { tcp: "got reached", unix: "got reached", listen: "got listens", process: "got true" };
    const shut = { tcp: "ENETUNREACH", unix: "ENOENT", listen: "EACCES", process: "ESRCH" };
    expect(await run()).toEqual(isolation.network === "open" ? openToIt : shut);
  });
});

describe("how a run ends", () => {
  const endOf = ({ end, exitCode }: SandboxResult) => [end, exitCode];

  test("its exit code comes back, and the end of its stderr", async () => {
    const made = place('console.error("x".repeat(100_000) + "the reason"); process.exitCode = 3;');
    const result = await runSandboxed(made.plan);
    expect(endOf(result)).toEqual(["exited", 3]);
    expect(result.stderrTail.length).toBe(16 * 1024);
    expect(result.stderrTail.endsWith("the reason\n")).toBe(true);
  });

  test("an uncaught error is exit code 1, a signal to itself has none", async () => {
    expect(endOf(await runSandboxed(place('throw new Error("broken")').plan))).toEqual(["exited", 1]);
    const killed = place('process.kill(process.pid, "SIGKILL")', { isolation: open });
    expect(endOf(await runSandboxed(killed.plan))).toEqual(["killed", null]);
  });

  test("a loop that ignores signals is killed at its time limit", async () => {
    const made = place('process.on("SIGTERM", () => {}); process.stdout.write("begun"); for (;;);', { wallMs: 1_000 });
    expect(endOf(await runSandboxed(made.plan))).toEqual(["time_limit", null]);
  });

  test("output beyond its bound kills it, and no byte more is kept", async () => {
    const made = place('for (;;) await new Promise((done) => process.stdout.write("x".repeat(10_000), done));', {
      outputBytesMax: 25_000,
    });
    expect(endOf(await runSandboxed(made.plan))).toEqual(["output_limit", null]);
    expect(made.output().length).toBe(25_000);
  });

  test("output of exactly the bound is allowed", async () => {
    const made = place('process.stdout.write("x".repeat(25_000))', { outputBytesMax: 25_000 });
    expect(endOf(await runSandboxed(made.plan))).toEqual(["exited", 0]);
  });

  test("output that the disk takes a part of only is an error, and never shorter than its digest says", () => {
    const made = place('process.stdout.write("x".repeat(40_000))', { isolation: open });
    const { interrupted: _, ...plan } = made.plan;
    const script = `import { runSandboxed } from ${JSON.stringify(join(import.meta.dirname, "sandbox.ts"))};
      const plan = { ...${JSON.stringify(plan)}, interrupted: new AbortController().signal };
      console.log(await runSandboxed(plan).then(({ end }) => end, (error) => error.code));`;
    // Files of this process, and of what it starts, end at 16 blocks: the kernel takes those of the 40,000 bytes.
    const limited = spawnSync("/bin/sh", [
      "-c",
      'ulimit -f 16; exec "$@"',
      "sh",
      process.execPath,
      "--input-type=module",
      "-e",
      script,
    ]);
    expect(limited.stdout.toString()).toBe("EFBIG\n");
  });

  test("an interruption kills it; one before the start starts nothing", async () => {
    const controller = new AbortController();
    const made = place("setInterval(() => {}, 1000)", { interrupted: controller.signal });
    const running = runSandboxed(made.plan);
    setTimeout(() => controller.abort(), 300);
    expect(endOf(await running)).toEqual(["interrupted", null]);
    const before = place('process.stdout.write("ran")', { interrupted: AbortSignal.abort() });
    expect(endOf(await runSandboxed(before.plan))).toEqual(["interrupted", null]);
    expect(before.output()).toBe("");
  });

  test("a heap beyond the bound ends the run, not this machine", async () => {
    const made = place("const kept = []; for (;;) kept.push(new Array(100_000).fill(Math.random()));");
    expect((await runSandboxed(made.plan)).exitCode).not.toBe(0);
  });
});
