// TUF metadata, as the publisher writes it and as every reader knows it: the four roles' documents, their shapes, their
// lives, their bytes. Called by publisher.ts, by the signer worker (which signs nothing else) and by `maestro policy root`.
// https://theupdateframework.github.io/specification/v1.0.33/ (docs/adr/ADR-1224-edge-trust.md says why not a library.)

import { z } from "@hono/zod-openapi";
import { sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import { canonicalJson } from "../contract/events.ts";
import { bundleBytes, policyName, policyVersion, tarBytes } from "../contract/http-policies.ts";
import { channel, sha256Digest, timestamp, type Channel } from "../contract/names.ts";
import { namedDeltas } from "./delta.ts";

const specVersion = "1.0.33";
const hourMs = 3_600_000;
const dayMs = 24 * hourMs;

/** How long what is signed is good for. A reader that gets nothing newer goes on for so long, and then refuses. */
export const lifeMs = {
  root: 365 * dayMs,
  targets: 90 * dayMs,
  snapshot: 14 * dayMs,
  timestamp: 24 * hourMs,
} as const;

/** The roles whose keys the signer worker holds. */
export const onlineRoles = ["targets", "snapshot", "timestamp"] as const;
export type OnlineRole = (typeof onlineRoles)[number];

/** Policies times channels of one tenant. */
export const targetsMax = 1_000;
/** Keys of the root role, and of each of the others. */
export const roleKeysMax = 16;

const keyId = sha256Digest;
const version = z
  .int()
  .min(1)
  .max(2 ** 40);
const length = z.int().min(1);
/** TUF's times have no milliseconds. */
const expires = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/, "a time in UTC to the second")
  .refine((text) => timestamp.safeParse(text.replace("Z", ".000Z")).success, "there is no such time");

export const tufKey = z
  .strictObject({
    keytype: z.literal("ed25519"),
    scheme: z.literal("ed25519"),
    keyval: z.strictObject({ public: z.string().regex(/^[0-9a-f]{64}$/, "32 bytes in lower-case hex") }),
  })
  .openapi("TufKey");
export type TufKey = z.infer<typeof tufKey>;

const tufRole = z
  .strictObject({ keyids: z.array(keyId).min(1).max(roleKeysMax), threshold: z.int().min(1).max(roleKeysMax) })
  .refine(({ keyids }) => new Set(keyids).size === keyids.length, "a key counts once: the same id stands twice")
  .refine(({ keyids, threshold }) => threshold <= keyids.length, "the threshold is more than the keys");

const common = { spec_version: z.literal(specVersion), version, expires };
const fileOf = z.strictObject({ version, length, hashes: z.strictObject({ sha256: sha256Digest }) });

export const rootSigned = z.strictObject({
  _type: z.literal("root"),
  ...common,
  consistent_snapshot: z.literal(true),
  // More than any role can name would make it a root that no fetcher reads, and none could follow it.
  keys: z.record(keyId, tufKey).refine((keys) => Object.keys(keys).length <= 4 * roleKeysMax, "too many keys"),
  roles: z.strictObject({ root: tufRole, targets: tufRole, snapshot: tufRole, timestamp: tufRole }),
});
export type RootSigned = z.infer<typeof rootSigned>;

const policyTarget = z.strictObject({
  length: bundleBytes,
  hashes: z.strictObject({ sha256: sha256Digest }),
  custom: z.strictObject({
    tar_sha256: sha256Digest,
    tar_length: tarBytes,
    revision: z.int().min(1),
    version: policyVersion,
    statement_sha256: sha256Digest,
    published_at: timestamp,
    deltas: namedDeltas.optional(),
  }),
});
export type PolicyTarget = z.infer<typeof policyTarget>;

/** Where a policy's channel stands among the targets: `{name}/{channel}/bundle.tar.gz`. */
export const targetPath = (policy: string, on: Channel): string => `${policy}/${on}/bundle.tar.gz`;

const targetPathShape = z
  .string()
  .refine((path) => parseTargetPath(path) !== null, "a path is NAME/CHANNEL/bundle.tar.gz");

export function parseTargetPath(path: string): { readonly policy: string; readonly channel: Channel } | null {
  const [policy, on, file, ...more] = path.split("/");
  const parsed = channel.safeParse(on);
  if (file !== "bundle.tar.gz" || more.length > 0 || !parsed.success || !policyName.safeParse(policy).success)
    return null;
  return { policy: policy!, channel: parsed.data };
}

export const targetsSigned = z.strictObject({
  _type: z.literal("targets"),
  ...common,
  targets: z
    .record(targetPathShape, policyTarget)
    .refine((targets) => Object.keys(targets).length <= targetsMax, `at most ${targetsMax} targets`),
});
export type TargetsSigned = z.infer<typeof targetsSigned>;

export const snapshotSigned = z.strictObject({
  _type: z.literal("snapshot"),
  ...common,
  meta: z.strictObject({ "targets.json": fileOf }),
});
export type SnapshotSigned = z.infer<typeof snapshotSigned>;

export const timestampSigned = z.strictObject({
  _type: z.literal("timestamp"),
  ...common,
  meta: z.strictObject({ "snapshot.json": fileOf }),
});
export type TimestampSigned = z.infer<typeof timestampSigned>;

export const onlineSigned = z.discriminatedUnion("_type", [targetsSigned, snapshotSigned, timestampSigned]);
export type OnlineSigned = z.infer<typeof onlineSigned>;

export const tufSignature = z.strictObject({
  keyid: keyId,
  sig: z.string().regex(/^[0-9a-f]{128}$/, "64 bytes in lower-case hex"),
});
export type TufSignature = z.infer<typeof tufSignature>;

const signatures = z
  .array(tufSignature)
  .min(1)
  .max(2 * roleKeysMax);
const exampleId = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const exampleRole = { keyids: [exampleId], threshold: 1 };
export const rootDocument = z.strictObject({ signatures, signed: rootSigned }).openapi("TufRoot", {
  example: {
    signatures: [{ keyid: exampleId, sig: "0".repeat(128) }],
    signed: {
      _type: "root",
      spec_version: specVersion,
      version: 1,
      expires: "2027-04-13T16:00:00Z",
      consistent_snapshot: true,
      keys: { [exampleId]: { keytype: "ed25519", scheme: "ed25519", keyval: { public: "0".repeat(64) } } },
      roles: { root: exampleRole, targets: exampleRole, snapshot: exampleRole, timestamp: exampleRole },
    },
  },
});
export type RootDocument = z.infer<typeof rootDocument>;

export interface TufDocument<S> {
  readonly signatures: readonly TufSignature[];
  readonly signed: S;
}

/**
 * The bytes that are signed. TUF signs OLPC's canonical JSON and we write RFC 8785: for the printable ASCII and the whole
 * numbers that the shapes above admit, the two are one, and a test against a foreign reader holds them together.
 */
export const signedBytes = (signed: RootSigned | OnlineSigned): Bytes => utf8(canonicalJson(signed));

/** A document as it lies in a store: one text for one document. */
export const documentText = (document: TufDocument<RootSigned | OnlineSigned>): string => canonicalJson(document);

export const keyIdOf = (key: TufKey): Promise<string> => sha256Hex(utf8(canonicalJson(key)));

/** `2026-04-13T16:00:00Z`: never later than `life` from `now`. */
export const expiryOf = (now: number, role: keyof typeof lifeMs): string =>
  `${new Date(now + lifeMs[role]).toISOString().slice(0, 19)}Z`;

/** Whether a third of the life has passed that a document of that role began with. */
export const isDueAgain = (expiresAt: string, role: keyof typeof lifeMs, now: number): boolean =>
  now >= Date.parse(expiresAt) - (lifeMs[role] * 2) / 3;

export function targetsOf(versionNow: number, targets: TargetsSigned["targets"], now: number): TargetsSigned {
  return {
    _type: "targets",
    spec_version: specVersion,
    version: versionNow,
    expires: expiryOf(now, "targets"),
    targets,
  };
}

/** `targets`: the signed document that it names, as it lies in a store. */
export async function snapshotOf(
  versionNow: number,
  targets: { readonly version: number; readonly text: string },
  now: number,
): Promise<SnapshotSigned> {
  const meta = { "targets.json": await namedFile(targets) };
  return {
    _type: "snapshot",
    spec_version: specVersion,
    version: versionNow,
    expires: expiryOf(now, "snapshot"),
    meta,
  };
}

export async function timestampOf(
  versionNow: number,
  snapshot: { readonly version: number; readonly text: string },
  now: number,
): Promise<TimestampSigned> {
  const meta = { "snapshot.json": await namedFile(snapshot) };
  return {
    _type: "timestamp",
    spec_version: specVersion,
    version: versionNow,
    expires: expiryOf(now, "timestamp"),
    meta,
  };
}

async function namedFile({ version: versionNow, text }: { readonly version: number; readonly text: string }) {
  const bytes = utf8(text);
  return { version: versionNow, length: bytes.length, hashes: { sha256: await sha256Hex(bytes) } };
}

export interface RootParts {
  readonly version: number;
  /** Keys of the root role itself. */
  readonly root: readonly TufKey[];
  readonly threshold: number;
  readonly online: Readonly<Record<OnlineRole, TufKey>>;
}

/** Throws ZodError where the parts make no valid root: a defect of the caller. */
export async function rootOf(
  { version: versionNow, root, threshold, online }: RootParts,
  now: number,
): Promise<RootSigned> {
  const keys: Record<string, TufKey> = {};
  const add = async (key: TufKey): Promise<string> => {
    const id = await keyIdOf(key);
    keys[id] = key;
    return id;
  };
  const roles = {
    root: { keyids: await Promise.all(root.map(add)), threshold },
    targets: { keyids: [await add(online.targets)], threshold: 1 },
    snapshot: { keyids: [await add(online.snapshot)], threshold: 1 },
    timestamp: { keyids: [await add(online.timestamp)], threshold: 1 },
  };
  return rootSigned.parse({
    _type: "root",
    spec_version: specVersion,
    version: versionNow,
    expires: expiryOf(now, "root"),
    consistent_snapshot: true,
    keys,
    roles,
  });
}
