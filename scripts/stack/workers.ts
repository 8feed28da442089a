// Runs all workers in one Miniflare, with the bindings of their wrangler.toml files: there is no second truth for
// bindings. Called by startStack with what prepare-workers.ts made.

import { subscribe, unsubscribe } from "node:diagnostics_channel";
import type { ChildProcess } from "node:child_process";
import { createWriteStream } from "node:fs";
import { readFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { Miniflare, V4WorkerOptions } from "miniflare";
import { StackFailure } from "./failure.ts";
import type { Keeper } from "./keeper.ts";
import { loopback } from "./ports.ts";
import type { PreparedWorker } from "./prepare-workers.ts";

export const projectFolder = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
/** The first one answers on the port. */
export const workerConfigs = [
  "wrangler.toml",
  "workers/audit/wrangler.toml",
  "workers/signer/wrangler.toml",
  "workers/edge/wrangler.toml",
];

export interface WorkersOptions {
  readonly folder: string;
  readonly port: number;
  /** Ports of workers that answer beside the first one, by worker name. */
  readonly ports: Readonly<Record<string, number>>;
  /** Vars and secrets by worker name; they go over what the configuration says. */
  readonly variables: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly keeper: Keeper;
  readonly onDeath: (how: string) => void;
}

export interface Workers {
  readonly url: string;
  readonly miniflare: Miniflare;
  readonly logPath: string;
  /** The workers that have cron triggers. */
  readonly scheduled: readonly { readonly worker: string; readonly cron: string }[];
  runScheduled(worker: string, cron: string): Promise<void>;
  stop(): Promise<void>;
}

type Module = { type: "ESModule" | "CompiledWasm"; path: string; contents: string | Uint8Array<ArrayBuffer> };

/** As Miniflare takes them. */
export async function modulesOf({ root, script, wasm }: PreparedWorker): Promise<Module[]> {
  const modules: Module[] = [{ type: "ESModule", path: join(root, "index.js"), contents: script }];
  for (const { name, file } of wasm) {
    modules.push({ type: "CompiledWasm", path: join(root, name), contents: new Uint8Array(await readFile(file)) });
  }
  return modules;
}

// Every outgoing request passes here: the local stack reaches this machine and nothing else.
const loopbackOnly = "loopback-only";
const loopbackOnlySource = `
export default {
  fetch(request) {
    const { hostname } = new URL(request.url);
    if (hostname === "127.0.0.1" || hostname === "localhost" || hostname === "[::1]") return fetch(request);
    throw new Error("the local stack opens no connection to " + hostname);
  },
};`;

export async function startWorkers(prepared: readonly PreparedWorker[], options: WorkersOptions): Promise<Workers> {
  const { Miniflare: Runtime, Log, LogLevel, convertV4MiniflareOptions } = await import("miniflare");
  const logPath = join(options.folder, "logs", "workers.log");
  const log = createWriteStream(logPath, { flags: "a", mode: 0o600 });
  class FileLog extends Log {
    override log(message: string): void {
      log.write(`${message}\n`);
    }
  }
  let stopping = false;
  const watched = new Set<ChildProcess>();
  const onChild = (message: unknown): void => {
    const child = (message as { process: ChildProcess }).process;
    // The channel speaks while the process object is being made: its name and id come a moment later.
    queueMicrotask(() => {
      if (child.pid === undefined || basename(child.spawnfile) !== "workerd") return;
      const { pid } = child;
      watched.add(child);
      options.keeper.watch(pid);
      child.once("exit", (code, signal) => {
        options.keeper.forget(pid);
        watched.delete(child);
        if (!stopping) options.onDeath(signal ?? `exit status ${code}`);
      });
    });
  };
  subscribe("child_process", onChild);
  const workers = await Promise.all(
    prepared.map(async (worker): Promise<V4WorkerOptions> => ({
      ...worker.options,
      modules: await modulesOf(worker),
      outboundService: loopbackOnly,
      ...(options.ports[worker.name] === undefined
        ? {}
        : { unsafeDirectSockets: [{ host: loopback, port: options.ports[worker.name]! }] }),
      bindings: { ...worker.options.bindings, ...options.variables[worker.name] },
    })),
  );
  const miniflare = new Runtime(
    convertV4MiniflareOptions({
      host: loopback,
      port: options.port,
      cf: false,
      log: new FileLog(LogLevel.WARN),
      logRequests: false,
      handleStructuredLogs: ({ message }) => void log.write(`${message}\n`),
      resourcePersistencePath: join(options.folder, "workers"),
      workers: [
        ...workers,
        {
          name: loopbackOnly,
          compatibilityDate: "2026-10-23",
          modules: [{ type: "ESModule", path: "loopback-only.js", contents: loopbackOnlySource }],
        },
      ],
    }),
  );

  async function stop(): Promise<void> {
    stopping = true;
    unsubscribe("child_process", onChild);
    const gone = [...watched].map((child) => new Promise((done) => child.once("exit", done)));
    await miniflare.dispose();
    await Promise.all(gone);
    await new Promise((done) => log.end(done));
  }

  try {
    const url = await miniflare.ready;
    return {
      url: url.origin,
      miniflare,
      logPath,
      scheduled: prepared.flatMap(({ name, crons }) => crons.map((cron) => ({ worker: name, cron }))),
      async runScheduled(worker, cron) {
        const fetcher = await miniflare.getWorker(worker);
        const { outcome } = await fetcher.scheduled({ cron });
        if (outcome !== "ok") throw new Error(`the scheduled handler of ${worker} ended with ${outcome}`);
      },
      stop,
    };
  } catch (error) {
    await stop();
    throw new StackFailure(
      `The workers cannot be started: ${(error as Error).message.split("\n").slice(0, 4).join(" ")}`,
      `The whole log is ${logPath}.`,
      { cause: error },
    );
  }
}
