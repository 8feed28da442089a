// Edge policies over HTTP, from the upload to what both providers serve: who may publish what, what is refused, what a
// provider that is down costs, and that a stock TUF client believes both.

import { createHash, randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { sql } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { base64, utf8 } from "../../shared/contract/bytes.ts";
import type { Policy, PolicyList } from "../../shared/contract/http-policies.ts";
import { newId } from "../../shared/contract/ids.ts";
import { checkPolicyStatement } from "../../shared/edge/statement.ts";
import { documentText, type RootDocument } from "../../shared/edge/tuf.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { mintApiKey } from "../../shared/tenancy/api-key.ts";
import { databaseAs } from "../support/api.ts";
import { bundleOf, bundleParts } from "../support/bundles.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import { policyUpload, publishPolicy, putRoot, rootFor, signedPolicyOf } from "../support/policies.ts";
import { freshKey, jsonCall, must, newSigner, registeredSigner } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { tufClient } from "../support/tuf.ts";

const stack = useStack();
const sides = ["a", "b"] as const;
let api: Contract;
let tenant: SeededTenant;
let stranger: SeededTenant;
let signer: Signer;
let root: RootDocument;
let fetcher: { readonly id: string; readonly key: string };

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("policies");
  stranger = await stack.seedTenant("policies-stranger");
  signer = await registeredSigner(api, tenant);
  root = await rootFor(api, tenant);
  must(200, await putRoot(api, tenant, root));
  fetcher = await fetcherOf(tenant);
});

async function fetcherOf({ keys }: SeededTenant): Promise<{ readonly id: string; readonly key: string }> {
  const made = must(201, await api.fetch("/api/keys", jsonCall(keys.admin, "POST", { role: "fetcher" })));
  return { id: made.json.id as string, key: made.json.key as string };
}

const edge = (side: (typeof sides)[number], path: string, key = fetcher.key): Promise<Response> =>
  fetch(`${stack.edge[side]}${path}`, { headers: { authorization: `Bearer ${key}` } });

/** A stock client over a provider's edge. */
const clientOf = (side: (typeof sides)[number], of = tenant, first = root) =>
  tufClient(documentText(first), async (name) => {
    const response = await edge(side, `/tuf/${of.slug}/${name}`);
    return response.status === 404 ? null : await response.text();
  });

const view = async (name: string): Promise<Policy> =>
  must(200, await api.fetch(`/api/policies/${name}`, jsonCall(tenant.keys.viewer, "GET"))).json as Policy;
const post = (key: string, name: string, what: string, body: unknown = {}): Promise<CheckedAnswer> =>
  api.fetch(`/api/policies/${name}/${what}`, jsonCall(key, "POST", body));

describe("a bundle that is published", () => {
  test("is served by both providers: by channel to a stock OPA, by digest, and to a stock TUF client with its statement", async () => {
    const { bundle, answer } = await publishPolicy(api, tenant, signer, "gateway", "r1");
    expect(answer).toMatchObject({
      policy: "gateway",
      channel: "stable",
      revision: 1,
      version: "r1",
      outcome: "published",
    });
    expect(answer.bundle_sha256).toBe(sha256(bundle));
    expect(answer.providers.map(({ name, state }) => [name, state])).toEqual([
      ["a", "current"],
      ["b", "current"],
    ]);
    for (const side of sides) {
      const channel = `/opa/${tenant.slug}/gateway/stable/bundle.tar.gz`;
      await expect.poll(async () => (await edge(side, channel)).status, { timeout: 8_000 }).toBe(200);
      expect(sha256(new Uint8Array(await (await edge(side, channel)).arrayBuffer()))).toBe(answer.bundle_sha256);
      const target = () => clientOf(side).target("gateway/stable/bundle.tar.gz");
      await expect.poll(target, { timeout: 8_000 }).toMatchObject({
        length: bundle.length,
        hashes: { sha256: answer.bundle_sha256 },
        custom: { tar_sha256: answer.tar_sha256, revision: 1, version: "r1" },
      });
      const byDigest = await edge(side, `/policies/${tenant.slug}/${answer.bundle_sha256}.tar.gz`);
      expect(new Uint8Array(await byDigest.arrayBuffer())).toEqual(new Uint8Array(bundle));
      const statement = await edge(side, `/statements/${tenant.slug}/${answer.statement_sha256}.dsse.json`);
      const envelope = (await statement.json()) as Parameters<typeof checkPolicyStatement>[0];
      expect(await checkPolicyStatement(envelope, base64(signer.spki))).toMatchObject({
        ok: true,
        signed: {
          policy: "gateway",
          version: "r1",
          bundle_sha256: answer.bundle_sha256,
          tar_sha256: answer.tar_sha256,
        },
      });
    }
  });

  test("goes to another channel by promotion, and a rollback is a new revision that names older bytes", async () => {
    const name = "moved";
    const first = await publishPolicy(api, tenant, signer, name, "r1", "canary");
    const second = await publishPolicy(api, tenant, signer, name, "r2", "canary");
    expect((await view(name)).channels).toMatchObject({ stable: null, canary: { version: "r2", revision: 2 } });
    const promoted = must(201, await post(tenant.keys.publisher, name, "promote"));
    expect(promoted.json).toMatchObject({ channel: "stable", revision: 1, version: "r2", outcome: "promoted" });
    const again = must(201, await post(tenant.keys.publisher, name, "promote"));
    expect(again.json).toMatchObject({ revision: 1 });
    const back = must(201, await post(tenant.keys.operator, name, "rollback", { channel: "canary" }));
    expect(back.json).toMatchObject({
      revision: 3,
      version: "r1",
      bundle_sha256: first.answer.bundle_sha256,
      outcome: "rolled_back",
    });
    const to = must(201, await post(tenant.keys.operator, name, "rollback", { channel: "canary", revision: 2 }));
    expect(to.json).toMatchObject({ revision: 4, bundle_sha256: second.answer.bundle_sha256 });
    expect(
      (await view(name)).revisions.map(({ channel, revision, outcome }) => `${channel} ${revision} ${outcome}`),
    ).toEqual(
      expect.arrayContaining([
        "canary 4 rolled_back",
        "canary 3 rolled_back",
        "stable 1 promoted",
        "canary 2 published",
        "canary 1 published",
      ]),
    );
    // A provider may answer with a timestamp that is a second old.
    for (const side of sides) {
      const served = async () => (await clientOf(side).target(`${name}/canary/bundle.tar.gz`))?.custom;
      await expect.poll(served, { timeout: 8_000 }).toMatchObject({ revision: 4 });
    }
  });

  test("changes nothing where the channel has it, and one Idempotency-Key is one effect and one answer", async () => {
    const name = "once";
    const bundle = bundleOf(bundleParts());
    const signed = await signedPolicyOf(name, bundle);
    const idempotencyKey = freshKey();
    const upload = await policyUpload(tenant.keys.publisher, signer, bundle, signed, { idempotencyKey });
    const path = `/api/policies/${name}/bundles`;
    const first = must(201, await api.fetch(path, upload));
    const replayed = must(201, await api.fetch(path, upload));
    expect(replayed.json).toEqual(first.json);
    expect(replayed.headers.get("idempotency-replayed")).toBe("true");
    const other = await policyUpload(tenant.keys.publisher, signer, bundle, signed);
    expect(must(201, await api.fetch(path, other)).json).toMatchObject({ revision: 1 });
    const onCanary = await policyUpload(tenant.keys.publisher, signer, bundle, signed, {
      idempotencyKey,
      channel: "canary",
    });
    expect((await api.fetch(path, onCanary)).json).toMatchObject({ code: "idempotency_conflict" });
    expect((await view(name)).revisions).toHaveLength(1);
  });

  test("is taken from both providers when its policy is removed, by an admin alone", async () => {
    const name = "removed";
    await publishPolicy(api, tenant, signer, name, "r1");
    const path = `/api/policies/${name}`;
    expect((await api.fetch(path, jsonCall(tenant.keys.publisher, "DELETE"))).json).toMatchObject({
      code: "role_too_low",
    });
    const idempotent = { "idempotency-key": freshKey() };
    const remove = () => api.fetch(path, jsonCall(tenant.keys.admin, "DELETE", undefined, idempotent));
    const removed = must(200, await remove());
    expect(removed.json).toMatchObject({ policy: name, stable_revision: 1, canary_revision: null });
    expect(must(200, await remove()).json).toEqual(removed.json);
    expect((await api.fetch(path, jsonCall(tenant.keys.admin, "DELETE"))).status).toBe(404);
    for (const side of sides) {
      const channel = `/opa/${tenant.slug}/${name}/stable/bundle.tar.gz`;
      await expect.poll(async () => (await edge(side, channel)).status, { timeout: 8_000 }).toBe(404);
    }
  });

  test("is told in the tenant's log, with who did it", async () => {
    const name = "logged";
    await publishPolicy(api, tenant, signer, name, "r1");
    const { answer } = await publishPolicy(api, tenant, signer, name, "r2");
    must(201, await post(tenant.keys.operator, name, "rollback"));
    const owner = databaseAs(stack, "owner");
    const logged = async (): Promise<unknown[]> => {
      const rows = await owner.execute<{ type: string; principal: string; attrs: { policy?: string } }>(
        sql`select type, principal, attrs::jsonb as attrs from audit_events where tenant_id = ${tenant.tenant_id} and source = 'edge' order by seq`,
      );
      return rows.rows.filter(({ attrs }) => attrs.policy === undefined || attrs.policy === name);
    };
    const { publisher, operator, admin } = tenant.principals;
    await expect.poll(logged, { timeout: 20_000 }).toEqual([
      {
        type: "mc.policy.root_changed",
        principal: admin,
        attrs: expect.objectContaining({ root_version: 1, outcome: "created" }),
      },
      { type: "mc.policy.published", principal: publisher, attrs: expect.objectContaining({ revision: 1 }) },
      {
        type: "mc.policy.published",
        principal: publisher,
        attrs: expect.objectContaining({ revision: 2, bundle_sha256: answer.bundle_sha256, channel: "stable" }),
      },
      { type: "mc.policy.rolled_back", principal: operator, attrs: expect.objectContaining({ revision: 3 }) },
    ]);
  });
});

describe("a bundle is refused", () => {
  const refused = async (upload: RequestInit, name = "refused"): Promise<CheckedAnswer["json"]> =>
    (await api.fetch(`/api/policies/${name}/bundles`, upload)).json;

  test("with the reason that its reader gives, and nothing of it is kept", async () => {
    const cases = [
      [bundleOf(bundleParts().slice(1)), "it has no .manifest: add one"],
      [bundleOf([...bundleParts(), { name: "../x.rego", body: "package app" }]), "dot segments"],
      [bundleOf(bundleParts({ roots: ["app", "app/authz"] })), "overlap: leave one of them out"],
      [bundleOf(bundleParts({ rego_version: 0 })), "v1 dialect"],
      [new Uint8Array(gzipSync(utf8("no tar"))), "is not a whole tar.gz"],
    ] as const;
    for (const [bundle, reason] of cases) {
      const signed = await signedPolicyOf("refused", bundle);
      const upload = await policyUpload(tenant.keys.publisher, signer, bundle, signed);
      expect(await refused(upload)).toMatchObject({
        status: 422,
        code: "policy_invalid",
        detail: expect.stringContaining(reason),
      });
      expect(await stack.listObjects("artifacts", `edge/policies/${tenant.slug}/${signed.bundle_sha256}`)).toEqual([]);
    }
  });

  test("where its statement is another's, of another policy, or of other bytes", async () => {
    const bundle = bundleOf(bundleParts({ revision: "r9" }));
    const signed = await signedPolicyOf("refused", bundle, { version: "r9" });
    const { publisher } = tenant.keys;
    const other = bundleOf(bundleParts({ revision: "r9" }, "mallory"));
    const zeros = "0".repeat(64);
    const cases = [
      [await policyUpload(publisher, await newSigner(), bundle, signed), "registered publisher key"],
      [await policyUpload(publisher, signer, bundle, { ...signed, policy: "other" }), "is of other, not of refused"],
      [
        await policyUpload(publisher, signer, bundle, { ...signed, version: "r8" }),
        "has the revision r9, and r8 was signed",
      ],
      [await policyUpload(publisher, signer, bundle, { ...signed, tar_sha256: zeros }), "tar inside is not the one"],
      [
        await policyUpload(publisher, signer, bundle, { ...signed, bundle_sha256: zeros }),
        "not the one that was signed",
      ],
      [await policyUpload(publisher, signer, other, signed), "not the one that was signed"],
    ] as const;
    for (const [upload, reason] of cases)
      expect(await refused(upload)).toMatchObject({ code: "policy_invalid", detail: expect.stringContaining(reason) });
    const bare = await policyUpload(publisher, signer, bundle, signed);
    const headers = { ...(bare.headers as Record<string, string>), "maestro-policy-statement": "x" };
    expect(await refused({ ...bare, headers })).toMatchObject({ code: "policy_invalid" });
    const beta = { ...(bare.headers as Record<string, string>), "maestro-policy-channel": "beta" };
    expect(await refused({ ...bare, headers: beta })).toMatchObject({ code: "invalid_request" });
    expect((await api.fetch("/api/policies/refused", jsonCall(tenant.keys.viewer, "GET"))).status).toBe(404);
  });

  test("under a revision that has other bytes, and before there is a root", async () => {
    await publishPolicy(api, tenant, signer, "taken", "r1");
    const bundle = bundleOf(bundleParts({ revision: "r1" }, "other"));
    const signed = await signedPolicyOf("taken", bundle);
    const upload = await policyUpload(tenant.keys.publisher, signer, bundle, signed, { channel: "canary" });
    expect(await refused(upload, "taken")).toMatchObject({ status: 409, code: "policy_version_taken" });
    const early = await policyUpload(stranger.keys.publisher, await registeredSigner(api, stranger), bundle, signed);
    expect(await refused(early, "taken")).toMatchObject({ status: 409, code: "policy_root_missing" });
    const none = await post(tenant.keys.operator, "taken", "rollback");
    expect(none.json).toMatchObject({ status: 409, code: "policy_no_revision" });
    expect((await post(tenant.keys.publisher, "nowhere", "promote")).json).toMatchObject({ status: 404 });
  });

  test("to roles that may not", async () => {
    const bundle = bundleOf(bundleParts());
    const upload = await policyUpload(tenant.keys.operator, signer, bundle, await signedPolicyOf("gateway", bundle));
    expect(await refused(upload, "gateway")).toMatchObject({ status: 403, code: "role_too_low" });
    expect((await post(tenant.keys.operator, "gateway", "promote")).status).toBe(403);
    expect((await post(tenant.keys.publisher, "gateway", "rollback")).status).toBe(403);
    expect((await api.fetch("/api/policies/root", jsonCall(tenant.keys.publisher, "PUT", root))).status).toBe(403);
    expect((await api.fetch("/api/policies", jsonCall(fetcher.key, "GET"))).status).toBe(403);
  });
});

describe("the root of trust", () => {
  test("is taken once more without a change, rotated by old and new keys, and by too few refused", async () => {
    const rotated = await stack.seedTenant("policies-rotated");
    const first = await rootFor(api, rotated);
    must(200, await putRoot(api, rotated, first));
    expect(must(200, await putRoot(api, rotated, first)).json).toMatchObject({ version: 1 });
    const few = await rootFor(api, rotated, { version: 2, keys: ["two"] });
    expect((await putRoot(api, rotated, few)).json).toMatchObject({ status: 422, code: "policy_root_invalid" });
    const second = await rootFor(api, rotated, { version: 2, keys: ["two"], by: ["one", "two"] });
    expect(must(200, await putRoot(api, rotated, second)).json).toMatchObject({ version: 2 });
    expect((await putRoot(api, rotated, first)).json).toMatchObject({ code: "policy_root_invalid" });
    expect((await putRoot(api, rotated, { ...second, more: 1 })).status).toBe(400);
    const { key } = await fetcherOf(rotated);
    for (const side of sides) {
      const path = `/tuf/${rotated.slug}/2.root.json`;
      await expect.poll(async () => (await edge(side, path, key)).status, { timeout: 8_000 }).toBe(200);
      expect(await (await edge(side, path, key)).text()).toBe(documentText(second));
    }
    const told = must(200, await api.fetch("/api/policies/keys", jsonCall(rotated.keys.viewer, "GET")));
    expect(told.json).toMatchObject({ tenant: rotated.slug, root: second });
  });

  test("of one tenant says nothing of another's", async () => {
    const mine = must(200, await api.fetch("/api/policies/keys", jsonCall(tenant.keys.admin, "GET"))).json;
    const theirs = must(200, await api.fetch("/api/policies/keys", jsonCall(stranger.keys.admin, "GET"))).json;
    for (const role of ["targets", "snapshot", "timestamp"]) expect(mine.keys[role]).not.toEqual(theirs.keys[role]);
    expect(theirs.root).toBeNull();
    const list = must(200, await api.fetch("/api/policies", jsonCall(stranger.keys.viewer, "GET"))).json as PolicyList;
    expect([list.root, list.policies]).toEqual([null, []]);
    expect((await api.fetch("/api/policies/gateway", jsonCall(stranger.keys.viewer, "GET"))).status).toBe(404);
  });
});

describe("a provider that is down", () => {
  test("holds up nobody, is told as behind, and catches up once it is back", async () => {
    const name = "outage";
    await publishPolicy(api, tenant, signer, name, "r1");
    await stack.bunnyStorage.stop();
    try {
      const { answer } = await publishPolicy(api, tenant, signer, name, "r2");
      expect(answer.providers).toMatchObject([
        { name: "a", state: "current", behind_since: null },
        { name: "b", state: "behind", behind_since: expect.any(String), reason: "store_unavailable" },
      ]);
      const onA = async () => (await clientOf("a").target(`${name}/stable/bundle.tar.gz`))?.custom;
      await expect.poll(onA, { timeout: 8_000 }).toMatchObject({ version: "r2" });
    } finally {
      await stack.bunnyStorage.start();
    }
    const states = async (): Promise<string[]> => (await view(name)).providers.map(({ state }) => state);
    await expect.poll(states, { timeout: 15_000 }).toEqual(["current", "current"]);
    const onB = async () => (await clientOf("b").target(`${name}/stable/bundle.tar.gz`))?.custom;
    await expect.poll(onB, { timeout: 8_000 }).toMatchObject({ version: "r2" });
  });

  test("and lost its timestamp gets everything again with the cron", async () => {
    await publishPolicy(api, tenant, signer, "lost", "r1");
    await stack.edgeStores.b.delete(`tuf/${tenant.slug}/timestamp.json`);
    await stack.runScheduled();
    const onB = async () => (await clientOf("b").target("lost/stable/bundle.tar.gz"))?.custom;
    await expect.poll(onB, { timeout: 8_000 }).toMatchObject({ version: "r1" });
  });
});

describe("a fetcher's key", () => {
  const status = async (side: (typeof sides)[number], key: string): Promise<number> =>
    (await edge(side, `/tuf/${tenant.slug}/1.root.json`, key)).status;

  test("reads from both providers soon after it was made, and from none some seconds after it was revoked", async () => {
    const made = await fetcherOf(tenant);
    for (const side of sides) await expect.poll(() => status(side, made.key), { timeout: 8_000 }).toBe(200);
    must(204, await api.fetch(`/api/keys/${made.id}`, jsonCall(tenant.keys.admin, "DELETE")));
    for (const side of sides) await expect.poll(() => status(side, made.key), { timeout: 15_000 }).toBe(401);
  });

  test("of another tenant, and a key of another role, read nothing", async () => {
    must(200, await putRoot(api, stranger, await rootFor(api, stranger)));
    const theirs = await fetcherOf(stranger);
    for (const side of sides) {
      const own = `/tuf/${stranger.slug}/1.root.json`;
      await expect.poll(async () => (await edge(side, own, theirs.key)).status, { timeout: 8_000 }).toBe(200);
      expect(await status(side, theirs.key)).toBe(404);
      expect(await status(side, tenant.keys.admin)).toBe(401);
    }
  });

  test("that the publisher was not told of is mirrored by the cron", async () => {
    const owner = databaseAs(stack, "owner");
    const { key, secret_sha256 } = await mintApiKey(new Uint8Array(randomBytes(32)));
    const id = newId("apiKey", Date.now(), randomBytes(10));
    await owner.execute(sql`insert into api_keys (id, tenant_id, principal_id, prefix, secret_sha256, created_at)
      values (${id}, ${tenant.tenant_id}, ${tenant.principals.fetcher}, 'mk_aaaaa', ${secret_sha256}, now())`);
    await stack.runScheduled();
    for (const side of sides) await expect.poll(() => status(side, key), { timeout: 8_000 }).toBe(200);
  });
});
