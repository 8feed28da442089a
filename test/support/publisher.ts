// A publisher in a test: a key pair, packages made from a manifest, statements signed, releases uploaded over HTTP. Each
// part can be bent, so that a test can send what a liar would send.

import { generateKeyPairSync } from "node:crypto";
import { gzipSync } from "node:zlib";
import { packTar } from "modern-tar";
import { base64, sha256Hex, utf8, type Bytes } from "../../shared/contract/bytes.ts";
import type { SignedBundle } from "../../shared/contract/events.ts";
import {
  releasePredicateType,
  type PackageManifest,
  type PublishedRelease,
} from "../../shared/contract/http-market.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { importSigner, type Signer } from "../../shared/signing/keys.ts";
import { statement } from "../../shared/signing/statement.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Contract } from "./openapi.ts";

export const newSigner = (): Promise<Signer> =>
  importSigner(
    JSON.stringify(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" })),
    "P-256",
  );

export const manifestOf = (name: string, given: Partial<PackageManifest> = {}): PackageManifest => ({
  name,
  version: "1.0.0",
  channel: "stable",
  entry_point: "main.mjs",
  permissions: { read_input: true },
  privacy_units: 0,
  limits: { wall_ms: 10_000, output_bytes: 1_000_000, unpacked_bytes: 1_000_000 },
  changelog: "",
  ...given,
});

export async function tarGz(files: readonly { readonly name: string; readonly text: string }[]): Promise<Bytes> {
  const tar = await packTar(
    files.map(({ name, text }) => ({ header: { name, size: utf8(text).length, type: "file" }, body: text })),
  );
  return new Uint8Array(gzipSync(tar));
}

export const packageOf = (manifest: PackageManifest, main = "console.log('ran')"): Promise<Bytes> =>
  tarGz([
    { name: "maestro.json", text: JSON.stringify(manifest) },
    { name: "main.mjs", text: main },
  ]);

export async function signRelease(signer: Signer, manifest: PackageManifest, artifact: Bytes): Promise<SignedBundle> {
  return await signStatement(
    signer,
    statement({
      subject: [{ name: `${manifest.name}@${manifest.version}`, digest: { sha256: await sha256Hex(artifact) } }],
      predicateType: releasePredicateType,
      predicate: { manifest, artifact_bytes: artifact.length },
    }),
  );
}

let keyCount = 0;
/** An Idempotency-Key that no other call of this process has. */
export const freshKey = (): string => `test-${process.pid}-${Date.now()}-${(keyCount += 1)}`;

export const uploadOf = (
  key: string,
  bundle: unknown,
  artifact: BodyInit,
  idempotencyKey = freshKey(),
): RequestInit => ({
  method: "POST",
  headers: {
    authorization: `Bearer ${key}`,
    "content-type": "application/gzip",
    "idempotency-key": idempotencyKey,
    "maestro-release-bundle": base64(utf8(JSON.stringify(bundle))),
  },
  body: artifact,
});

export const jsonCall = (
  key: string,
  method: string,
  body?: unknown,
  headers: Record<string, string> = {},
): RequestInit => ({
  method,
  headers: {
    authorization: `Bearer ${key}`,
    ...(body === undefined ? {} : { "content-type": "application/json" }),
    ...(method === "POST" ? { "idempotency-key": freshKey() } : {}),
    ...headers,
  },
  ...(body === undefined ? {} : { body: JSON.stringify(body) }),
});

/** For preparations: throws unless the answer has that status. */
export function must<T extends { readonly status: number; readonly json: unknown }>(status: number, answer: T): T {
  if (answer.status !== status) throw new Error(`${answer.status} ${JSON.stringify(answer.json)}`);
  return answer;
}

/** Uploads a release as the tenant's publisher, and has its reviewer approve it. Answers the release, published. */
export async function publishRelease(
  api: Contract,
  { keys }: SeededTenant,
  signer: Signer,
  manifest: PackageManifest,
  given?: Bytes,
): Promise<PublishedRelease> {
  const artifact = given ?? (await packageOf(manifest));
  const bundle = await signRelease(signer, manifest, artifact);
  const uploaded = must(201, await api.fetch("/api/market/releases", uploadOf(keys.publisher, bundle, artifact)));
  const path = `/api/market/reviews/${String(uploaded.json.id)}/approve`;
  const approved = must(200, await api.fetch(path, jsonCall(keys.reviewer, "POST", { reason: "a test" })));
  return approved.json as PublishedRelease;
}

/** A new publisher key, registered for the tenant. */
export async function registeredSigner(api: Contract, { keys }: SeededTenant): Promise<Signer> {
  const signer = await newSigner();
  const spki = base64(signer.spki);
  must(201, await api.fetch("/api/market/publisher-keys", jsonCall(keys.publisher, "POST", { spki })));
  return signer;
}

/** Publishes a package of that price with a key of its own, and entitles and installs it for the same tenant. */
export async function installPackage(
  api: Contract,
  tenant: SeededTenant,
  name: string,
  privacyUnits = 0,
): Promise<void> {
  const { keys } = tenant;
  const signer = await registeredSigner(api, tenant);
  await publishRelease(api, tenant, signer, manifestOf(name, { privacy_units: privacyUnits }));
  const row = { entitlements: [{ package: name, channel: "stable", allowed: true }] };
  must(200, await api.fetch("/api/market/entitlements", jsonCall(keys.admin, "PUT", row)));
  must(201, await api.fetch("/api/market/installs", jsonCall(keys.operator, "POST", { package: name })));
}
