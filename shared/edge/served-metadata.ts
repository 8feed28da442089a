// What serving reads of TUF metadata to find the bundle that a channel points to: versions, hashes and an expiry. Called by
// workers/edge. No signature is checked here: whoever trusts an answer checks them.

import { utf8Text } from "../contract/bytes.ts";

/** A file of metadata that another one names. `digest` is null where it is named by its version alone. */
export interface NamedVersion {
  readonly version: number;
  readonly digest: string | null;
}

/** `expiresAt` is in ms since 1970. */
export interface ServedTimestamp {
  readonly expiresAt: number;
  readonly snapshot: NamedVersion;
}

type Json = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** The `signed` part of a file of this role and, where it is given, of this version; null where it is none. */
function signedOf(bytes: Uint8Array, role: string, version: number | null): Json | null {
  let file: unknown;
  try {
    file = JSON.parse(utf8Text(bytes));
  } catch {
    return null;
  }
  if (!isObject(file) || !isObject(file["signed"])) return null;
  const { signed } = file;
  if (signed["_type"] !== role || (version !== null && signed["version"] !== version)) return null;
  return signed;
}

function hashOf(value: Json): string | null | undefined {
  const { hashes } = value;
  if (hashes === undefined) return null;
  const digest = isObject(hashes) ? hashes["sha256"] : undefined;
  return typeof digest === "string" && /^[0-9a-f]{64}$/.test(digest) ? digest : undefined;
}

function namedIn(signed: Json, file: string): NamedVersion | null {
  const { meta } = signed;
  const named = isObject(meta) && Object.hasOwn(meta, file) ? meta[file] : undefined;
  if (!isObject(named)) return null;
  const { version } = named;
  const digest = hashOf(named);
  if (!Number.isSafeInteger(version) || (version as number) < 1 || digest === undefined) return null;
  return { version: version as number, digest };
}

/** Null where it is not a timestamp. */
export function readTimestamp(bytes: Uint8Array): ServedTimestamp | null {
  const signed = signedOf(bytes, "timestamp", null);
  const snapshot = signed === null ? null : namedIn(signed, "snapshot.json");
  const expires = signed?.["expires"];
  const expiresAt = typeof expires === "string" ? Date.parse(expires) : Number.NaN;
  return snapshot === null || Number.isNaN(expiresAt) ? null : { expiresAt, snapshot };
}

/** The targets file that this snapshot names; null where it is not that snapshot. */
export function readSnapshot(bytes: Uint8Array, version: number): NamedVersion | null {
  const signed = signedOf(bytes, "snapshot", version);
  return signed === null ? null : namedIn(signed, "targets.json");
}

/** Target path → lower-case hex SHA-256 of its bytes; null where it is not these targets. */
export function readTargets(bytes: Uint8Array, version: number): ReadonlyMap<string, string> | null {
  const signed = signedOf(bytes, "targets", version);
  const targets = signed?.["targets"];
  if (!isObject(targets)) return null;
  const digests = new Map<string, string>();
  for (const [path, target] of Object.entries(targets)) {
    const digest = isObject(target) ? hashOf(target) : undefined;
    if (typeof digest !== "string") return null;
    digests.set(path, digest);
  }
  return digests;
}
