// /api/market: publisher keys, releases, artifacts, entitlements, installs.

import { createRoute, z } from "@hono/zod-openapi";
import { base64, base64Bytes, hex, hexBytes, sha256 } from "../../../shared/contract/bytes.ts";
import {
  artifactBytesMax,
  entitlementSet,
  entitlementUpsert,
  install,
  installList,
  installRequest,
  publisherKey,
  publisherKeyRequest,
  release,
  type PublisherKey,
} from "../../../shared/contract/http-market.ts";
import { channel, packageName, sha256Digest, version } from "../../../shared/contract/names.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import * as store from "../../../shared/market/release-store.ts";
import { importVerifyKey } from "../../../shared/signing/keys.ts";
import { LostToSameKey } from "../../../shared/tenancy/idempotency.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import type { Call, Door } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { artifactKey } from "../market/artifacts.ts";
import { installRelease } from "../market/install-release.ts";
import { bundleHeader, bundleHeaderMax, publishRelease } from "../market/publish-release.ts";
import { noEntitlements, noRelease } from "../market/refusals.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/publisher-keys",
      summary: "Register a key that signs this tenant's releases",
      request: { body: { content: json(publisherKeyRequest), required: true } },
      responses: { 201: { description: "The key, as registered", content: json(publisherKey) } },
    }),
    action: "publisher_key.add",
    idempotency: "required",
    handler: async (call) => {
      const { spki } = call.input.json;
      const der = spkiBytes(spki);
      if (der === null || (await importVerifyKey(der, "P-256")) === null) {
        throw new Problem("invalid_request", "`spki` is not a P-256 public key.", {
          errors: [{ path: "spki", message: "SubjectPublicKeyInfo DER of a P-256 key, in base64" }],
        });
      }
      return { status: 201, body: await registerKey(call, hex(await sha256(der)), spki) };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/releases",
      summary: "Publish a signed release: the body is the package's tar.gz",
      description:
        "The bundle's statement names the artifact's SHA-256 and size and carries the manifest. The artifact is kept under " +
        "its digest, countersigned by the marketplace, and the manifest's channel points to it from then on.",
      request: {
        headers: z.object({
          [bundleHeader]: z.string().max(bundleHeaderMax).describe("the publisher's Sigstore bundle, JSON in base64"),
        }),
        body: { content: { "application/gzip": { schema: z.string().openapi({ format: "binary" }) } }, required: true },
      },
      responses: { 201: { description: "The release, countersigned", content: json(release) } },
    }),
    action: "release.publish",
    idempotency: "required",
    problems: ["denied", "release_exists", "release_invalid", "too_large"],
    stream: { bytesMax: artifactBytesMax, fingerprintHeaders: [bundleHeader] },
    handler: async (call) => ({ status: 201, body: await publishRelease(call) }),
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/releases",
      summary: "One release of a package: by version, or where a channel points",
      request: {
        query: z
          .strictObject({ package: packageName, version: version.optional(), channel: channel.optional() })
          .refine((query) => query.version === undefined || query.channel === undefined, {
            message: "give `version` or `channel`, not both",
          }),
      },
      responses: { 200: { description: "The release, with both signatures", content: json(release) } },
    }),
    action: "release.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => {
      const { package: name, version: wanted, channel: from } = call.input.query;
      const by = wanted === undefined ? { channel: from ?? "stable" } : { version: wanted };
      const found = await store.readRelease(call.parts.database, call.caller.tenant_id, name, by);
      if (found === null) throw noRelease();
      return { status: 200, body: found };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/artifacts/{sha256}",
      summary: "The bytes of an installed release",
      request: { params: z.strictObject({ sha256: sha256Digest }) },
      responses: {
        200: {
          description: "The package's tar.gz",
          content: { "application/gzip": { schema: z.string().openapi({ format: "binary" }) } },
        },
      },
    }),
    action: "artifact.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async (call) => {
      const { sha256: digest } = call.input.params;
      const { database, artifacts } = call.parts;
      const may = await store.mayFetchArtifact(database, call.caller.tenant_id, digest);
      const object = may ? await artifacts.get(artifactKey(digest)) : null;
      if (object === null) throw new Problem("not_found", "There is no such artifact among your installs.");
      return {
        status: 200,
        body: object.body,
        headers: {
          "content-type": "application/gzip",
          "content-length": String(object.size),
          "repr-digest": `sha-256=:${base64(hexBytes(digest))}:`,
        },
      };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/entitlements",
      summary: "Get tenant entitlements",
      responses: { 200: { description: "The whole set, with its version as ETag", content: json(entitlementSet) } },
    }),
    action: "entitlement.read",
    idempotency: "none",
    headersOf: etagOf,
    handler: async (call) => {
      const listed = await call.parts.entitlements(call.caller.tenant_id).list();
      if (listed.state === "unavailable") throw noEntitlements();
      return { status: 200, body: listed.set };
    },
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/market/entitlements",
      summary: "Upsert tenant entitlements",
      request: {
        headers: z.object({
          "if-match": z.string().optional().describe("the ETag that you saw; 412 where it is not current"),
        }),
        body: { content: json(entitlementUpsert), required: true },
      },
      responses: { 200: { description: "The whole set after the change", content: json(entitlementSet) } },
    }),
    action: "entitlement.write",
    idempotency: "optional",
    problems: ["version_conflict"],
    headersOf: etagOf,
    handler: async (call) => {
      const names = call.input.json.entitlements.map((row) => row.package);
      if (new Set(names).size !== names.length) {
        throw new Problem("invalid_request", "A package is named twice.", {
          errors: [{ path: "entitlements", message: "each package at most once" }],
        });
      }
      const result = await call.parts.entitlements(call.caller.tenant_id).put({
        upsert: call.input.json,
        principal_id: call.caller.principal_id,
        claim: call.claim,
        if_version: ifVersion(call.request.headers.get("if-match")),
      });
      if (result.state === "unavailable") throw noEntitlements();
      if (result.state === "lost_to_same_key") throw new LostToSameKey();
      if (result.state === "version_conflict") {
        throw new Problem("version_conflict", `The set is at version ${result.version} now.`, {
          version: result.version,
        });
      }
      call.parts.nudgeDrain(call.caller.tenant_id);
      return { status: 200, body: result.set };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/market/installs",
      summary: "What this tenant has installed",
      responses: { 200: { description: "Installs by package name", content: json(installList) } },
    }),
    action: "install.read",
    idempotency: "none",
    handler: async (call) => ({
      status: 200,
      body: { installs: await store.listInstalls(call.parts.database, call.caller.tenant_id) },
    }),
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/market/installs",
      summary: "Install the release that a channel points to",
      request: { body: { content: json(installRequest), required: true } },
      responses: { 201: { description: "The install", content: json(install) } },
    }),
    action: "install.write",
    idempotency: "required",
    problems: ["denied", "not_found", "release_invalid"],
    handler: async (call) => ({ status: 201, body: await installRelease(call, call.input.json) }),
  });
}

/** A key that is there already is answered as it is: registering it again changes nothing. */
async function registerKey(
  call: Pick<Call, "parts" | "caller" | "claim" | "now">,
  keyId: string,
  spki: string,
): Promise<PublisherKey> {
  const { parts, now } = call;
  const { tenant_id: tenantId } = call.caller;
  const claim = call.claim!;
  const key = { key_id: keyId, spki, created_at: new Date(now).toISOString(), revoked_at: null };
  const event = newEvent(eventContext(call), "mc.publisher_key.added", { publisher_key_id: keyId });
  if (await store.insertPublisherKey(parts.database, tenantId, parts.shards, key, event, claim, now)) {
    parts.nudgeDrain(tenantId);
    return key;
  }
  const existing = await store.readPublisherKey(parts.database, tenantId, keyId);
  if (existing === null) throw new Error("a publisher key is neither new nor there");
  await store.remember(parts.database, tenantId, claim, now, existing);
  return existing;
}

function spkiBytes(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return base64Bytes(text);
  } catch {
    return null;
  }
}

function ifVersion(header: string | null): number | null {
  if (header === null || header === "*") return null;
  const match = /^"v(\d{1,15})"$/.exec(header);
  // An ETag that is none of ours was never current.
  return match === null ? -1 : Number(match[1]);
}

function etagOf(body: unknown): Record<string, string> {
  return { etag: `"v${entitlementSet.parse(body).version}"` };
}
