// What a witness keeps on disk: one SQLite file with its key and, for each log, the head that it cosigned last. Key and
// memory are one file on purpose: a key whose memory is gone would cosign a second tree of any log. Each change is one
// statement, on the disk when it returns, and compares with what stands there: other processes on the same file too.
// Used by `maestro witness`.

import { randomBytes } from "node:crypto";
import { chmod, stat } from "node:fs/promises";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { z } from "zod";
import { hex } from "../../shared/contract/bytes.ts";
import { witnessVerifierKey } from "../../shared/audit/cosignature.ts";
import { originSha256, type WitnessedHead, type WitnessStore } from "../../shared/audit/witness.ts";
import { importSigner, type Signer } from "../../shared/signing/keys.ts";
import { errorCode, Failure, messageOf } from "../failure.ts";
import { makeFolder, notWritten, writeNew } from "../folders.ts";

const fileName = "witness.sqlite";
/** "mwit": the file is a witness's, and of the first version. */
const applicationId = 0x6d776974;
const version = 1;
/** How long a write waits for another process's. */
const busyMsMax = 5_000;

const schema = `
  create table if not exists witness (id integer primary key check (id = 1), name text not null, jwk text not null) strict;
  create table if not exists logs (
    origin text primary key, origin_sha256 text not null unique, size integer not null, root_sha256 text not null, note text not null
  ) strict;
  pragma application_id = ${applicationId};
  pragma user_version = ${version};
`;

export const witnessName = /^[^\s+]{1,256}$/u;

const headRow = z.object({ size: z.int().min(0), root_sha256: z.string().regex(/^[0-9a-f]{64}$/) });

export interface WitnessState {
  readonly name: string;
  readonly signer: Signer;
  readonly vkey: string;
  readonly store: WitnessStore;
  close(): void;
}

const damaged = (path: string, what: string): Failure =>
  new Failure("failure", `The witness's state ${path} is damaged: ${what}`, {
    advice:
      "Nothing is cosigned from it. Put back a copy of the newest state; where there is none, begin with an empty folder, " +
      "which is a new witness with a new key. An older copy would cosign what the newer one refuses.",
  });

/** Opens the state in `folder`, and makes it, with a new key, where there is none. `name`: of the witness, null: as it is. */
export async function openWitnessState(folder: string, name: string | null): Promise<WitnessState> {
  const path = join(folder, fileName);
  await makeFile(folder, path);
  let database: DatabaseSync | null = null;
  try {
    database = new DatabaseSync(path, { timeout: busyMsMax });
    return await openDatabase(database, path, name);
  } catch (error) {
    database?.close();
    if (error instanceof Failure) throw error;
    if (isBusy(error)) throw new Failure("conflict", `Another process is writing to ${path}, and does not end`);
    // SQLite's sentences hold no content: "file is not a database", "database disk image is malformed".
    if (errorCode(error) === "ERR_SQLITE_ERROR") throw damaged(path, messageOf(error));
    throw error;
  }
}

/** SQLITE_BUSY, https://www.sqlite.org/rescode.html#busy */
const isBusy = (error: unknown): boolean => (error as { errcode?: unknown }).errcode === 5;

/** SQLite makes its files readable for others; the key is in this one. */
async function makeFile(folder: string, path: string): Promise<void> {
  await makeFolder(folder);
  await writeNew(path, "").catch((error: unknown) => {
    if (errorCode(error) !== "EEXIST") throw notWritten(path, error);
  });
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) await chmod(path, 0o600);
}

async function openDatabase(database: DatabaseSync, path: string, name: string | null): Promise<WitnessState> {
  // Each commit is on the disk, and so is the end of its journal (https://www.sqlite.org/pragma.html#pragma_synchronous).
  database.exec("pragma journal_mode = delete; pragma synchronous = extra;");
  const pragma = (statement: string): unknown => Object.values(database.prepare(`pragma ${statement}`).get() ?? {})[0];
  const isNew = pragma("application_id") === 0 && database.prepare("select 1 from sqlite_schema").get() === undefined;
  if (!isNew) {
    if (pragma("application_id") !== applicationId) throw damaged(path, "it is not a witness's");
    if (pragma("user_version") !== version) throw damaged(path, "it is of another version of this program");
    if (pragma("integrity_check") !== "ok") throw damaged(path, "SQLite's integrity check fails");
  }
  const key = await generatedKey();
  database.exec("begin immediate");
  try {
    // An empty file that appears between two starts gets one key: the second insert does nothing.
    if (isNew) {
      database.exec(schema);
      database
        .prepare("insert into witness (id, name, jwk) values (1, ?, ?) on conflict do nothing")
        .run(name ?? key.name, key.jwk);
    }
    database.exec("commit");
  } catch (error) {
    database.exec("rollback");
    throw error;
  }
  const kept = z
    .object({ name: z.string().regex(witnessName), jwk: z.string() })
    .safeParse(database.prepare("select name, jwk from witness where id = 1").get());
  if (!kept.success) throw damaged(path, "it holds no key");
  if (name !== null && name !== kept.data.name)
    throw new Failure("usage", `The witness in ${path} is called ${kept.data.name}`, {
      advice: "A witness keeps its name: signatures carry it. Leave --name out, or name another folder.",
    });
  const signer = await importSigner(kept.data.jwk, "Ed25519").catch(() => {
    throw damaged(path, "its key is not readable");
  });
  for (const row of database.prepare("select * from logs").iterate()) {
    if (!headRow.safeParse(row).success) throw damaged(path, "a log's head is not readable");
    if ((await originSha256(String(row["origin"]))) !== row["origin_sha256"])
      throw damaged(path, "a log's head stands under another log's name");
  }
  return {
    name: kept.data.name,
    signer,
    vkey: await witnessVerifierKey(kept.data.name, signer.spki),
    store: storeOver(database, path),
    close: () => database.close(),
  };
}

async function generatedKey(): Promise<{ name: string; jwk: string }> {
  const pair = await crypto.subtle.generateKey("Ed25519", true, ["sign", "verify"]);
  const jwk = JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey));
  return { name: `maestro-witness-${hex(randomBytes(4))}`, jwk };
}

function storeOver(database: DatabaseSync, path: string): WitnessStore {
  const read = database.prepare("select size, root_sha256 from logs where origin = ?");
  const first = database.prepare(
    "insert into logs (origin, origin_sha256, size, root_sha256, note) values (?, ?, ?, ?, ?) on conflict do nothing returning 1",
  );
  const next = database.prepare(
    "update logs set size = ?, root_sha256 = ?, note = ? where origin = ? and size = ? and root_sha256 = ? returning 1",
  );
  const note = database.prepare("select note from logs where origin_sha256 = ?");
  return {
    async read(origin): Promise<WitnessedHead | null> {
      const row = read.get(origin);
      if (row === undefined) return null;
      const head = headRow.safeParse(row);
      if (!head.success) throw damaged(path, "a log's head is not readable");
      return head.data;
    },
    async advance(origin, from, to, text) {
      const changed =
        from === null
          ? first.all(origin, await originSha256(origin), to.size, to.root_sha256, text)
          : next.all(to.size, to.root_sha256, text, origin, from.size, from.root_sha256);
      return changed.length === 1;
    },
    async note(digest) {
      const row = note.get(digest);
      return row === undefined ? null : String(row["note"]);
    },
  };
}
