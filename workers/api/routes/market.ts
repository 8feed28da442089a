// /api/market: publisher keys, releases, artifacts.

import { createRoute, z } from "@hono/zod-openapi";
import { base64, base64Bytes, hex, hexBytes, sha256 } from "../../../shared/contract/bytes.ts";
import {
  artifactBytesMax,
  publisherKey,
  publisherKeyRequest,
  release,
  type PublisherKey,
} from "../../../shared/contract/http-market.ts";
import { channel, packageName, sha256Digest, version } from "../../../shared/contract/names.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import * as store from "../../../shared/market/release-store.ts";
import { importVerifyKey } from "../../../shared/signing/keys.ts";
import { newEvent } from "../../../shared/outbox/outbox.ts";
import { rememberOnly } from "../../../shared/tenancy/idempotency.ts";
import type { Call, Door } from "../door.ts";
import { eventContext } from "../event-context.ts";
import { artifactKey } from "../market/artifacts.ts";
import { bundleHeader, bundleHeaderMax, draftHeader, publishRelease } from "../market/publish-release.ts";
import { noRelease } from "../market/refusals.ts";

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
      summary: "Upload a signed release for review: the body is the package's tar.gz",
      description:
        "The bundle's statement names the artifact's SHA-256 and size and carries the manifest. Every entry of the archive " +
        "is looked at, the artifact is kept under its digest. Once a reviewer approves it, the marketplace countersigns " +
        "it, and the manifest's channel points to it, if it is newer than what the channel points to.",
      request: {
        headers: z.object({
          [bundleHeader]: z.string().max(bundleHeaderMax).describe("the publisher's Sigstore bundle, JSON in base64"),
          [draftHeader]: z
            .enum(["true", "false"])
            .optional()
            .describe("`true`: keep it as a draft, to submit it later"),
        }),
        body: { content: { "application/gzip": { schema: z.string().openapi({ format: "binary" }) } }, required: true },
      },
      responses: { 201: { description: "The release, a draft or in review", content: json(release) } },
    }),
    action: "release.publish",
    idempotency: "required",
    problems: ["denied", "release_exists", "release_invalid", "too_large"],
    stream: { bytesMax: artifactBytesMax, fingerprintHeaders: [bundleHeader, draftHeader] },
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
      responses: { 200: { description: "The release, with its signatures", content: json(release) } },
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
      summary: "The bytes of a release: installed now or before, published by you, or in your review",
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
      if (object === null)
        throw new Problem("not_found", "There is no such artifact among your installs and releases.");
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
  await rememberOnly(parts.database, claim, now, { status: 201, response: existing });
  return existing;
}

function spkiBytes(text: string): Uint8Array<ArrayBuffer> | null {
  try {
    return base64Bytes(text);
  } catch {
    return null;
  }
}
