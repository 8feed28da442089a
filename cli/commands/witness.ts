// `maestro witness`: an independent witness of transparency logs, this service's anchor log or anybody's.

import { createHash } from "node:crypto";
import { resolve } from "node:path";
import { InvalidArgumentError, type Command } from "commander";
import { anchorTenantId } from "../../shared/audit/anchor-event.ts";
import { originOf, verifierKey } from "../../shared/audit/checkpoint.ts";
import { noteTypes, parseVerifierKey, type VerifierKey } from "../../shared/audit/note.ts";
import { checkpointKeys } from "../../shared/signing/published.ts";
import { group, leaf, type Act } from "../command.ts";
import { Failure, messageOf } from "../failure.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";
import { offlineKeys, trustedKeys } from "../trusted-keys.ts";
import { startWitnessServer, type Served } from "../witness/server.ts";
import { openWitnessState, witnessName, type WitnessState } from "../witness/state.ts";

const logsMax = 1_000;

export function witnessCommands(program: Command, act: Act): void {
  const witness = group(program, "witness", "be a witness of transparency logs (C2SP tlog-witness)");
  leaf(witness, "key", {
    summary: "print the witness's verifier key (vkey); makes the witness where there is none",
    more:
      "The folder holds the witness's key and the last head of each log that it cosigned, in one file. Never put an older " +
      "copy of it back: that witness would cosign what it refused before.",
    examples: [
      "maestro witness key --state ./witness",
      "maestro witness key --state ./witness --name witness.example/w1",
    ],
  })
    .requiredOption("--state <dir>", "the witness's folder")
    .option(
      "--name <name>",
      "the witness's name in its signatures, like witness.example/w1; for a new one",
      nameArgument,
    )
    .action(act(showKey));
  leaf(witness, "log", {
    summary: "print the verifier key (vkey) of this API's anchor log, for --log and for policies",
    examples: ["maestro witness log", "maestro witness log --keys keys.json"],
  })
    .option("--keys <file>", "a key set saved from GET /api/audit/keys")
    .action(act(showLog));
  leaf(witness, "serve", {
    summary: "cosign checkpoints of the logs named, each only where it continues the one before",
    more:
      "Serves POST /add-checkpoint and GET /<SHA-256 of the origin>/checkpoint until Ctrl-C, and writes a line a request on " +
      "stderr. It speaks HTTP: put a proxy in front of it for TLS. It refuses to start on a state that is damaged.",
    examples: [
      "maestro witness serve --state ./witness --log example.com/log+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ],
  })
    .requiredOption("--state <dir>", "the witness's folder; made, with a new key, where there is none")
    .requiredOption("--log <vkey...>", "a log to watch, by its verifier key; the key's name is the log's origin")
    .option("--listen <address:port>", "where to listen; port 0 for any free one", listenArgument, {
      address: "127.0.0.1",
      port: 7380,
    })
    .option("--name <name>", "the witness's name, for a new one", nameArgument)
    .action(act(serve));
}

function nameArgument(text: string): string {
  if (!witnessName.test(text)) throw new InvalidArgumentError("A name has 1 to 256 characters, no spaces and no plus.");
  return text;
}

interface Listen {
  readonly address: string;
  readonly port: number;
}

function listenArgument(text: string): Listen {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text);
  const address = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (address === undefined || !(port <= 65_535)) throw new InvalidArgumentError("It is like 127.0.0.1:7380.");
  return { address, port };
}

interface StateOptions {
  readonly state: string;
  readonly name?: string;
}

const stateOf = (session: Session, { state, name }: StateOptions): Promise<WitnessState> =>
  openWitnessState(resolve(session.host.cwd, state), name ?? null);

async function showKey(session: Session, options: StateOptions): Promise<void> {
  const state = await stateOf(session, options);
  state.close();
  session.out.result({ name: state.name, vkey: state.vkey }, () => state.vkey);
}

async function showLog(session: Session, options: { readonly keys?: string }): Promise<void> {
  const keys = options.keys === undefined ? await trustedKeys(session) : await offlineKeys(session, options.keys);
  const origin = originOf(keys.origin_prefix, anchorTenantId);
  // Retired keys sign no more: no witness should take them.
  const inUse = { ...keys, keys: keys.keys.filter(({ not_after }) => not_after === undefined) };
  const vkeys = await Promise.all(checkpointKeys(inUse).map((spki) => verifierKey(origin, spki)));
  session.out.result({ origin, vkeys }, () => vkeys.join("\n"));
}

async function watched(vkeys: readonly string[]): Promise<VerifierKey[]> {
  if (vkeys.length > logsMax) throw new Failure("usage", `A witness watches at most ${logsMax} logs`);
  return await Promise.all(
    vkeys.map(async (vkey) => {
      const key = await parseVerifierKey(vkey);
      if (key?.type === noteTypes.ed25519) return key;
      throw new Failure("usage", `${printable(vkey)} is not the verifier key of a log`, {
        advice: "It is name+hash+base64 with an Ed25519 key; `maestro witness log` prints this API's.",
      });
    }),
  );
}

async function serve(
  session: Session,
  options: StateOptions & { readonly log: readonly string[]; readonly listen: Listen },
): Promise<void> {
  const { host, out } = session;
  const logs = await watched(options.log);
  const state = await stateOf(session, options);
  try {
    const server = await startWitnessServer({
      ...options.listen,
      witness: {
        name: state.name,
        signer: state.signer,
        logs,
        store: state.store,
        clock: () => host.now(),
        sha256: (bytes) => new Uint8Array(createHash("sha256").update(bytes).digest()),
      },
      onServed: (served) => out.note(lineOf(session, served)),
      onFault: (error) => out.note(`the witness failed: ${printable(messageOf(error))}`),
    });
    const origins = logs.map(({ name }) => name);
    out.result({ url: server.url, name: state.name, vkey: state.vkey, logs: origins }, () =>
      out.record([["witness", server.url], ["vkey", state.vkey], ...origins.map((origin) => ["log", origin] as const)]),
    );
    await new Promise<void>((done) => {
      if (host.interrupted.aborted) done();
      else host.interrupted.addEventListener("abort", () => done(), { once: true });
    });
    await server.close();
  } finally {
    state.close();
  }
}

const pathCharactersMax = 100;

function lineOf({ host, out }: Session, { method, path, status, ms, origin, size }: Served): string {
  const line = {
    time: new Date(host.now()).toISOString(),
    method,
    path: path.slice(0, pathCharactersMax),
    status,
    ms,
    origin,
    size,
  };
  if (out.json) return JSON.stringify(line);
  const about = origin === null ? "" : ` ${origin}${size === null ? "" : ` ${size}`}`;
  return printable(`${line.time} ${method} ${line.path} ${status} ${ms}ms${about}`);
}
