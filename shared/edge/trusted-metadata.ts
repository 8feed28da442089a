// The detailed client workflow of the TUF specification (section 5), pure: what is trusted and what a provider serves go in,
// what is trusted then comes out. Called by edge-fetcher.ts. Signatures are verified by @tufjs/models, so that what our
// writer signs is believed by code that is not ours (docs/adr/ADR-1227-fetching.md); the steps are cited by their numbers.
// https://theupdateframework.github.io/specification/v1.0.33/#detailed-client-workflow

import { z } from "@hono/zod-openapi";
import { Metadata, MetadataKind } from "@tufjs/models";
import { sha256Hex, utf8, utf8Text, type Bytes } from "../contract/bytes.ts";
import { isoTime } from "../contract/iso-time.ts";
import { timestampName } from "./serving-path.ts";
import { refusal, type Read, type Refusal } from "./refusal.ts";
import {
  keyIdOf,
  rootDocument,
  roleKeysMax,
  snapshotSigned,
  targetsSigned,
  timestampSigned,
  tufSignature,
  type OnlineRole,
  type PolicyTarget,
  type RootDocument,
  type TargetsSigned,
} from "./tuf.ts";

/** Files of metadata, in bytes; targets and snapshot are held to the length that the one before names, too. */
export const metadataBytesMax = {
  root: 64 * 1024,
  timestamp: 16 * 1024,
  snapshot: 64 * 1024,
  targets: 1024 * 1024,
} as const;

/** 5.3.3: new roots in one refresh. */
export const rootRotationsMax = 32;
/** Signed times may be so far ahead of this machine's clock. */
export const clockBehindMsMax = 5 * 60_000;

/** Texts as they came from a provider; each was verified under `root`. Null: there is none yet, or its keys were replaced. */
export interface TrustedMetadata {
  readonly root: string;
  readonly timestamp: string | null;
  readonly snapshot: string | null;
  readonly targets: string | null;
}

export interface MetadataView {
  readonly rootVersion: number;
  readonly timestampVersion: number;
  readonly targetsVersion: number;
  readonly targets: Readonly<Record<string, PolicyTarget>>;
  /** Ms since 1970: the first of the four documents' ends. */
  readonly expiresAt: number;
}

export type Refreshed =
  | { readonly state: "fresh"; readonly trusted: TrustedMetadata; readonly view: MetadataView }
  /** Signed, unexpired, and older than what is trusted: a provider that lags. */
  | { readonly state: "behind"; readonly offered: number; readonly trusted: number }
  | { readonly state: "refused"; readonly refusal: Refusal };

/** Reads `tuf/{tenant}/{name}` of one provider. */
export type ReadMetadata = (name: string, bytesMax: number) => Promise<Read>;

const signaturesShape = z
  .array(tufSignature)
  .min(1)
  .max(2 * roleKeysMax);
const timestampDocument = z.strictObject({ signatures: signaturesShape, signed: timestampSigned });
const snapshotDocument = z.strictObject({ signatures: signaturesShape, signed: snapshotSigned });
const targetsDocument = z.strictObject({ signatures: signaturesShape, signed: targetsSigned });

type TimestampDocument = z.infer<typeof timestampDocument>;
type SnapshotDocument = z.infer<typeof snapshotDocument>;
type TargetsDocument = z.infer<typeof targetsDocument>;

interface Accepted<D> {
  readonly document: D;
  readonly text: string;
}

/**
 * Snapshots and targets that were verified under this root, by role and SHA-256. Providers are asked four times a second, and mostly
 * have what they had: the same bytes under the same root are not verified again, nor for each provider. Their ends are looked at
 * each time.
 */
const verifiedUnder = new WeakMap<TrustedMetadata, Map<string, Accepted<unknown>>>();
const verifiedMax = 8;

function verifiedOf(trusted: TrustedMetadata): Map<string, Accepted<unknown>> {
  const known = verifiedUnder.get(trusted) ?? new Map<string, Accepted<unknown>>();
  verifiedUnder.set(trusted, known);
  return known;
}

/** A document is refused by throwing this, within this file alone. */
class Refused extends Error {
  readonly refusal: Refusal;

  constructor(refused: Refusal) {
    super(refused.detail);
    this.refusal = refused;
  }
}

function refuse(code: Refusal["code"], detail: string): never {
  throw new Refused(refusal(code, detail));
}

/** Throws RangeError where `text` is no root that its own keys have signed: what a person pinned is wrong. */
export async function pinnedRoot(text: string): Promise<TrustedMetadata> {
  try {
    const root = parse("root", text, rootDocument);
    requireSignatures(root, "root", root);
    await requireOwnKeyIds(root);
  } catch (error) {
    if (error instanceof Refused) throw new RangeError(error.message, { cause: error });
    throw error;
  }
  return { root: text, timestamp: null, snapshot: null, targets: null };
}

export const rootVersionOf = ({ root }: TrustedMetadata): number => held(rootDocument, root).signed.version;

export type NextRoot =
  | { readonly ok: true; readonly trusted: TrustedMetadata }
  | { readonly ok: false; readonly refusal: Refusal };

/** 5.3.4 to 5.3.8 and 5.3.11: `bytes` is what a provider serves as the root behind the trusted one. */
export async function nextRoot(trusted: TrustedMetadata, bytes: Bytes): Promise<NextRoot> {
  try {
    const before = held(rootDocument, trusted.root);
    const wanted = before.signed.version + 1;
    const text = textOf("root", bytes);
    const next = parse("root", text, rootDocument);
    // 5.3.4: enough keys of the trusted root, and enough of its own.
    requireSignatures(before, "root", next, "bad_root_rotation");
    requireSignatures(next, "root", next, "bad_root_rotation");
    await requireOwnKeyIds(next);
    // 5.3.5: exactly one further. Expiry does not matter yet (5.3.9).
    if (next.signed.version !== wanted)
      refuse("rollback", `${wanted}.root.json is root ${next.signed.version}, signed by those who may sign it`);
    // 5.3.11: who held the old keys may have run the numbers up, so that nothing honest could follow.
    const isRotated = (role: OnlineRole): boolean => !isSameRole(before, next, role);
    const forget = isRotated("timestamp") || isRotated("snapshot");
    return {
      ok: true,
      trusted: {
        root: text,
        timestamp: forget ? null : trusted.timestamp,
        snapshot: forget ? null : trusted.snapshot,
        targets: isRotated("targets") ? null : trusted.targets,
      },
    };
  } catch (error) {
    if (error instanceof Refused) return { ok: false, refusal: error.refusal };
    throw error;
  }
}

/** 5.3.10 and 5.4 to 5.6, from one provider; `now` (5.1) is the same for all of it. What `read` throws goes through. */
export async function refreshMetadata(trusted: TrustedMetadata, read: ReadMetadata, now: number): Promise<Refreshed> {
  try {
    const root = held(rootDocument, trusted.root);
    requireUnexpired("root", root.signed.expires, now);
    const timestamp = await readTimestamp(trusted, root, read, now);
    if ("behind" in timestamp) return { state: "behind", offered: timestamp.behind, trusted: timestamp.trusted };
    const snapshot = await readSnapshot(trusted, root, timestamp.document, read, now);
    const targets = await readTargets(trusted, root, snapshot.document, read, now);
    const texts = { timestamp: timestamp.text, snapshot: snapshot.text, targets: targets.text };
    return {
      state: "fresh",
      trusted: withTexts(trusted, texts),
      view: viewOfDocuments(root, timestamp.document, snapshot.document, targets.document),
    };
  } catch (error) {
    if (error instanceof Refused) return { state: "refused", refusal: error.refusal };
    throw error;
  }
}

/** The same object where nothing is new. */
function withTexts(trusted: TrustedMetadata, texts: Omit<TrustedMetadata, "root">): TrustedMetadata {
  const { timestamp, snapshot, targets } = trusted;
  if (timestamp === texts.timestamp && snapshot === texts.snapshot && targets === texts.targets) return trusted;
  const next = { root: trusted.root, ...texts };
  const named = [texts.snapshot, texts.targets];
  verifiedUnder.set(next, new Map([...verifiedOf(trusted)].filter(([, { text }]) => named.includes(text))));
  return next;
}

function viewOfDocuments(
  root: RootDocument,
  timestamp: TimestampDocument,
  snapshot: SnapshotDocument,
  targets: TargetsDocument,
): MetadataView {
  const ends = [root, timestamp, snapshot, targets].map(({ signed }) => Date.parse(signed.expires));
  return {
    rootVersion: root.signed.version,
    timestampVersion: timestamp.signed.version,
    targetsVersion: targets.signed.version,
    targets: targets.signed.targets,
    expiresAt: Math.min(...ends),
  };
}

async function readTimestamp(
  trusted: TrustedMetadata,
  root: RootDocument,
  read: ReadMetadata,
  now: number,
): Promise<Accepted<TimestampDocument> | { readonly behind: number; readonly trusted: number }> {
  const text = textOf("timestamp", await taken(read, timestampName, metadataBytesMax.timestamp)); // 5.4.1
  const document = parse("timestamp", text, timestampDocument);
  requireSignatures(root, "timestamp", document); // 5.4.2
  const before = trusted.timestamp === null ? null : held(timestampDocument, trusted.timestamp);
  if (before !== null) {
    // 5.4.3.1: the same number again is no news, and lower ones are never taken.
    if (document.signed.version === before.signed.version) {
      requireUnexpired("timestamp", before.signed.expires, now);
      return { document: before, text: trusted.timestamp! };
    }
    if (document.signed.version < before.signed.version) {
      requireUnexpired("timestamp", document.signed.expires, now);
      return { behind: document.signed.version, trusted: before.signed.version };
    }
    // 5.4.3.2
    requireNotLower("snapshot", document.signed.meta["snapshot.json"], before.signed.meta["snapshot.json"]);
  }
  requireUnexpired("timestamp", document.signed.expires, now); // 5.4.4
  return { document, text };
}

async function readSnapshot(
  trusted: TrustedMetadata,
  root: RootDocument,
  timestamp: TimestampDocument,
  read: ReadMetadata,
  now: number,
): Promise<Accepted<SnapshotDocument>> {
  const named = timestamp.signed.meta["snapshot.json"];
  const accepted = await verified("snapshot", named, trusted, read, root, snapshotDocument); // 5.5.1 to 5.5.3
  const { document } = accepted;
  const before = beforeOf(accepted, trusted.snapshot, snapshotDocument);
  requireVersion("snapshot", document.signed.version, named.version); // 5.5.4
  if (before !== null)
    requireNotLower("targets", document.signed.meta["targets.json"], before.signed.meta["targets.json"]); // 5.5.5
  requireUnexpired("snapshot", document.signed.expires, now); // 5.5.6
  return accepted;
}

async function readTargets(
  trusted: TrustedMetadata,
  root: RootDocument,
  snapshot: SnapshotDocument,
  read: ReadMetadata,
  now: number,
): Promise<Accepted<TargetsDocument>> {
  const named = snapshot.signed.meta["targets.json"];
  const accepted = await verified("targets", named, trusted, read, root, targetsDocument); // 5.6.1 to 5.6.3
  const { document } = accepted;
  const before = beforeOf(accepted, trusted.targets, targetsDocument);
  requireVersion("targets", document.signed.version, named.version); // 5.6.4
  requireUnexpired("targets", document.signed.expires, now); // 5.6.5
  requireRevisions(document.signed, before?.signed ?? null);
  requireClock(document.signed, now);
  return accepted;
}

/** The named file, with the signatures that the root asks for. */
async function verified<D extends { readonly signed: { readonly version: number } }>(
  role: "snapshot" | "targets",
  named: NamedFile,
  trusted: TrustedMetadata,
  read: ReadMetadata,
  root: RootDocument,
  shape: z.ZodType<D>,
): Promise<Accepted<D>> {
  const all = verifiedOf(trusted);
  const key = `${role} ${named.hashes.sha256}`;
  const before = all.get(key);
  if (before !== undefined) return before as Accepted<D>;
  const text = await namedText(role, named, trusted[role], read, root, shape);
  // Another provider's may have come meanwhile.
  const meanwhile = all.get(key);
  if (meanwhile !== undefined) return meanwhile as Accepted<D>;
  const document = parse(role, text, shape);
  requireSignatures(root, role, document);
  if (all.size >= verifiedMax) all.clear();
  const accepted = { document, text };
  all.set(key, accepted);
  return accepted;
}

/** What was trusted until now. */
function beforeOf<D>(accepted: Accepted<D>, known: string | null, shape: z.ZodType<D>): D | null {
  if (known === null) return null;
  return known === accepted.text ? accepted.document : held(shape, known);
}

/** Beyond the specification: a channel's revision counts up, also when it goes back to older bytes. */
function requireRevisions({ targets }: TargetsSigned, before: TargetsSigned | null): void {
  for (const [path, { custom }] of Object.entries(before?.targets ?? {})) {
    const next = targets[path];
    if (next !== undefined && next.custom.revision < custom.revision)
      refuse("rollback", `${path} is at revision ${next.custom.revision}, and was at ${custom.revision} before`);
  }
}

/** A clock that has fallen behind would take what has long expired. */
function requireClock({ targets }: TargetsSigned, now: number): void {
  for (const [path, { custom }] of Object.entries(targets))
    if (Date.parse(custom.published_at) > now + clockBehindMsMax)
      refuse("clock_behind", `${path} was published at ${custom.published_at}, and the clock says ${isoTime(now)}`);
}

interface NamedFile {
  readonly version: number;
  readonly length: number;
  readonly hashes: { readonly sha256: string };
}

/** The file with that length and digest: the one that is trusted already, or else the provider's. */
async function namedText<D extends { readonly signed: { readonly version: number } }>(
  role: "snapshot" | "targets",
  named: NamedFile,
  known: string | null,
  read: ReadMetadata,
  root: RootDocument,
  shape: z.ZodType<D>,
): Promise<string> {
  if (known !== null && (await sha256Hex(utf8(known))) === named.hashes.sha256) return known;
  const most = metadataBytesMax[role];
  if (named.length > most)
    refuse("too_large", `the ${role} metadata is said to have ${named.length} bytes, and ${most} are read`);
  const name = `${named.version}.${role}.json`;
  const bytes = await taken(read, name, named.length);
  if (bytes.length === named.length && (await sha256Hex(bytes)) === named.hashes.sha256) return textOf(role, bytes);
  // Only to tell one attack from the other: it is refused in any case.
  const other = signedVersion(role, bytes, root, shape);
  return other === null
    ? refuse("wrong_digest", `${name} is not the file that is named: its bytes have another digest or length`)
    : refuse("mix_and_match", `${name} is ${role} ${other} with other bytes than the metadata above it names`);
}

function signedVersion<D extends { readonly signed: { readonly version: number } }>(
  role: "snapshot" | "targets",
  bytes: Bytes,
  root: RootDocument,
  shape: z.ZodType<D>,
): number | null {
  try {
    const document = parse(role, textOf(role, bytes), shape);
    requireSignatures(root, role, document);
    return document.signed.version;
  } catch (error) {
    if (error instanceof Refused) return null;
    throw error;
  }
}

async function taken(read: ReadMetadata, name: string, bytesMax: number): Promise<Bytes> {
  const answer = await read(name, bytesMax);
  if (!answer.ok) throw new Refused(answer.refusal);
  if (answer.bytes.length > bytesMax) refuse("too_large", `${name} has more than ${bytesMax} bytes`);
  return answer.bytes;
}

type Role = OnlineRole | "root";

function textOf(role: Role, bytes: Bytes): string {
  try {
    return utf8Text(bytes);
  } catch {
    return refuse("malformed", `the ${role} metadata is not UTF-8`);
  }
}

function parse<D>(role: Role, text: string, shape: z.ZodType<D>): D {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return refuse("malformed", `the ${role} metadata is not JSON`);
  }
  const parsed = shape.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  return refuse("malformed", `the ${role} metadata: ${issue?.path.join(".") ?? ""}: ${issue?.message ?? "unreadable"}`);
}

/** What was verified before it was trusted. */
const held = <D>(shape: z.ZodType<D>, text: string): D => shape.parse(JSON.parse(text));

type Model = Metadata<Metadata<never>["signed"]>;

/** The same document for @tufjs/models, which reads it by itself. */
function modelOf(role: Role, document: unknown): Model {
  const value = document as Parameters<typeof Metadata.fromJSON>[1];
  if (role === "root") return Metadata.fromJSON(MetadataKind.Root, value) as unknown as Model;
  if (role === "timestamp") return Metadata.fromJSON(MetadataKind.Timestamp, value) as unknown as Model;
  if (role === "snapshot") return Metadata.fromJSON(MetadataKind.Snapshot, value) as unknown as Model;
  return Metadata.fromJSON(MetadataKind.Targets, value) as unknown as Model;
}

function requireSignatures(
  by: RootDocument,
  role: Role,
  document: unknown,
  code: "bad_signature" | "bad_root_rotation" = "bad_signature",
): void {
  try {
    modelOf("root", by).verifyDelegate(role, modelOf(role, document));
  } catch (error) {
    // Whatever it throws means: not verified.
    const why = error instanceof Error ? error.message : "the signatures cannot be read";
    refuse(code, `the ${role} metadata is not signed as root ${by.signed.version} asks: ${why}`);
  }
}

/** One key under two ids would count twice towards a threshold. */
async function requireOwnKeyIds({ signed }: RootDocument): Promise<void> {
  for (const [id, key] of Object.entries(signed.keys))
    if ((await keyIdOf(key)) !== id)
      refuse("bad_root_rotation", `root ${signed.version} has a key under the id ${id}, which is not its own`);
}

function isSameRole(before: RootDocument, next: RootDocument, role: OnlineRole): boolean {
  const [old, now] = [before.signed.roles[role], next.signed.roles[role]];
  return old.threshold === now.threshold && [...old.keyids].sort().join() === [...now.keyids].sort().join();
}

function requireUnexpired(role: Role, expires: string, now: number): void {
  if (Date.parse(expires) > now) return;
  const code = role === "root" ? "root_expired" : "metadata_expired";
  refuse(code, `the ${role} metadata has expired at ${expires}, and the clock says ${isoTime(now)}`);
}

function requireNotLower(role: "snapshot" | "targets", next: NamedFile, before: NamedFile): void {
  if (next.version < before.version)
    refuse("rollback", `${role} ${next.version} is named, and ${before.version} was trusted before`);
}

function requireVersion(role: "snapshot" | "targets", version: number, named: number): void {
  if (version !== named) refuse("mix_and_match", `${named}.${role}.json holds ${role} ${version}`);
}
