// The state folder of one stack (`.maestro/` for `npm start`): who may read it, its small JSON files, its secrets.
// Everything secret in it is a file of mode 0600.

import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { exportJWK, generateKeyPair } from "jose";
import type { PublishedKey } from "../../shared/contract/http-audit.ts";
import { StackFailure } from "./failure.ts";

export const databaseRoles = ["app", "auth", "drain", "audit"] as const;
export type DatabaseRole = (typeof databaseRoles)[number];

export interface Secrets {
  readonly owner_password: string;
  readonly role_passwords: Readonly<Record<DatabaseRole, string>>;
  readonly issuer_secret: string;
  /** Private JWKs as JSON text with the member `not_before`, named as the workers' secrets are. */
  readonly worker_keys: Readonly<Record<"CHECKPOINT_KEY" | "STATEMENT_KEY" | "LINK_KEY" | "RELEASE_KEY", string>>;
  /** What the signer derives the tenants' online TUF keys from: JWKs of type `oct` as JSON text. */
  readonly tuf_keys: Readonly<Record<"TUF_TARGETS_KEY" | "TUF_SNAPSHOT_KEY" | "TUF_TIMESTAMP_KEY", string>>;
  /** Provider B's storage zone: who writes has the first, the provider itself only reads. */
  readonly bunny_keys: Readonly<Record<"access_key" | "read_only_key", string>>;
  /** What the edge and the API worker share, and the operator's key for the edge's metrics. */
  readonly edge_keys: Readonly<Record<"link" | "metrics", string>>;
  /** What the signer's and the audit worker's rings keep their private halves under. */
  readonly ring_secrets: Readonly<Record<"signer" | "audit", string>>;
  /** The authority of the platform's workers (first key), and what each worker proves itself to it with. As `worker_keys`. */
  readonly identity_keys: Readonly<Record<"authority" | "api" | "audit", string>>;
  /** The audit keys before these, as they are published; absent where there were none. */
  readonly retired_keys?: readonly PublishedKey[];
}

/** Makes the folder. As root it can be passed through by others: PostgreSQL refuses root, and runs as another user. */
export function prepareStateFolder(folder: string): void {
  const mode = process.getuid?.() === 0 ? 0o711 : 0o700;
  mkdirSync(join(folder, "logs"), { recursive: true, mode });
  chmodSync(folder, mode);
}

/** The file's JSON, or null when there is none. Throws a StackFailure where it is not JSON. */
export function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new StackFailure(
      `The state file ${path} is broken.`,
      "Put it back from a copy, or begin anew (all local data is lost): npm start -- --reset",
      { cause: error },
    );
  }
}

/** Replaces the file at once, readable by its owner only. */
export function writePrivateJson(path: string, value: unknown): void {
  const draft = `${path}.${randomBytes(4).toString("hex")}.draft`;
  writeFileSync(draft, `${JSON.stringify(value, null, 2)}\n`, { mode: 0o600 });
  renameSync(draft, path);
}

export async function privateKey(algorithm: "ES256" | "Ed25519"): Promise<string> {
  const pair = await generateKeyPair(algorithm, { extractable: true });
  return JSON.stringify({ ...(await exportJWK(pair.privateKey)), not_before: new Date().toISOString() });
}

const secretKey = (): string => JSON.stringify({ kty: "oct", k: randomBytes(32).toString("base64url") });
const password = (): string => randomBytes(24).toString("hex");

/** The stack's secrets: made once, kept in `secrets.json`. What a file from before does not have yet is made and added. */
export async function loadSecrets(folder: string): Promise<Secrets> {
  const path = join(folder, "secrets.json");
  const kept = readJson(path) as Partial<Secrets> | null;
  const made: Secrets = {
    owner_password: password(),
    role_passwords: { app: password(), auth: password(), drain: password(), audit: password() },
    issuer_secret: password(),
    worker_keys: {
      CHECKPOINT_KEY: await privateKey("Ed25519"),
      STATEMENT_KEY: await privateKey("ES256"),
      LINK_KEY: await privateKey("ES256"),
      RELEASE_KEY: await privateKey("ES256"),
    },
    tuf_keys: { TUF_TARGETS_KEY: secretKey(), TUF_SNAPSHOT_KEY: secretKey(), TUF_TIMESTAMP_KEY: secretKey() },
    bunny_keys: { access_key: password(), read_only_key: password() },
    ring_secrets: { signer: password(), audit: password() },
    edge_keys: { link: password(), metrics: password() },
    identity_keys: {
      authority: await privateKey("ES256"),
      api: await privateKey("ES256"),
      audit: await privateKey("ES256"),
    },
  };
  const all = { ...made, ...kept };
  if (kept === null || Object.keys(all).length > Object.keys(kept).length) writePrivateJson(path, all);
  return all;
}
