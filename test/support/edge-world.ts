// A tenant's edge policies with valid signatures, as a publisher writes them into a store, and CDN providers over HTTP that
// serve them, honestly or as a test bends them. Nothing here needs the publishing side to run.

import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { gunzipSync } from "node:zlib";
import { onTestFinished } from "vitest";
import { base64, utf8, type Bytes } from "../../shared/contract/bytes.ts";
import { canonicalJson } from "../../shared/contract/events.ts";
import { makeDelta } from "../../cli/edge/zstd-delta.ts";
import { deltaKey } from "../../shared/edge/serving-path.ts";
import { policyStatement, type SignedPolicy } from "../../shared/edge/statement.ts";
import { documentText, type OnlineRole, type PolicyTarget, type RootDocument } from "../../shared/edge/tuf.ts";
import type { TufSigner } from "../../shared/edge/tuf-keys.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { bundleManifest, bundleOf, bundleParts } from "./bundles.ts";
import { newSigner } from "./publisher.ts";
import { onlineKeys, onlineSigners, rootDocumentOf, rootSigners, writeOnline, type TufFiles } from "./tuf.ts";

export const tenant = "acme";
export const policyPath = "gateway/stable/bundle.tar.gz";
const sha256Of = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

/** Key → bytes, as a provider's store holds them. */
export type Objects = Map<string, Bytes>;

export interface PublishOptions {
  /** Another policy or channel than `gateway/stable`. */
  readonly path?: string;
  /** The bundle's bytes; one that allows `allowed` where they are not given. */
  readonly bundle?: Bytes;
  readonly allowed?: string;
  /** When: metadata lives from then on. */
  readonly now?: number;
  /** Bends what the publisher signs. */
  readonly signed?: Partial<SignedPolicy>;
  /** Bends what the metadata says. */
  readonly target?: (target: PolicyTarget) => PolicyTarget;
  readonly by?: Signer;
  /** The secrets of other online keys than the root names. */
  readonly online?: string;
  /** A bundle that was published before: a delta from it is written and named. */
  readonly deltaFrom?: Bytes;
  /** Bends the delta before it is named: what is signed is the digest of what comes of it. */
  readonly delta?: (delta: Bytes) => Bytes;
}

export interface EdgeWorld {
  /** 1.root.json, as a person would pin it. */
  readonly pin: string;
  readonly publisher: Signer;
  /** SPKI in base64. */
  readonly publisherKey: string;
  /** Everything, as both providers should have it. */
  readonly objects: Objects;
  /** Writes bundle, statement and metadata of the next version. */
  publish(options?: PublishOptions): Promise<{ readonly bundle: Bytes; readonly sha256: string }>;
  /** Signs snapshot and timestamp anew, of the same targets; or all three with those versions, whatever came before. */
  sign(now: number, versions?: Readonly<Record<OnlineRole, number>>): Promise<void>;
  /** The next root, kept by `names` and signed by `by`: by the old and the new keys where it is not given. */
  rotateRoot(options: {
    readonly names: readonly string[];
    readonly threshold?: number;
    readonly by?: readonly string[];
    readonly now?: number;
    /** The secrets of new online keys. */
    readonly online?: string;
  }): Promise<void>;
  /** A copy of what there is now, for a provider that stops here. */
  copy(): Objects;
}

/** `keepers`: names of the root's keys, of which `threshold` have to sign. */
export async function edgeWorld(
  options: { readonly now?: number; readonly keepers?: readonly string[]; readonly threshold?: number } = {},
): Promise<EdgeWorld> {
  const { now: begin = Date.now(), keepers = ["one", "two"], threshold = 2 } = options;
  let online: Record<OnlineRole, TufSigner> = await onlineSigners(tenant);
  let keeperNames = keepers;
  const publisher = await newSigner();
  const objects: Objects = new Map();
  const targets: Record<string, PolicyTarget> = {};
  const versions: Record<OnlineRole, number> = { targets: 0, snapshot: 0, timestamp: 0 };
  let rootVersion = 0;

  async function putRoot(document: RootDocument): Promise<string> {
    const text = documentText(document);
    rootVersion = document.signed.version;
    objects.set(`tuf/${tenant}/${rootVersion}.root.json`, utf8(text));
    return text;
  }
  const pin = await putRoot(
    await rootDocumentOf(onlineKeys(online), { keys: await rootSigners(...keepers), threshold, now: begin }),
  );

  async function write(now: number): Promise<void> {
    const files: TufFiles = new Map();
    await writeOnline(files, online, targets, versions, now);
    for (const [name, text] of files) objects.set(`tuf/${tenant}/${name}`, utf8(text));
  }

  return {
    pin,
    publisher,
    publisherKey: base64(publisher.spki),
    objects,
    async publish(options = {}) {
      const { path = policyPath, allowed = "alice", now = begin, by = publisher } = options;
      const revision = (targets[path]?.custom.revision ?? 0) + 1;
      const version = `r${revision}`;
      const bundle = options.bundle ?? bundleOf(bundleParts({ revision: version }, allowed));
      const tar = tarOf(bundle);
      const said: SignedPolicy = {
        policy: path.split("/")[0]!,
        version,
        bundle_sha256: sha256Of(bundle),
        bundle_bytes: bundle.length,
        tar_sha256: sha256Of(tar),
        tar_bytes: tar.length,
        ...options.signed,
      };
      const statement = utf8(canonicalJson(await signStatement(by, policyStatement(said))));
      const target: PolicyTarget = {
        length: bundle.length,
        hashes: { sha256: sha256Of(bundle) },
        custom: {
          tar_sha256: said.tar_sha256,
          tar_length: said.tar_bytes,
          revision,
          version,
          statement_sha256: sha256Of(statement),
          published_at: new Date(now).toISOString(),
        },
      };
      if (options.deltaFrom !== undefined) {
        const from = new Uint8Array(tarOf(options.deltaFrom));
        const made = (await makeDelta(from, new Uint8Array(tar)))!;
        const delta = options.delta?.(made) ?? made;
        objects.set(deltaKey(tenant, sha256Of(from), said.tar_sha256), delta);
        target.custom.deltas = [{ from: sha256Of(from), bytes: delta.length, sha256: sha256Of(delta) }];
      }
      targets[path] = options.target?.(target) ?? target;
      objects.set(`policies/${tenant}/${target.hashes.sha256}.tar.gz`, bundle);
      objects.set(`statements/${tenant}/${target.custom.statement_sha256}.dsse.json`, statement);
      for (const role of ["targets", "snapshot", "timestamp"] as const) versions[role] += 1;
      if (options.online !== undefined) online = await onlineSigners(tenant, options.online);
      await write(now);
      return { bundle, sha256: target.hashes.sha256 };
    },
    async sign(now, given) {
      if (given === undefined) {
        versions.snapshot += 1;
        versions.timestamp += 1;
      } else Object.assign(versions, given);
      await write(now);
    },
    async rotateRoot({ names, threshold: of = 1, by = [...keeperNames, ...names], now = begin, online: secret }) {
      if (secret !== undefined) online = await onlineSigners(tenant, secret);
      const signers = await rootSigners(...new Set(by));
      const keys = await rootSigners(...names);
      const wish = { version: rootVersion + 1, keys, threshold: of, by: signers, now };
      await putRoot(await rootDocumentOf(onlineKeys(online), wish));
      keeperNames = names;
    },
    copy: () => new Map(objects),
  };
}

/** What is inside; nothing, for bytes that are no gzip: a test signs for those, too. */
function tarOf(bundle: Bytes): Uint8Array {
  try {
    return gunzipSync(bundle);
  } catch {
    return Uint8Array.of(0);
  }
}

/** A gzip of so many zero bytes more than a policy has. */
export const bombOf = (bytes: number): Bytes =>
  bundleOf([
    { name: ".manifest", body: bundleManifest() },
    { name: "app/data.json", body: new Uint8Array(bytes) },
  ]);

/** Answers a request in its own way, and says so; false: as an honest provider. */
export type Fault = (key: string, response: ServerResponse, request: IncomingMessage) => boolean;

export interface TestProvider {
  readonly name: string;
  readonly baseUrl: string;
  /** What it serves; a test may change it, or put another one in its place. */
  objects: Objects;
  fault: Fault | null;
  /** Every key that it was asked for, in order. */
  readonly asked: string[];
  /** How often, of keys that begin so. */
  count(prefix: string): number;
  /** Cuts every connection, and listens no more. */
  stop(): Promise<void>;
}

export const fetcherSecret = "mk_test_fetcher";

function typeOf(key: string): string {
  if (key.startsWith("deltas/")) return "application/zstd";
  return key.startsWith("policies/") ? "application/gzip" : "application/json";
}

export async function startProvider(name: string, objects: Objects): Promise<TestProvider> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const key = (request.url ?? "").slice(1);
    asked.push(key);
    if (provider.fault?.(key, response, request) === true) return;
    const bytes = provider.objects.get(key);
    if (request.headers.authorization !== `Bearer ${fetcherSecret}`) response.writeHead(401).end();
    else if (bytes === undefined) response.writeHead(404, { "content-type": "application/problem+json" }).end("{}");
    else response.writeHead(200, { "content-type": typeOf(key), "content-length": bytes.length }).end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  onTestFinished(stop);
  const provider: TestProvider = {
    name,
    baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    fault: null,
    asked,
    count: (prefix) => asked.filter((key) => key.startsWith(prefix)).length,
    stop,
  };
  return provider;
}
