// A tenant's policies as they stand in a provider's store, without the publishing side: valid shapes of TUF metadata, bundles,
// statements and deltas, unsigned, since serving checks no signature. Used by test/contract/edge-serving.test.ts.

import { createHash, randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { mintApiKey } from "../../shared/tenancy/api-key.ts";
import type { EdgeStoreHandle } from "./stack.ts";

export const sha256Of = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export interface Bundle {
  readonly bytes: Uint8Array;
  readonly digest: string;
}

/** Bytes that look like a tar.gz and compress to about `size`. */
export function bundleOf(size = 2_000): Bundle {
  const bytes = new Uint8Array(gzipSync(randomBytes(size)));
  return { bytes, digest: sha256Of(bytes) };
}

const json = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
const signed = (body: Record<string, unknown>): Uint8Array =>
  json({ signed: { spec_version: "1.0.31", ...body }, signatures: [] });

export interface Revision {
  readonly version: number;
  /** `name/channel` → bundle. */
  readonly channels: Readonly<Record<string, Bundle>>;
  readonly expires?: string;
}

/** The files of one revision, in the order of writing: the timestamp comes last. */
export function filesOf(tenant: string, { version, channels, expires = "2999-01-01T00:00:00Z" }: Revision) {
  const files: [key: string, bytes: Uint8Array][] = [];
  for (const { bytes, digest } of Object.values(channels)) files.push([`policies/${tenant}/${digest}.tar.gz`, bytes]);
  const targets = signed({
    _type: "targets",
    version,
    expires,
    targets: Object.fromEntries(
      Object.entries(channels).map(([channel, { bytes, digest }]) => [
        `${channel}/bundle.tar.gz`,
        { length: bytes.length, hashes: { sha256: digest }, custom: { revision: version } },
      ]),
    ),
  });
  const snapshot = signed({
    _type: "snapshot",
    version,
    expires,
    meta: { "targets.json": { version, length: targets.length, hashes: { sha256: sha256Of(targets) } } },
  });
  const timestamp = signed({
    _type: "timestamp",
    version,
    expires,
    meta: { "snapshot.json": { version, length: snapshot.length, hashes: { sha256: sha256Of(snapshot) } } },
  });
  files.push([`tuf/${tenant}/${version}.targets.json`, targets]);
  files.push([`tuf/${tenant}/${version}.snapshot.json`, snapshot]);
  files.push([`tuf/${tenant}/timestamp.json`, timestamp]);
  return files;
}

export async function publish(store: EdgeStoreHandle, tenant: string, revision: Revision): Promise<void> {
  for (const [key, bytes] of filesOf(tenant, revision)) await store.put(key, bytes);
}

/** A key that may read the tenant's policies. Answers it with where its file is. */
export async function mintFetcher(
  store: EdgeStoreHandle,
  tenant: string,
  expiresAt: string | null = null,
): Promise<{ readonly key: string; readonly file: string }> {
  const { key, secret_sha256 } = await mintApiKey(randomBytes(32));
  const file = `fetchers/${secret_sha256}.json`;
  await store.put(file, json({ fetcher_id: "pri_fixture", tenant, expires_at: expiresAt }));
  return { key, file };
}
