// `npm start` as a person meets it: a second start, Ctrl-C, a busy port, a broken data folder, a killed child. Each runs
// the real command on a state folder and ports of its own; how it leaves the machine is read from the process table.

import { spawn, type ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createServer, type AddressInfo } from "node:net";
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { isDeep } from "../support/sampled.ts";
import { removeState } from "../../scripts/stack/index.ts";

const upMsMax = 60_000;
const script = new URL("../../scripts/start.ts", import.meta.url).pathname;
const scratch = mkdtempSync(join(tmpdir(), "maestro-start-"));
const folder = join(tmpdir(), `maestro-${randomBytes(6).toString("hex")}`);

interface Start {
  readonly child: ChildProcess;
  readonly mark: string;
  readonly ended: Promise<number | null>;
  output(): string;
}

const starts: Start[] = [];

/** The command in a process group of its own, as a terminal runs it; its output goes to a file. */
function start(...args: string[]): Start {
  const mark = randomBytes(8).toString("hex");
  const path = join(scratch, `${mark}.log`);
  const child = spawn(
    "/bin/sh",
    ["-c", 'exec "$@" >"$0" 2>&1', path, process.execPath, script, "--state", folder, ...args],
    { detached: true, stdio: "ignore", env: { ...process.env, MAESTRO_START_MARK: mark } },
  );
  const ended = new Promise<number | null>((resolve) => child.once("exit", (code) => resolve(code)));
  const started = { child, mark, ended, output: () => (existsSync(path) ? readFileSync(path, "utf8") : "") };
  starts.push(started);
  return started;
}

const anyPorts = ["", "proxy-", "issuer-", "postgres-", "edge-a-", "edge-b-", "tls-"].flatMap((part) => [
  `--${part}port`,
  "0",
]);

async function untilUp(started: Start): Promise<{ apiUrl: string; key: string }> {
  for (let waited = 0; waited < upMsMax; waited += 50) {
    const output = started.output();
    const apiUrl = /API +(http:\S+)/.exec(output)?.[1];
    const key = /^ +(mk_\w+)$/m.exec(output)?.[1];
    const hasTls = /mutual TLS +https:\/\/127\.0\.0\.1:\d+ \(SVIDs of mc\.local/.test(output);
    if (apiUrl !== undefined && key !== undefined && hasTls && output.includes("Ctrl-C")) return { apiUrl, key };
    if (started.child.exitCode !== null) break;
    await sleep(50);
  }
  throw new Error(`npm start did not come up:\n${started.output()}`);
}

/** Processes of the start: those that inherited its mark, and those that name its folder. */
function processesOf(started: Start): number[] {
  return readdirSync("/proc").flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return [];
    try {
      const environment = readFileSync(`/proc/${name}/environ`, "utf8");
      const command = readFileSync(`/proc/${name}/cmdline`, "utf8");
      return environment.includes(`MAESTRO_START_MARK=${started.mark}`) || command.includes(folder)
        ? [Number(name)]
        : [];
    } catch {
      return []; // It has ended in between.
    }
  });
}

async function expectNothingLeft(started: Start): Promise<void> {
  for (let waited = 0; waited < 10_000 && processesOf(started).length > 0; waited += 50) await sleep(50);
  expect(processesOf(started)).toEqual([]);
}

const findProcess = (started: Start, word: string): number => {
  const found = processesOf(started).find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(word));
  if (found === undefined) throw new Error(`no ${word} among the processes of npm start`);
  return found;
};

const whoami = async ({ apiUrl, key }: { apiUrl: string; key: string }): Promise<unknown> =>
  (await fetch(`${apiUrl}/api/whoami`, { headers: { authorization: `Bearer ${key}` } })).json();

/** PostgreSQL's data: beside the state, or elsewhere where its user cannot pass through to it (a 0700 folder above). */
const dataFile = (name: string): string => {
  const { folder: place } = JSON.parse(readFileSync(join(folder, "postgres.json"), "utf8")) as { folder: string };
  return join(place, "data", name);
};
const postgresPid = (): number => Number(readFileSync(dataFile("postmaster.pid"), "utf8").split("\n")[0]);

/** The start that is up, shared by the tests in turn: bringing one up for each would be most of their time. */
let current: { started: Start; up: { apiUrl: string; key: string } } | null = null;
let tenant: unknown;

async function running(): Promise<{ started: Start; up: { apiUrl: string; key: string } }> {
  if (current === null) {
    const started = start(...anyPorts);
    current = { started, up: await untilUp(started) };
  }
  return current;
}

/** The start ended, as `status` says, and took everything with it. */
async function expectEnd(started: Start, status: number | null): Promise<void> {
  current = null;
  expect(await started.ended, started.output()).toBe(status);
  await expectNothingLeft(started);
}

beforeAll(async () => {
  const bundles = process.env["MAESTRO_BUNDLES"];
  if (bundles !== undefined) cpSync(bundles, folder, { recursive: true });
  tenant = await whoami((await running()).up);
}, 120_000);

afterAll(async () => {
  for (const started of starts) {
    if (started.child.exitCode !== null || started.child.signalCode !== null) continue;
    started.child.kill("SIGTERM");
    await started.ended;
  }
  removeState(folder);
  rmSync(scratch, { recursive: true, force: true });
});

test("a start on a folder in use names the other one and changes nothing", async () => {
  const { started, up } = await running();
  const second = start(...anyPorts);
  expect(await second.ended).toBe(1);
  expect(second.output()).toContain(`Another npm start (process ${started.child.pid})`);
  expect(await whoami(up)).toEqual(tenant);
});

test("Ctrl-C, even twice, leaves no process, and the next start keeps the tenant and its key", async () => {
  const { started, up } = await running();
  process.kill(-started.child.pid!, "SIGINT");
  process.kill(-started.child.pid!, "SIGINT");
  await expectEnd(started, 0);
  const next = await running();
  expect(next.up.key).toBe(up.key);
  expect(await whoami(next.up)).toEqual(tenant);
});

test("a killed PostgreSQL stops everything with one sentence, and the next start has the data", async () => {
  const { started } = await running();
  process.kill(postgresPid(), "SIGKILL");
  await expectEnd(started, 1);
  expect(started.output()).toContain("PostgreSQL has ended (SIGKILL)");
  expect(await whoami((await running()).up)).toEqual(tenant);
});

test.each([
  ["workerd", "workerd has ended (SIGKILL)"],
  ["@deno", "Deno has ended (SIGKILL)"],
])("a killed %s stops everything with one sentence", async (word, sentence) => {
  const { started } = await running();
  process.kill(findProcess(started, word), "SIGKILL");
  await expectEnd(started, 1);
  expect(started.output()).toContain(sentence);
});

// Half a minute of starts; npm test has four for all. The other tests are what a person meets each day.
const isFull = isDeep || process.env["CI"] === "true";

test.runIf(isFull)("when npm start itself is killed, its children go, too, and the next start works", async () => {
  const { started } = await running();
  started.child.kill("SIGKILL");
  await expectEnd(started, null);
  expect(await whoami((await running()).up)).toEqual(tenant);
});

test("a busy port is named, with another one to take", async () => {
  const holder = createServer();
  await new Promise<void>((resolve) => holder.listen(0, "127.0.0.1", resolve));
  const { port } = holder.address() as AddressInfo;
  if (current !== null) {
    const { started: other } = current;
    other.child.kill("SIGTERM");
    await expectEnd(other, 0);
  }
  const started = start("--port", String(port), ...anyPorts.slice(2));
  await expectEnd(started, 1);
  expect(started.output()).toContain(`Port ${port}, wanted for the API, is taken by another program.`);
  expect(started.output()).toContain("npm start -- --port ");
  holder.close();
});

test.runIf(isFull)("a broken data folder is named, with the way out, and --reset begins anew", async () => {
  writeFileSync(dataFile("global/pg_control"), "broken");
  const started = start(...anyPorts);
  await expectEnd(started, 1);
  expect(started.output()).toMatch(/PostgreSQL cannot use its data folder .*\n→ .*npm start -- --reset/);
  const anew = start("--reset", ...anyPorts);
  const after = await whoami(await untilUp(anew));
  expect(after).toMatchObject({ tenant: "demo", role: "admin" });
  expect(after).not.toEqual(tenant);
});
