// Deltas from `maestro policy publish` to a fetcher, through both providers: who may put and read what they are made from, how they
// are served, and what they spare.

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { beforeAll, describe, expect, test } from "vitest";
import { makeDelta } from "../../cli/edge/zstd-delta.ts";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Role } from "../../shared/contract/names.ts";
import { writeProviders } from "../../shared/edge/providers.ts";
import { contractOf, type CheckedAnswer, type Contract } from "../support/openapi.ts";
import { publishPolicy, putRoot, rootFor } from "../support/policies.ts";
import { freshKey, jsonCall, must, registeredSigner } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
const sides = ["a", "b"] as const;
let api: Contract;
beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
});

const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

describe("from the command line to a fetcher", () => {
  interface Home {
    readonly tenant: SeededTenant;
    readonly home: string;
    readonly spki: string;
    readonly key: string;
    as(role: Role): TestHost;
    publish(
      user: string,
      revision: string,
      ...more: readonly string[]
    ): Promise<{ readonly err: string; readonly bytes: number; readonly tar: string }>;
    ok(role: Role, ...argv: readonly string[]): Promise<Record<string, unknown>>;
    fetch(file: string): Promise<Record<string, unknown>>;
    counts(file: string): Promise<Record<string, number>>;
  }

  async function home(name: string): Promise<Home> {
    const tenant = await stack.seedTenant(name);
    const folder = testFolder();
    const source = testFolder();
    const as = (role: Role): TestHost =>
      testHost({ home: folder, env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] } });
    const run = async (role: Role, ...argv: readonly string[]) => {
      const ended = await maestro(as(role), ...argv, "--json");
      expect({ code: ended.code, err: ended.code === 0 ? "" : ended.err }).toEqual({ code: 0, err: "" });
      return ended;
    };
    const ok: Home["ok"] = async (role, ...argv) => (await run(role, ...argv)).json();
    await ok("admin", "policy", "root", "init");
    const { spki } = await ok("publisher", "market", "keygen");
    // Rules that a gzip cannot make small, so that a delta is worth something.
    const rule = (at: number): string => `allow if input.token == "${sha256(Buffer.from(`rule ${at}`))}"\n`;
    const rules = Array.from({ length: 600 }, (_, at) => rule(at)).join("");
    writeFileSync(join(source, "authz.rego"), `package gateway.authz\n\n${rules}`);
    const publish: Home["publish"] = async (user, revision, ...more) => {
      writeFileSync(join(source, "data.json"), JSON.stringify({ gateway: { user } }));
      const ended = await run(
        "publisher",
        "policy",
        "publish",
        source,
        "--name",
        "gateway",
        "--revision",
        revision,
        ...more,
      );
      const told = ended.json() as { bundle_bytes: number; tar_sha256: string };
      return { err: ended.err, bytes: told.bundle_bytes, tar: told.tar_sha256 };
    };
    await publish("alice", "r1");
    await ok("admin", "keys", "create", "--role", "fetcher", "--out", join(folder, "fetcher.key"));
    const key = readFileSync(join(folder, "fetcher.key"), "utf8").trim();
    const root = async (): Promise<string | null> => {
      const headers = { authorization: `Bearer ${key}` };
      const response = await fetch(`${stack.edge.b}/tuf/${tenant.slug}/1.root.json`, { headers });
      return response.ok ? await response.text() : null;
    };
    await expect.poll(root, { timeout: 8_000 }).not.toBeNull();
    writeFileSync(join(folder, "1.root.json"), (await root())!);
    const providers = sides.map((side) => ({ name: side, baseUrl: stack.edge[side] }));
    for (const one of providers) writeFileSync(join(folder, `${one.name}.json`), writeProviders([one]));
    return {
      tenant,
      home: folder,
      spki: String(spki),
      key,
      as,
      ok,
      publish,
      async fetch(file) {
        const trust = ["--tenant", tenant.slug, "--root", "1.root.json", "--publisher", String(spki)];
        const where = ["--providers", `${file}.json`, "--key-file", "fetcher.key", "--state", join(folder, file)];
        const fetched = await maestro(as("operator"), "edge", "fetch", "gateway", ...trust, ...where, "--json");
        return {
          exit: fetched.code,
          err: fetched.err,
          ...(fetched.json()["policies"] as [Record<string, unknown>])[0],
        };
      },
      async counts(file) {
        const shown = await ok("operator", "edge", "status", "--tenant", tenant.slug, "--state", join(folder, file));
        return shown["counts"] as Record<string, number>;
      },
    };
  }

  test("each provider's fetcher follows by deltas, over restarts, a promotion and a way back, and the bytes are counted", async () => {
    const at = await home("deltas-cli");
    const arrives = async (file: string, revision: number): Promise<void> => {
      await expect.poll(() => at.fetch(file), { timeout: 8_000 }).toMatchObject({ exit: 0, err: "", revision });
    };
    for (const side of sides) await arrives(side, 1);
    const second = await at.publish("bob", "r2");
    expect(second.err).toContain("delta from revision 1 (r1) of stable: ");
    // Each fetch is a process of its own: what is held was read back from the disk.
    for (const side of sides) await arrives(side, 2);
    const third = await at.publish("carol", "r3", "--channel", "canary");
    expect(third.err).toContain("delta from revision 2 (r2) of stable: ");
    await at.ok("publisher", "policy", "promote", "gateway");
    for (const side of sides) await arrives(side, 3);
    for (const side of sides) {
      const counts = await at.counts(side);
      expect(counts).toMatchObject({ deltas_applied: 2, deltas_failed: 0 });
      expect(counts["delta_bytes"]).toBeLessThan(600);
      // One whole bundle at first, and none since.
      expect(counts["whole_bytes"]).toBeLessThan(third.bytes * 1.1);
    }
    await at.ok("operator", "policy", "rollback", "gateway");
    for (const side of sides) await arrives(side, 4);
    const fourth = await at.publish("dora", "r4", "--no-delta");
    expect(fourth.err).not.toContain("delta");
    for (const side of sides) {
      await arrives(side, 5);
      expect(await at.counts(side)).toMatchObject({ deltas_applied: 2, deltas_failed: 0 });
    }
  });

  test("a provider serves a delta as what it is, for good, with conditions, to its own tenant alone", async () => {
    const at = await home("deltas-served");
    const first = (await at.ok("viewer", "policy", "list", "gateway")) as { revisions: { tar_sha256: string }[] };
    const { tar: to } = await at.publish("bob", "r2");
    const from = first.revisions[0]!.tar_sha256;
    for (const side of sides) {
      const ask = async (headers: Record<string, string> = {}): Promise<Response> =>
        await fetch(`${stack.edge[side]}/deltas/${at.tenant.slug}/${from}..${to}.zst`, {
          headers: { authorization: `Bearer ${at.key}`, ...headers },
        });
      await expect.poll(async () => (await ask()).status, { timeout: 8_000 }).toBe(200);
      const answer = await ask();
      const bytes = new Uint8Array(await answer.arrayBuffer());
      expect(answer.headers.get("content-type")).toBe("application/zstd");
      expect(answer.headers.get("cache-control")).toContain("immutable");
      expect(answer.headers.get("etag")).toBe(`"${sha256(bytes)}"`);
      expect((await ask({ "if-none-match": answer.headers.get("etag")! })).status).toBe(304);
      expect((await ask({ authorization: "Bearer mk_nobody" })).status).toBe(401);
    }
  });
});

describe("over HTTP", () => {
  const put = (
    key: string,
    path: string,
    body: Uint8Array<ArrayBuffer>,
    headers: Readonly<Record<string, string>> = {},
  ): Promise<CheckedAnswer> =>
    api.fetch(path, {
      method: "PUT",
      headers: {
        authorization: `Bearer ${key}`,
        "content-type": "application/zstd",
        "maestro-delta-sha256": sha256(body),
        "maestro-delta-bytes": String(body.length),
        ...headers,
      },
      body,
    });

  async function policyOf(name: string) {
    const tenant = await stack.seedTenant(name);
    const signer = await registeredSigner(api, tenant);
    must(200, await putRoot(api, tenant, await rootFor(api, tenant)));
    const { bundle, answer } = await publishPolicy(api, tenant, signer, "gateway", "r1");
    return { tenant, signer, bundle, answer, tar: new Uint8Array(gunzipSync(bundle)) };
  }
  const zeros = "0".repeat(64);

  test("a publisher reads back what the policy has or had; nobody reads another bundle, and other roles none", async () => {
    const { tenant, bundle, answer } = await policyOf("deltas-read");
    const read = (key: string, digest: string, name = "gateway"): Promise<CheckedAnswer> =>
      api.fetch(`/api/policies/${name}/bundles/${digest}`, jsonCall(key, "GET"));
    const whole = must(200, await read(tenant.keys.publisher, answer.bundle_sha256));
    expect(whole.bytes).toEqual(new Uint8Array(bundle));
    expect(whole.headers.get("content-type")).toBe("application/gzip");
    expect((await read(tenant.keys.publisher, zeros)).status).toBe(404);
    expect((await read(tenant.keys.publisher, answer.bundle_sha256, "other")).status).toBe(404);
    expect((await read(tenant.keys.viewer, answer.bundle_sha256)).status).toBe(403);
    const stranger = await stack.seedTenant("deltas-read-stranger");
    expect((await read(stranger.keys.publisher, answer.bundle_sha256)).status).toBe(404);
  });

  test("a delta is kept once for two tars, whatever comes later, and one Idempotency-Key is one answer", async () => {
    const { tenant, answer, tar } = await policyOf("deltas-put");
    const next = new Uint8Array(tar);
    next[600]! ^= 1;
    const delta = (await makeDelta(tar, next))!;
    const path = `/api/policies/gateway/deltas/${answer.tar_sha256}/${sha256(next)}`;
    const kept = { from: answer.tar_sha256, to: sha256(next), bytes: delta.length, sha256: sha256(delta) };
    const idempotencyKey = freshKey();
    const first = must(200, await put(tenant.keys.publisher, path, delta, { "idempotency-key": idempotencyKey }));
    expect(first.json).toEqual(kept);
    const again = must(200, await put(tenant.keys.publisher, path, delta, { "idempotency-key": idempotencyKey }));
    expect(again.headers.get("idempotency-replayed")).toBe("true");
    const other = new Uint8Array([...delta, 1]);
    expect(must(200, await put(tenant.keys.publisher, path, other)).json).toEqual(kept);
    expect(await stack.listObjects("artifacts", `edge/deltas/${tenant.slug}/`)).toHaveLength(1);
  });

  test("a delta is refused with what to do, and nothing of it is kept", async () => {
    const { tenant, answer, tar } = await policyOf("deltas-refused");
    const { publisher, operator } = tenant.keys;
    const delta = (await makeDelta(tar, tar.slice(512)))!;
    const path = (from: string, to = zeros): string => `/api/policies/gateway/deltas/${from}/${to}`;
    const from = answer.tar_sha256;
    const cases = [
      [await put(publisher, path(zeros, from), delta), 404, "not_found"],
      [await put(publisher, `/api/policies/other/deltas/${from}/${zeros}`, delta), 404, "not_found"],
      [await put(publisher, path(from, from), delta), 422, "policy_invalid"],
      [await put(publisher, path(from), new Uint8Array(64)), 422, "policy_invalid"],
      [await put(publisher, path(from), delta, { "maestro-delta-sha256": zeros }), 422, "policy_invalid"],
      [await put(publisher, path(from), delta, { "maestro-delta-sha256": "x" }), 422, "policy_invalid"],
      [await put(publisher, path(from), delta, { "maestro-delta-bytes": "3" }), 422, "policy_invalid"],
      [await put(publisher, path(from), delta, { "maestro-delta-bytes": "many" }), 422, "policy_invalid"],
      [await put(publisher, path(from), delta, { "maestro-delta-bytes": "40000000" }), 413, "too_large"],
      [await put(publisher, path(from), delta, { "content-type": "application/gzip" }), 415, "unsupported_media_type"],
      [await put(operator, path(from), delta), 403, "role_too_low"],
    ] as const;
    for (const [refused, status, code] of cases) expect(refused.json).toMatchObject({ status, code });
    expect(await stack.listObjects("artifacts", `edge/deltas/${tenant.slug}/`)).toEqual([]);
  });
});
