// /api/policies: edge policies, their channels, and the root of trust. app.ts registers them at the door.

import { createRoute, z } from "@hono/zod-openapi";
import { base64, hex, hexBytes } from "../../../shared/contract/bytes.ts";
import {
  bundleBytesMax,
  policy,
  policyChanged,
  policyDelta,
  policyList,
  policyName,
  policyPromotion,
  policyRemoved,
  policyRollback,
  type PolicyChanged,
} from "../../../shared/contract/http-policies.ts";
import { channel, sha256Digest, type Channel } from "../../../shared/contract/names.ts";
import { Problem, type ProblemCode } from "../../../shared/contract/problems.ts";
import type { PolicyChange } from "../../../shared/edge/change.ts";
import { deltaBytesMax } from "../../../shared/edge/delta.ts";
import { noteRepository } from "../../../shared/edge/store.ts";
import type { PublisherCall, Refused } from "../../../shared/edge/service.ts";
import { policyKeys, policyRootPut, publishersMax } from "../../../shared/edge/answers.ts";
import { rootDocument } from "../../../shared/edge/tuf.ts";
import { publisherKeysOf } from "../../../shared/market/release-store.ts";
import { claimDigest, rememberOnly } from "../../../shared/tenancy/idempotency.ts";
import type { Call, Door } from "../door.ts";
import { errorFacts } from "../middleware/problem.ts";
import { deltaBytesHeader, deltaSha256Header, keepDelta, openPublished } from "../policies/policy-deltas.ts";
import { channelHeader, keepPolicy, statementHeader, statementHeaderMax } from "../policies/publish-policy.ts";

const tags = ["policies"];
const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const byName = z.strictObject({ name: policyName });
const changeProblems: readonly ProblemCode[] = [
  "not_found",
  "policy_root_missing",
  "policy_keys_changed",
  "policy_unavailable",
  "policy_too_many",
];

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/policies",
      tags,
      summary: "List the tenant's policies, and what each CDN provider has",
      responses: { 200: { description: "The policies, by name", content: json(policyList) } },
    }),
    action: "policy.read",
    idempotency: "none",
    handler: async ({ parts, caller }) => {
      const { root, policies, providers, signing } = await parts.publisher(caller.tenant_id).view();
      const told = root === null ? null : { version: root.signed.version, expires: root.signed.expires };
      return { status: 200, body: { root: told, signing, policies: [...policies], providers: [...providers] } };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/policies/keys",
      tags,
      summary: "The public keys that sign this tenant's metadata and policies, and the root in force",
      description:
        "For whoever makes the next root (`maestro policy root init|rotate`), and for what a fetcher pins (`show`).",
      responses: { 200: { description: "The keys", content: json(policyKeys) } },
    }),
    action: "policy.read",
    idempotency: "none",
    problems: ["policy_unavailable"],
    handler: async ({ parts, caller }) => {
      const { root } = await parts.publisher(caller.tenant_id).view();
      const keys = await parts.tufSigner.tufKeys(caller.tenant_id).catch((error: unknown) => {
        parts.log("error", "the signer did not tell its keys: look at the signer worker", {
          tenant_id: caller.tenant_id,
          ...errorFacts(error),
        });
        throw new Problem("policy_unavailable", "The signer did not tell its keys.");
      });
      const registered = await publisherKeysOf(parts.database, caller.tenant_id, publishersMax);
      const publishers = registered.map(({ key_id, spki, created_at }) => ({ key_id, spki, created_at }));
      return { status: 200, body: { tenant: caller.tenant, keys, root, publishers } };
    },
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/policies/root",
      tags,
      summary: "Put the first root of trust, or the next one",
      description:
        "A signed TUF root. It is made and signed where its keys are, which is not here. The next one is one version on, " +
        "and signed by enough keys of the one in force and by enough of its own. Sending the root in force again changes nothing.",
      request: { body: { required: true, content: json(rootDocument) } },
      responses: { 200: { description: "The root in force", content: json(policyRootPut) } },
    }),
    action: "policy.root",
    idempotency: "optional",
    decision: "before_the_change",
    problems: ["policy_root_invalid", "policy_keys_changed", "policy_unavailable"],
    handler: async (call) => {
      const { parts, caller, now, input } = call;
      // First: a publisher without its row would sign nothing again once its alarm was lost.
      await noteRepository(parts.database, caller.tenant_id, now);
      const done = await parts.publisher(caller.tenant_id).putRoot(await callOf(call), caller.tenant, input.json);
      if (!done.ok) throw refusal(done);
      const body = { version: done.version, expires: done.expires, providers: [...done.providers] };
      if (call.claim !== null) await rememberOnly(parts.database, call.claim, now, { status: 200, response: body });
      return { status: 200, body };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/policies/{name}",
      tags,
      summary: "One policy: its channels, its revisions, what each CDN provider has",
      request: { params: byName },
      responses: { 200: { description: "The policy", content: json(policy) } },
    }),
    action: "policy.read",
    idempotency: "none",
    problems: ["not_found"],
    handler: async ({ parts, caller, input }) => {
      const found = await parts.publisher(caller.tenant_id).policy(input.params.name);
      if (found === null) throw new Problem("not_found", "There is no such policy.");
      const { name, channels, revisions, providers } = found;
      return { status: 200, body: { name, channels, revisions: [...revisions], providers: [...providers] } };
    },
  });

  door.route({
    route: createRoute({
      method: "delete",
      path: "/api/policies/{name}",
      tags,
      summary: "Remove a policy: new metadata names it no more",
      description:
        "Fetchers refuse to activate it from then on. What was signed before is believed until it expires. A policy of that name may be " +
        "published again; its revisions go on counting, and a version that had bytes is not given to others.",
      request: { params: byName },
      responses: { 200: { description: "What it had last", content: json(policyRemoved) } },
    }),
    action: "policy.remove",
    idempotency: "optional",
    decision: "before_the_change",
    problems: ["not_found", "policy_root_missing", "policy_keys_changed", "policy_unavailable"],
    handler: async (call) => {
      const { parts, caller, claim, now, input } = call;
      const done = await parts.publisher(caller.tenant_id).remove(await callOf(call), input.params.name);
      if (!done.ok) throw refusal(done);
      const body = { ...done.removal, providers: [...done.providers] };
      if (claim !== null) await rememberOnly(parts.database, claim, now, { status: 200, response: body });
      return { status: 200, body };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/policies/{name}/bundles",
      tags,
      summary: "Publish a signed OPA bundle on a channel: the body is its tar.gz",
      description:
        "The statement names the SHA-256 of the tar.gz and of the tar inside, and is signed with a registered publisher key. " +
        "Every entry is looked at; bundle and statement are kept under their digests. Then the tenant's metadata is signed, " +
        "and both CDN providers get it: `providers` tells what each has. Publishing what the channel has changes nothing.",
      request: {
        params: byName,
        headers: z.object({
          [statementHeader]: z
            .string()
            .max(statementHeaderMax)
            .describe("the publisher's Sigstore bundle, JSON in base64"),
          [channelHeader]: channel.optional().describe("`stable` where it is not given"),
        }),
        body: { content: { "application/gzip": { schema: z.string().openapi({ format: "binary" }) } }, required: true },
      },
      responses: { 201: { description: "The revision that the channel has now", content: json(policyChanged) } },
    }),
    action: "policy.publish",
    idempotency: "required",
    decision: "before_the_change",
    problems: [...changeProblems, "policy_invalid", "policy_version_taken", "too_large"],
    stream: { bytesMax: bundleBytesMax, fingerprintHeaders: [statementHeader, channelHeader] },
    handler: async (call) => {
      const on = parseChannel(call.request.headers.get(channelHeader));
      // Asked before the body is read: without a root nothing can be published.
      const publisher = call.parts.publisher(call.caller.tenant_id);
      if ((await publisher.view()).root === null)
        throw new Problem("policy_root_missing", "The tenant's policies have no root of trust yet.");
      const change = await keepPolicy(call, call.input.params.name, on);
      return { status: 201, body: await changed(call, change) };
    },
  });

  door.route({
    route: createRoute({
      method: "get",
      path: "/api/policies/{name}/bundles/{sha256}",
      tags,
      summary: "A bundle that was published: its tar.gz",
      description:
        "For whoever publishes the next one, and makes a delta from it. One of the policy's newest hundred revisions.",
      request: { params: z.strictObject({ name: policyName, sha256: sha256Digest }) },
      responses: {
        200: {
          description: "The bundle",
          content: { "application/gzip": { schema: z.string().openapi({ format: "binary" }) } },
        },
      },
    }),
    action: "policy.publish",
    idempotency: "none",
    decision: "before_the_change",
    problems: ["not_found"],
    handler: async (call) => {
      const { name, sha256 } = call.input.params;
      const object = await openPublished(call, name, sha256);
      return {
        status: 200,
        body: object.body,
        headers: {
          "content-type": "application/gzip",
          "content-length": String(object.size),
          "repr-digest": `sha-256=:${base64(hexBytes(sha256))}:`,
        },
      };
    },
  });

  door.route({
    route: createRoute({
      method: "put",
      path: "/api/policies/{name}/deltas/{from}/{to}",
      tags,
      summary: "Put what leads from one tar of the policy to the next: the body is a zstd frame",
      description:
        "`from` is the SHA-256 of a tar that the policy had, and the frame's dictionary; `to` is that of the tar that it makes. Put " +
        "it before the bundle is published: the change then names it in the signed metadata, if it is at most half of the " +
        "bundle. It is not looked into: fetchers compare the tar that it makes. The first one that came for two tars stays.",
      request: {
        params: z.strictObject({ name: policyName, from: sha256Digest, to: sha256Digest }),
        headers: z.object({
          [deltaSha256Header]: z.string().describe("of the body, in lower-case hex"),
          [deltaBytesHeader]: z.string().describe("how many the body has"),
        }),
        body: { content: { "application/zstd": { schema: z.string().openapi({ format: "binary" }) } }, required: true },
      },
      responses: { 200: { description: "The delta that is kept", content: json(policyDelta) } },
    }),
    action: "policy.publish",
    idempotency: "optional",
    decision: "before_the_change",
    problems: ["not_found", "policy_invalid", "too_large"],
    stream: { bytesMax: deltaBytesMax, fingerprintHeaders: [deltaSha256Header, deltaBytesHeader] },
    handler: async (call) => {
      const { name, from, to } = call.input.params;
      const body = await keepDelta(call, name, { from, to });
      if (call.claim !== null)
        await rememberOnly(call.parts.database, call.claim, call.now, { status: 200, response: body });
      return { status: 200, body };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/policies/{name}/promote",
      tags,
      summary: "Give one channel the bundle that another has",
      description: "Nothing is uploaded or signed by the publisher again.",
      request: { params: byName, body: { required: true, content: json(policyPromotion) } },
      responses: { 201: { description: "The revision that the channel has now", content: json(policyChanged) } },
    }),
    action: "policy.promote",
    idempotency: "required",
    decision: "before_the_change",
    problems: changeProblems,
    handler: async (call) => {
      const { from, to } = call.input.json;
      const change = { kind: "promote", policy: call.input.params.name, from, to } as const;
      return { status: 201, body: await changed(call, change) };
    },
  });

  door.route({
    route: createRoute({
      method: "post",
      path: "/api/policies/{name}/rollback",
      tags,
      summary: "Give a channel the bundle of an earlier revision",
      description: "As a new revision that names the older bundle: what was signed only ever counts up.",
      request: { params: byName, body: { required: true, content: json(policyRollback) } },
      responses: { 201: { description: "The revision that the channel has now", content: json(policyChanged) } },
    }),
    action: "policy.roll_back",
    idempotency: "required",
    decision: "before_the_change",
    problems: [...changeProblems, "policy_no_revision"],
    handler: async (call) => {
      const { channel: on, revision } = call.input.json;
      const change = { kind: "roll_back", policy: call.input.params.name, channel: on, revision } as const;
      return { status: 201, body: await changed(call, change) };
    },
  });
}

type AnyCall = Pick<Call, "parts" | "caller" | "claim" | "now">;

const callOf = async ({ caller, claim }: AnyCall): Promise<PublisherCall> => ({
  principal: caller.principal_id,
  intent: claim === null ? null : { claim_sha256: hex(await claimDigest(claim)), body_sha256: claim.body_sha256 },
});

/** The publisher and Postgres share no transaction; after a crash in between, the publisher knows the intent. */
async function changed(call: AnyCall, change: PolicyChange): Promise<PolicyChanged> {
  const { parts, caller, claim, now } = call;
  const done = await parts.publisher(caller.tenant_id).change(await callOf(call), change);
  if (!done.ok) throw refusal(done);
  const body = { ...done.revision, providers: [...done.providers] };
  if (claim !== null) await rememberOnly(parts.database, claim, now, { status: 201, response: body });
  return body;
}

const refusal = ({ code, detail }: Refused): Problem => new Problem(code, detail);

function parseChannel(header: string | null): Channel {
  const parsed = channel.safeParse(header ?? "stable");
  if (parsed.success) return parsed.data;
  throw new Problem("invalid_request", `The header ${channelHeader} is \`stable\` or \`canary\`.`, {
    errors: [{ path: channelHeader, message: "stable or canary" }],
  });
}
