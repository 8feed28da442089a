// `npm start`: the whole product on this machine, with a demo tenant, until Ctrl-C. State is in .maestro/ and kept.

import { readFileSync } from "node:fs";
import { enableCompileCache } from "node:module";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { parseWitnessPolicy } from "../shared/audit/witness-policy.ts";
import { describeFailure, StackFailure } from "./stack/failure.ts";
import type { Stack } from "./stack/index.ts";
import { acquireLock } from "./stack/lock.ts";
import type { SeededTenant } from "./stack/seed.ts";
import { projectFolder } from "./stack/workers.ts";

// Most of what is loaded is Miniflare; where the folder cannot be written, Node goes without.
enableCompileCache(join(projectFolder, "node_modules", ".cache", "maestro"));
const { removeState, startStack } = await import("./stack/index.ts");

const help = `npm start -- [options]

Starts PostgreSQL, the workers and a local issuer, seeds the tenant \`demo\`, and stays up until Ctrl-C.

  --port N           the API's port                 MAESTRO_PORT           8787
  --proxy-port N     the Neon proxy's port          MAESTRO_PROXY_PORT     8788
  --issuer-port N    the local issuer's port        MAESTRO_ISSUER_PORT    8789
  --postgres-port N  PostgreSQL's port              MAESTRO_POSTGRES_PORT  8790
  --edge-a-port N    provider A's edge's port       MAESTRO_EDGE_A_PORT    8791
  --edge-b-port N    provider B's edge's port       MAESTRO_EDGE_B_PORT    8792
  --tls-port N       the API's port over mutual TLS MAESTRO_TLS_PORT       8793
  --state DIR        where the data is kept         MAESTRO_STATE          .maestro
  --reset            remove the data and begin anew
  --witnesses FILE   who cosigns the anchor log: a policy (C2SP tlog-policy) whose witnesses have URLs
  --help             this text

A port of 0 is any free one. A flag goes before its environment variable.
`;

const scheduleMs = 60_000;
const stopMsMax = 20_000;
/** Ctrl-C reaches the children, too: one that ends within this time before us was not killed by a stranger. */
const deathGraceMs = 300;

interface Settings {
  readonly folder: string;
  readonly reset: boolean;
  readonly witnesses: string | null;
  readonly ports: Readonly<Record<"api" | "proxy" | "issuer" | "postgres" | "edgeA" | "edgeB" | "tls", number>>;
}

function readSettings(args: string[]): Settings | null {
  const { values } = parseArgs({
    args,
    options: {
      port: { type: "string" },
      "proxy-port": { type: "string" },
      "issuer-port": { type: "string" },
      "postgres-port": { type: "string" },
      "edge-a-port": { type: "string" },
      "edge-b-port": { type: "string" },
      "tls-port": { type: "string" },
      state: { type: "string" },
      reset: { type: "boolean", default: false },
      witnesses: { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  type PortFlag = "port" | "proxy-port" | "issuer-port" | "postgres-port" | "edge-a-port" | "edge-b-port" | "tls-port";
  const port = (flag: PortFlag, otherwise: number): number => {
    const variable = `MAESTRO_${flag.replaceAll("-", "_").toUpperCase()}`;
    const text = values[flag] ?? process.env[variable] ?? String(otherwise);
    if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535)
      throw new TypeError(`--${flag} is a port, 0 to 65535, not ${text}`);
    return Number(text);
  };
  const state = values.state ?? process.env["MAESTRO_STATE"];
  return {
    folder: state === undefined ? join(projectFolder, ".maestro") : resolve(state),
    reset: values.reset,
    witnesses: values.witnesses === undefined ? null : resolve(values.witnesses),
    ports: {
      api: port("port", 8787),
      proxy: port("proxy-port", 8788),
      issuer: port("issuer-port", 8789),
      postgres: port("postgres-port", 8790),
      edgeA: port("edge-a-port", 8791),
      edgeB: port("edge-b-port", 8792),
      tls: port("tls-port", 8793),
    },
  };
}

/** The witnesses of a policy, as the audit worker is told of them. */
async function witnessesIn(path: string): Promise<{ url: string; vkey: string }[]> {
  const wayOut =
    "It is a policy like https://c2sp.org/tlog-policy: a line `witness NAME VKEY URL` for each, and a quorum.";
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new StackFailure(`The policy ${path} cannot be read.`, wayOut, { cause: error });
  }
  const parsed = await parseWitnessPolicy(bytes);
  if (!parsed.ok) throw new StackFailure(`${path} is not a policy of witnesses: ${parsed.reason}.`, wayOut);
  return parsed.policy.witnesses.map(({ name, url, key }) => {
    if (url === null) throw new StackFailure(`The witness ${name} in ${path} has no URL.`, wayOut);
    return { url, vkey: key.text };
  });
}

function banner(stack: Stack, tenant: SeededTenant, seconds: string): string {
  const { version } = JSON.parse(readFileSync(join(projectFolder, "package.json"), "utf8")) as { version: string };
  const shown = (path: string): string => {
    const short = relative(process.cwd(), path);
    return short === "" || short.startsWith("..") ? path : short;
  };
  const login = stack.folder === join(projectFolder, ".maestro") ? "" : ` --state ${shown(stack.folder)}`;
  return `
Maestro Conductor ${version} is up after ${seconds} s.

  API        ${stack.apiUrl}
  mutual TLS ${stack.tls.url} (SVIDs of ${stack.tls.trustDomain}; its authority: ${shown(stack.tls.authorityFolder)})
  reference  ${stack.apiUrl}/docs
  issuer     ${stack.issuerUrl}
  edge       ${stack.edge.a} (provider A), ${stack.edge.b} (provider B)
  database   127.0.0.1:${new URL(stack.databaseUrls.owner).port}
  logs       ${shown(stack.logPaths.workers)}

The admin's API key of the tenant \`${tenant.slug}\`, good on this machine only:

  ${tenant.keys.admin}

Three things to try, in another terminal:

  node cli/maestro.mjs login --local${login}
  node cli/maestro.mjs whoami
  node cli/maestro.mjs pql 'FIND events BUCKET BY 1m SINCE 1h'

Ctrl-C stops everything and keeps the data; npm start -- --reset begins anew.
`;
}

async function main(): Promise<number> {
  let settings: Settings | null;
  try {
    settings = readSettings(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n→ npm start -- --help\n`);
    return 2;
  }
  if (settings === null) {
    process.stdout.write(help);
    return 0;
  }

  const started = performance.now();
  const asked = Promise.withResolvers<"signal">();
  const died = Promise.withResolvers<StackFailure>();
  let stopping = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      if (stopping) return;
      stopping = true;
      process.stdout.write("\nstopping …\n");
      // Whatever hangs: the keeper ends the children once this process is gone.
      setTimeout(() => process.exit(1), stopMsMax).unref();
      asked.resolve("signal");
    });
  }

  let releaseLock = (): void => {};
  let stack: Stack | null = null;
  try {
    const { folder, ports } = settings;
    releaseLock = acquireLock(folder);
    if (settings.reset) {
      removeState(folder);
      releaseLock = acquireLock(folder);
    }
    const witnesses = settings.witnesses === null ? [] : await witnessesIn(settings.witnesses);
    stack = await startStack({
      folder,
      ports,
      witnesses,
      log: (line) => process.stdout.write(`${line} …\n`),
      onDeath: (who, how) => {
        setTimeout(() => {
          if (stopping) return;
          died.resolve(
            new StackFailure(
              `${who} has ended (${how}) without being asked to; everything else is being stopped.`,
              `The data is kept: npm start again. The logs are in ${join(folder, "logs")}.`,
            ),
          );
        }, deathGraceMs);
      },
    });
    const tenant = await stack.seedTenant("demo");
    if (!stopping) process.stdout.write(banner(stack, tenant, ((performance.now() - started) / 1000).toFixed(1)));
    const end = await runUntil(stack, asked.promise, died.promise);
    if (end === "signal") return 0;
    throw end;
  } catch (error) {
    // A start that a signal cut short fails somewhere, and that is no news.
    if (stopping) return 0;
    stopping = true;
    process.stderr.write(`\n${describeFailure(error)}\n`);
    return 1;
  } finally {
    await stack?.stop();
    releaseLock();
  }
}

async function runUntil<T>(stack: Stack, ...ends: readonly Promise<T | "signal">[]): Promise<T | "signal"> {
  const schedule = setInterval(() => {
    stack.runScheduled().catch((error: unknown) => process.stderr.write(`scheduled: ${(error as Error).message}\n`));
  }, scheduleMs);
  try {
    return await Promise.race(ends);
  } finally {
    clearInterval(schedule);
  }
}

process.exitCode = await main();
