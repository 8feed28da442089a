// A marketplace for tests of `maestro run`: real packages, real signatures, the routes that a run asks; what it got is
// kept for the test to look at.

import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { base64, sha256Hex } from "../../shared/contract/bytes.ts";
import { releasePredicateType, type PackageManifest } from "../../shared/contract/http-market.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { importSigner, type Signer } from "../../shared/signing/keys.ts";
import {
  checkPublisherBundle,
  countersignature,
  pointerStatement,
  type SignedPointer,
} from "../../shared/signing/release.ts";
import { statement } from "../../shared/signing/statement.ts";
import { packFolder } from "../package/archive.ts";
import { testFolder } from "./host.ts";
import { json, problem, testServer, type TestServer } from "./server.ts";

export async function newSigner(): Promise<Signer> {
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  return importSigner(JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey)), "P-256");
}

export const sampleManifest: PackageManifest = {
  name: "tools/sample",
  version: "1.0.0",
  channel: "stable",
  entry_point: "main.mjs",
  permissions: { read_input: true },
  privacy_units: 10,
  limits: { wall_ms: 20_000, output_bytes: 100_000, unpacked_bytes: 100_000 },
  changelog: "",
};

/** A folder with a maestro.json and the files given. */
export function packageFolder(manifest: unknown, files: Record<string, string>): string {
  const folder = testFolder();
  for (const [name, text] of Object.entries({ "maestro.json": JSON.stringify(manifest), ...files })) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

const digits = "0123456789abcdefghjkmnpqrst";
export const idOf = (prefix: string): string => `${prefix}_${digits.slice(0, 26)}`;
export const executionId = idOf("exe");

export interface Market extends TestServer {
  /** Bodies of POST …/finish, in order. */
  readonly finishes: Record<string, unknown>[];
  readonly artifact: Uint8Array<ArrayBuffer>;
  readonly artifactSha256: string;
  /** How many finishes get a 503 first. */
  finishRefusals: number;
  release: Record<string, unknown>;
  /** Where the manifest's channel points. */
  pointer: Record<string, unknown>;
  keys: Record<string, unknown>;
  /** What the API says of a run that it starts, other than what was asked for. */
  startedAs: Record<string, unknown>;
  /** Signs releases and pointers. */
  readonly marketplace: Signer;
}

interface MarketOptions {
  readonly source?: string;
  readonly manifest?: PackageManifest;
  /** Signed instead of `manifest`. */
  readonly signedManifest?: PackageManifest;
  readonly artifact?: Uint8Array<ArrayBuffer>;
  /** Signed as its size, other than it is. */
  readonly signedBytes?: number;
}

export async function signedPointer(signer: Signer, pointer: SignedPointer): Promise<Record<string, unknown>> {
  const bundle = await signStatement(signer, statement(pointerStatement(pointer)));
  return { ...pointer, release_id: idOf("rel"), bundle };
}

export const apiKey = `mk_${"a".repeat(32)}`;

export async function market(options: MarketOptions = {}): Promise<Market> {
  const manifest = options.manifest ?? sampleManifest;
  const source =
    options.source ??
    'import fs from "node:fs"; process.stdout.write("ran on " + fs.readFileSync(process.argv[2], "utf8"));';
  const artifact = options.artifact ?? (await packFolder(packageFolder(manifest, { "main.mjs": source })));
  const [publisher, marketplace] = [await newSigner(), await newSigner()];
  const artifactSha256 = await sha256Hex(artifact);
  const signed = options.signedManifest ?? manifest;
  const publisherBundle = await signStatement(
    publisher,
    statement({
      subject: [{ name: `${signed.name}@${signed.version}`, digest: { sha256: artifactSha256 } }],
      predicateType: releasePredicateType,
      predicate: { manifest: signed, artifact_bytes: options.signedBytes ?? artifact.length },
    }),
  );
  const at = "2026-04-13T16:00:00.000Z";
  const checked = await checkPublisherBundle(publisherBundle, base64(publisher.spki));
  if (!checked.ok) throw new Error(checked.reason);
  const countersigned = await countersignature(publisherBundle, checked.release, at);
  const server = await testServer();
  const made: Market = {
    ...server,
    finishes: [],
    finishRefusals: 0,
    artifact,
    artifactSha256,
    release: {
      id: idOf("rel"),
      package: manifest.name,
      version: manifest.version,
      channel: manifest.channel,
      state: "published",
      artifact_sha256: artifactSha256,
      artifact_bytes: artifact.length,
      units: manifest.privacy_units,
      manifest: signed,
      publisher_bundle: publisherBundle,
      marketplace_bundle: await signStatement(
        marketplace,
        statement({ ...countersigned, predicate: { ...countersigned.predicate } }),
      ),
      publisher_key: base64(publisher.spki),
      uploaded_at: at,
      submitted_at: at,
      reviewed_at: at,
      review_reason: null,
      published_at: at,
      yanked_at: null,
      yank_reason: null,
    },
    pointer: await signedPointer(marketplace, {
      package: manifest.name,
      channel: manifest.channel,
      version: manifest.version,
      sequence: 1,
      moved_at: at,
      artifact_sha256: artifactSha256,
    }),
    marketplace,
    startedAs: {},
    keys: {
      origin_prefix: "maestro.local/log",
      keys: [
        {
          kid: marketplace.kid,
          use: "release",
          algorithm: "ECDSA-P256-SHA256",
          spki: base64(marketplace.spki),
          not_before: at,
        },
      ],
    },
  };
  const running = (input: unknown, install: unknown = "default"): Record<string, unknown> => ({
    id: executionId,
    package: manifest.name,
    version: manifest.version,
    channel: manifest.channel,
    release_id: idOf("rel"),
    release_sha256: artifactSha256,
    install,
    rollout_id: null,
    input_sha256: input,
    units: manifest.privacy_units,
    status: "running",
    exit_code: null,
    output_sha256: null,
    duration_ms: null,
    started_at: at,
    deadline_at: "2026-04-13T16:10:00.000Z",
    finished_at: null,
  });
  server.on("POST /api/executions", (request, response) => {
    const asked = JSON.parse(request.body.toString()) as Record<string, unknown>;
    return json({ ...running(asked["input_sha256"], asked["install"]), ...made.startedAs }, 201)(request, response);
  });
  server.on("GET /api/market/releases", (request, response) => json(made.release)(request, response));
  server.on("GET /api/market/channels", (request, response) => json({ channels: [made.pointer] })(request, response));
  server.on("GET /api/audit/keys", (request, response) => json(made.keys)(request, response));
  server.on(`GET /api/market/artifacts/${artifactSha256}`, (_request, response) => {
    response.writeHead(200, { "content-type": "application/gzip" });
    response.end(artifact);
  });
  server.on(`POST /api/executions/${executionId}/finish`, (request, response) => {
    if (made.finishRefusals > 0) {
      made.finishRefusals -= 1;
      return problem(503, { code: "database_unavailable" }, { "retry-after": "1" })(request, response);
    }
    const body = JSON.parse(request.body.toString()) as Record<string, unknown>;
    made.finishes.push(body);
    const ended = { ...running(null), ...body, status: body["outcome"], finished_at: at, duration_ms: 5 } as Record<
      string,
      unknown
    >;
    delete ended["outcome"];
    return json(ended)(request, response);
  });
  server.on("GET /api/whoami", problem(401, { code: "unauthenticated", title: "Who are you?" }));
  return made;
}
