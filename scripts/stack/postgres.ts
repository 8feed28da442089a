// PostgreSQL 18 from npm, without Docker or an account: makes the data folder, starts and stops the server. Called by
// startStack. The server refuses to run as root, so that for root it runs as uid 65534.

import { spawn, type ChildProcess } from "node:child_process";
import {
  chownSync,
  chmodSync,
  closeSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { StackFailure } from "./failure.ts";
import { endProcess, isRunning, type Keeper } from "./keeper.ts";
import { freePort, loopback } from "./ports.ts";
import { choosePlace, isRoot, unprivileged, type Place } from "./postgres-place.ts";

const startMsMax = 20_000;
const stopMsMax = 10_000;
const major = "18";
export const ownerRole = "maestro_owner";

export interface PostgresOptions {
  /** The state folder. */
  readonly folder: string;
  /** 0 = any free one, kept over stop() and start(). */
  readonly port: number;
  readonly ownerPassword: string;
  /** False: no fsync, for stacks that are thrown away. */
  readonly durable: boolean;
  readonly keeper: Keeper;
  /** Called when the server ends without having been asked to. */
  readonly onDeath: (how: string) => void;
}

export interface Postgres {
  readonly port: number;
  readonly pid: () => number | null;
  start(): Promise<void>;
  /** Fast shutdown: open transactions are rolled back, connections are cut. */
  stop(): Promise<void>;
}

const identity = (): { uid?: number; gid?: number } => (isRoot() ? { uid: unprivileged, gid: unprivileged } : {});
const environment = { PATH: process.env["PATH"] ?? "", TZ: "UTC", LC_ALL: "C" };

export async function openPostgres(options: PostgresOptions): Promise<Postgres> {
  const place = choosePlace(options.folder);
  const port = options.port === 0 ? await freePort() : options.port;
  const logPath = join(options.folder, "logs", "postgres.log");
  let child: ChildProcess | null = null;
  let stopping = false;

  async function start(): Promise<void> {
    if (child !== null) return;
    if (existsSync(join(place.folder, "initialised"))) requireUsable(place);
    else await initialise(place, options.ownerPassword, logPath);
    await endLeftover(place);
    const logStart = existsSync(logPath) ? statSync(logPath).size : 0;
    const log = openSync(logPath, "a", 0o600);
    const server = spawn(join(place.binaries, "bin", "postgres"), serverArguments(place, port, options.durable), {
      ...identity(),
      cwd: "/",
      detached: true,
      stdio: ["ignore", log, log],
      env: environment,
    });
    closeSync(log);
    const failedToSpawn = new Promise<never>((_, reject) => server.once("error", reject));
    stopping = false;
    let ended: string | null = null;
    server.once("exit", (code, signal) => {
      ended = signal === null ? `exit status ${code}` : signal;
      if (server.pid !== undefined) options.keeper.forget(server.pid);
      if (child !== server) return;
      child = null;
      if (!stopping) options.onDeath(ended);
    });
    if (server.pid !== undefined) options.keeper.watch(server.pid);
    await Promise.race([failedToSpawn, untilAccepting(port, options.ownerPassword, () => ended)]).catch(
      (error: unknown) => {
        server.kill("SIGKILL");
        throw new StackFailure(
          `PostgreSQL cannot use its data folder ${place.data}: ${lastComplaint(logPath, logStart) ?? String(error)}.`,
          `The whole log is ${logPath}. To begin anew (all local data is lost): npm start -- --reset`,
          { cause: error },
        );
      },
    );
    child = server;
  }

  async function stop(): Promise<void> {
    const server = child;
    if (server === null) return;
    stopping = true;
    const ended = new Promise<void>((resolve) => server.once("exit", () => resolve()));
    server.kill("SIGINT");
    const forced = setTimeout(() => server.kill("SIGKILL"), stopMsMax);
    await ended;
    clearTimeout(forced);
  }

  await start();
  return { port, pid: () => child?.pid ?? null, start, stop };
}

function serverArguments(place: Place, port: number, durable: boolean): string[] {
  const settings = {
    listen_addresses: loopback,
    unix_socket_directories: "",
    max_connections: "100",
    shared_buffers: "64MB",
    jit: "off",
    timezone: "UTC",
    log_timezone: "UTC",
    log_min_messages: "warning",
    ...(durable ? {} : { fsync: "off", full_page_writes: "off" }),
  };
  return [
    "-D",
    place.data,
    "-p",
    String(port),
    ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]),
  ];
}

/** initdb into an empty folder; the mark `initialised` comes last, so that an interrupted one begins again. */
async function initialise(place: Place, ownerPassword: string, logPath: string): Promise<void> {
  rmSync(place.data, { recursive: true, force: true });
  await mkdir(place.data, { recursive: true, mode: 0o700 });
  const passwordFile = join(place.folder, "owner-password");
  writeFileSync(passwordFile, `${ownerPassword}\n`, { mode: 0o600 });
  chmodSync(place.data, 0o700);
  if (isRoot()) for (const path of [place.data, passwordFile]) chownSync(path, unprivileged, unprivileged);
  const log = openSync(logPath, "a", 0o600);
  const logStart = statSync(logPath).size;
  try {
    const status = await new Promise<number | null>((resolve, reject) => {
      const child = spawn(
        join(place.binaries, "bin", "initdb"),
        [
          "-D",
          place.data,
          "-U",
          ownerRole,
          `--pwfile=${passwordFile}`,
          "--auth=password",
          "--encoding=UTF8",
          "--locale=C",
          "--no-sync",
          "--no-instructions",
        ],
        { ...identity(), cwd: "/", detached: true, stdio: ["ignore", log, log], env: environment },
      );
      child.once("error", reject);
      child.once("exit", (code) => resolve(code));
    });
    if (status !== 0) throw new Error(`initdb ended with status ${status}`);
  } catch (error) {
    throw new StackFailure(
      `PostgreSQL's data folder ${place.data} cannot be made: ${lastComplaint(logPath, logStart) ?? String(error)}.`,
      `The whole log is ${logPath}; is the disk full or the folder read-only?`,
      { cause: error },
    );
  } finally {
    closeSync(log);
    rmSync(passwordFile, { force: true });
  }
  writeFileSync(join(place.folder, "initialised"), `PostgreSQL ${major}\n`);
}

function requireUsable(place: Place): void {
  const versionFile = join(place.data, "PG_VERSION");
  const broken = (what: string): StackFailure =>
    new StackFailure(
      `The data folder ${place.data} is broken: ${what}.`,
      "Put it back from a copy, or begin anew (all local data is lost): npm start -- --reset",
    );
  if (!existsSync(versionFile)) throw broken("PG_VERSION is missing");
  const version = readFileSync(versionFile, "utf8").trim();
  if (version !== major) throw broken(`it is of PostgreSQL ${version.slice(0, 20)}, and this is ${major}`);
  if (!existsSync(join(place.data, "global", "pg_control"))) throw broken("global/pg_control is missing");
}

/** Ends a server that a killed stack left on this very data folder: the stack's lock is ours, so nobody uses it. */
async function endLeftover(place: Place): Promise<void> {
  const path = join(place.data, "postmaster.pid");
  if (!existsSync(path)) return;
  const [pidLine, dataLine] = readFileSync(path, "utf8").split("\n");
  const pid = Number(pidLine);
  if (!Number.isInteger(pid) || pid <= 1 || dataLine !== place.data || !isRunning(pid)) return;
  const commandPath = `/proc/${pid}/cmdline`;
  if (existsSync(commandPath) && !readFileSync(commandPath, "utf8").includes(place.data)) return;
  await endProcess(pid);
}

async function untilAccepting(port: number, ownerPassword: string, ended: () => string | null): Promise<void> {
  const deadline = performance.now() + startMsMax;
  for (;;) {
    const how = ended();
    if (how !== null) throw new Error(`the server ended with ${how}`);
    const client = new pg.Client({
      host: loopback,
      port,
      user: ownerRole,
      password: ownerPassword,
      database: "postgres",
    });
    client.on("error", () => {}); // The promise below tells.
    try {
      await client.connect();
      await client.end();
      return;
    } catch (error) {
      // 28P01: the server is there and knows another password, so that waiting is no use.
      if ((error as { code?: unknown }).code === "28P01") throw error;
      if (performance.now() > deadline) throw new Error(`no answer within ${startMsMax} ms`, { cause: error });
    }
    await sleep(20);
  }
}

/** The last line of the log's new part that complains, without its time and level. */
function lastComplaint(path: string, from: number): string | null {
  if (!existsSync(path)) return null;
  const lines = readFileSync(path).subarray(from).toString("utf8").split("\n");
  const line = lines.findLast((text) => /\b(?:FATAL|PANIC|ERROR|error):/.test(text));
  return line === undefined ? null : line.replace(/^.*?\b(?:FATAL|PANIC|ERROR|error):\s*/, "").replace(/\.$/, "");
}
