// A TUF repository in memory, as our own code writes it, and a stock tuf-js over it: for tests of what is written and of
// whom else it convinces.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createHash } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BaseFetcher, Updater } from "tuf-js";
import { DownloadHTTPError } from "tuf-js/dist/error.js";
import { onTestFinished } from "vitest";
import { utf8, type Bytes } from "../../shared/contract/bytes.ts";
import {
  documentText,
  onlineRoles,
  rootOf,
  snapshotOf,
  targetsOf,
  timestampOf,
  type OnlineRole,
  type OnlineSigned,
  type RootDocument,
  type RootSigned,
  type TargetsSigned,
  type TufKey,
} from "../../shared/edge/tuf.ts";
import { tenantSigner, tufSignerOf, type TufSigner } from "../../shared/edge/tuf-keys.ts";

export const seedOf = (name: string): Bytes => new Uint8Array(createHash("sha256").update(name).digest());

/** The signers of one tenant under the secrets that `name` stands for. */
export async function onlineSigners(tenantId: string, name = "secret"): Promise<Record<OnlineRole, TufSigner>> {
  const [targets, snapshot, timestamp] = await Promise.all(
    onlineRoles.map((role) => tenantSigner(seedOf(`${name} ${role}`), role, tenantId)),
  );
  return { targets: targets!, snapshot: snapshot!, timestamp: timestamp! };
}

export const onlineKeys = (signers: Readonly<Record<OnlineRole, TufSigner>>): Record<OnlineRole, TufKey> => ({
  targets: signers.targets.key,
  snapshot: signers.snapshot.key,
  timestamp: signers.timestamp.key,
});

export const rootSigners = (...names: readonly string[]): Promise<TufSigner[]> =>
  Promise.all(names.map((name) => tufSignerOf(seedOf(`root ${name}`))));

export async function signedText(signed: RootSigned | OnlineSigned, ...signers: readonly TufSigner[]): Promise<string> {
  return documentText({ signed, signatures: await Promise.all(signers.map((signer) => signer.sign(signed))) });
}

export interface RootWish {
  readonly version?: number;
  readonly keys: readonly TufSigner[];
  readonly threshold?: number;
  /** Who signs, where it is not the root's own keys. */
  readonly by?: readonly TufSigner[];
  readonly now: number;
}

export async function rootDocumentOf(
  online: Readonly<Record<OnlineRole, TufKey>>,
  { version = 1, keys, threshold = 1, by = keys, now }: RootWish,
): Promise<RootDocument> {
  const signed = await rootOf({ version, root: keys.map(({ key }) => key), threshold, online }, now);
  return { signed, signatures: await Promise.all(by.map((signer) => signer.sign(signed))) };
}

/** Files under `tuf/`, by name: `1.root.json`, `timestamp.json`, … */
export type TufFiles = Map<string, string>;

/** Writes targets, snapshot and timestamp of those versions, each signed by its role's key. */
export async function writeOnline(
  files: TufFiles,
  signers: Readonly<Record<OnlineRole, TufSigner>>,
  targets: TargetsSigned["targets"],
  versions: Readonly<Record<OnlineRole, number>>,
  now: number,
): Promise<void> {
  const targetsText = await signedText(targetsOf(versions.targets, targets, now), signers.targets);
  const snapshot = await snapshotOf(versions.snapshot, { version: versions.targets, text: targetsText }, now);
  const snapshotText = await signedText(snapshot, signers.snapshot);
  const timestamp = await timestampOf(versions.timestamp, { version: versions.snapshot, text: snapshotText }, now);
  files.set(`${versions.targets}.targets.json`, targetsText);
  files.set(`${versions.snapshot}.snapshot.json`, snapshotText);
  files.set("timestamp.json", await signedText(timestamp, signers.timestamp));
}

/** Reads `tuf/NAME` by what `read` says; null is a 404. */
class MapFetcher extends BaseFetcher {
  readonly #read: (name: string) => string | null | Promise<string | null>;

  constructor(read: (name: string) => string | null | Promise<string | null>) {
    super();
    this.#read = read;
  }

  override async fetch(url: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const text = await this.#read(url.slice(url.lastIndexOf("/") + 1));
    if (text === null) throw new DownloadHTTPError("Failed to download", 404);
    return new Blob([utf8(text)]).stream();
  }
}

/** Reads a provider over HTTP as a TUF client does: metadata by name, a target by the digest before its last segment. */
class HttpFetcher extends BaseFetcher {
  readonly #urlOf: (path: string) => string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor(urlOf: (path: string) => string, headers: Readonly<Record<string, string>>) {
    super();
    this.#urlOf = urlOf;
    this.#headers = headers;
  }

  override async fetch(url: string): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    const response = await fetch(this.#urlOf(new URL(url).pathname), { headers: this.#headers });
    if (response.status === 200 && response.body !== null) return response.body;
    await response.body?.cancel();
    throw new DownloadHTTPError("Failed to download", response.status);
  }
}

/**
 * A stock client over HTTP that trusts `root`. `urlOf` is told `/metadata/NAME` and `/targets/PATH`, and says where that is; `headers` go
 * with each request.
 */
export function tufHttpClient(
  root: string,
  urlOf: (path: string) => string,
  headers: Readonly<Record<string, string>>,
) {
  const folder = mkdtempSync(join(tmpdir(), "tuf-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "root.json"), root);
  return {
    /** Refreshes anew, downloads the target of that path and answers its bytes. Throws what tuf-js throws. */
    async download(path: string): Promise<Uint8Array> {
      const fetcher = new HttpFetcher(urlOf, headers);
      const updater = new Updater({
        metadataDir: folder,
        metadataBaseUrl: "http://tuf/metadata",
        targetDir: folder,
        targetBaseUrl: "http://tuf/targets",
        fetcher,
      });
      await updater.refresh();
      const info = await updater.getTargetInfo(path);
      if (info === undefined) throw new Error(`no target ${path}`);
      return readFileSync(await updater.downloadTarget(info, join(folder, "bundle")));
    },
  };
}

/** A stock client that trusts `root`, and remembers what it has seen between its refreshes, as one on a disk does. */
export function tufClient(root: string, read: (name: string) => string | null | Promise<string | null>) {
  const folder = mkdtempSync(join(tmpdir(), "tuf-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, "root.json"), root);
  return {
    /** Refreshes anew; answers the target of that path, or null. Throws what tuf-js throws. */
    async target(path: string) {
      const fetcher = new MapFetcher(read);
      const updater = new Updater({ metadataDir: folder, metadataBaseUrl: "http://tuf", fetcher });
      await updater.refresh();
      return (await updater.getTargetInfo(path)) ?? null;
    },
  };
}
