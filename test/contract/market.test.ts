// The marketplace over HTTP: what may be published, entitled, installed and fetched, and by whom.

import { gzipSync } from "node:zlib";
import { sql, type SQL } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { base64, sha256Hex } from "../../shared/contract/bytes.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { believedReleaseKeys } from "../../shared/signing/published.ts";
import {
  checkPublisherBundle,
  checkRelease,
  countersignature,
  pointerStatement,
} from "../../shared/signing/release.ts";
import { statement, type StatementParts } from "../../shared/signing/statement.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import {
  freshKey,
  jsonCall,
  manifestOf,
  must,
  newSigner,
  packageOf,
  signRelease,
  tarGz,
  uploadOf,
} from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let api: Contract;
let tenant: SeededTenant;
let stranger: SeededTenant;
let signer: Signer;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("market");
  stranger = await stack.seedTenant("market-stranger");
  signer = await newSigner();
  for (const { keys } of [tenant, stranger]) {
    const spki = base64(signer.spki);
    must(201, await api.fetch("/api/market/publisher-keys", jsonCall(keys.publisher, "POST", { spki })));
  }
});

/** Uploaded by the tenant's publisher, approved by its reviewer. */
async function publish(name: string, given: Parameters<typeof manifestOf>[1] = {}) {
  const manifest = manifestOf(name, given);
  const artifact = await packageOf(manifest);
  const bundle = await signRelease(signer, manifest, artifact);
  const answer = await api.fetch("/api/market/releases", uploadOf(tenant.keys.publisher, bundle, artifact));
  const path = `/api/market/reviews/${answer.json.id}/approve`;
  const approved = await api.fetch(path, jsonCall(tenant.keys.reviewer, "POST", {}));
  return { manifest, artifact, bundle, answer, published: must(200, approved).json };
}

const entitle = (who: SeededTenant, rows: unknown[], headers: Record<string, string> = {}) =>
  api.fetch("/api/market/entitlements", jsonCall(who.keys.admin, "PUT", { entitlements: rows }, headers));

const owner = (statements: readonly SQL[]) => inBatch(databaseAs(stack, "owner"), [...statements]);

test("a countersignature or a pointer that says a time after its key's end lets nothing be installed or upgraded", async () => {
  const name = "market/late";
  const installer = await stack.seedTenant("market-late");
  const { published } = await publish(name);
  must(200, await entitle(installer, [{ package: name, channel: "stable", allowed: true }]));
  const ended = await newSigner();
  const end = "2026-06-01T00:00:00.000Z";
  await owner([
    sql`insert into release_keys (kid, spki, not_before, not_after, rotation_id, changed_at)
        values (${ended.kid}, ${base64(ended.spki)}, '2026-01-01T00:00:00Z', ${end}, 'rot_late', now())`,
  ]);
  const [rows] = await owner([sql`select sequence from channel_pointers where package = ${name}`]);
  const { publisher_bundle: bundle, publisher_key: spki, version, channel, artifact_sha256 } = published;
  const checked = await checkPublisherBundle(bundle, spki);
  if (!checked.ok) throw new Error(checked.reason);
  const { release } = checked;
  const signed = async (parts: StatementParts): Promise<string> =>
    JSON.stringify(await signStatement(ended, statement(parts)));
  const sign = async (signedAt: string, moved_at: string): Promise<void> => {
    const move = {
      package: name,
      channel,
      version,
      sequence: Number(rows![0]!["sequence"]),
      moved_at,
      artifact_sha256,
    };
    const counter = await signed(await countersignature(bundle, release, signedAt));
    await owner([
      sql`update releases set marketplace_bundle = ${counter}::jsonb where id = ${published.id}`,
      sql`update channel_pointers set bundle = ${await signed(pointerStatement(move))}::jsonb where package = ${name}`,
    ]);
  };
  const late = "2026-06-01T00:00:00.001Z";
  const move = (path: string) =>
    api.fetch(path, jsonCall(installer.keys.operator, "POST", { package: name, channel: "stable" }));
  const refused = (answer: { status: number; json: { code: string; detail: string } }): unknown => [
    answer.status,
    answer.json.code,
    answer.json.detail.includes(`says ${late}, and its key ended at ${end}`),
  ];
  for (const [signedAt, movedAt] of [
    [late, end],
    [end, late],
  ] as const) {
    await sign(signedAt, movedAt);
    expect(refused(await move("/api/market/installs"))).toEqual([422, "release_invalid", true]);
  }
  await sign(end, end);
  must(201, await move("/api/market/installs"));
  await sign(late, end);
  expect(refused(await move("/api/market/upgrades"))).toEqual([422, "release_invalid", true]);
});

describe("publishing", () => {
  test("a release is kept under its digest, countersigned, and its channel points to it", async () => {
    const { artifact, answer, published } = await publish("market/good", { version: "1.2.0" });
    expect([answer.status, answer.json.state]).toEqual([201, "in_review"]);
    expect([answer.json.marketplace_bundle, published.state]).toEqual([null, "published"]);
    const digest = await sha256Hex(artifact);
    expect(await stack.readObject("artifacts", `artifact/${digest}.tar.gz`)).toEqual(artifact);
    const { json: keys } = await api.fetch("/api/audit/keys");
    const marketplace = believedReleaseKeys(keys.keys);
    const { publisher_bundle, marketplace_bundle, publisher_key } = published;
    const both = { publisher: publisher_bundle, marketplace: marketplace_bundle, publisherSpki: publisher_key };
    expect(await checkRelease(both, marketplace)).toMatchObject({ ok: true, release: { artifact_sha256: digest } });
    expect(await checkRelease(both, new Map())).toMatchObject({ ok: false });
    const shown = await api.fetch(
      "/api/market/releases?package=market/good&channel=stable",
      jsonCall(stranger.keys.viewer, "GET"),
    );
    expect(shown.json).toEqual({ ...published, review_reason: "" });
  });

  test("the same version with the same bytes is the same release; with other bytes it is refused", async () => {
    const { bundle, artifact, answer, manifest } = await publish("market/again");
    const again = await api.fetch("/api/market/releases", uploadOf(tenant.keys.publisher, bundle, artifact));
    expect(again.json.id).toBe(answer.json.id);
    const other = await packageOf(manifest, "console.log('other')");
    const refused = await api.fetch(
      "/api/market/releases",
      uploadOf(tenant.keys.publisher, await signRelease(signer, manifest, other), other),
    );
    expect([refused.status, refused.json.code]).toEqual([409, "release_exists"]);
  });

  test("a key that was answered with a release that stood there is answered so again, and makes no other", async () => {
    const manifest = manifestOf("market/stood");
    const artifact = await packageOf(manifest);
    const bundle = await signRelease(signer, manifest, artifact);
    const upload = (key: string) =>
      api.fetch("/api/market/releases", uploadOf(tenant.keys.publisher, bundle, artifact, key));
    const first = must(201, await upload(freshKey())).json;
    const key = freshKey();
    expect(must(201, await upload(key)).json).toEqual(first);
    must(200, await api.fetch(`/api/market/reviews/${first.id}/approve`, jsonCall(tenant.keys.reviewer, "POST", {})));
    const again = must(201, await upload(key));
    expect([again.json, again.headers.get("idempotency-replayed")]).toEqual([first, "true"]);
    const next = { ...manifest, version: "2.0.0" };
    const bytes = await packageOf(next);
    const other = uploadOf(tenant.keys.publisher, await signRelease(signer, next, bytes), bytes, key);
    const refused = await api.fetch("/api/market/releases", other);
    expect([refused.status, refused.json.code]).toEqual([409, "idempotency_conflict"]);
  });

  test("a body that is not the signed digest, or not the signed size, is refused and leaves nothing", async () => {
    const manifest = manifestOf("market/swapped");
    const signed = await packageOf(manifest);
    const bundle = await signRelease(signer, manifest, signed);
    const sameSize = signed.slice();
    sameSize[sameSize.length - 1] = sameSize.at(-1)! ^ 1;
    for (const body of [sameSize, signed.slice(0, -1), new Uint8Array([...signed, 0])]) {
      const answer = await api.fetch("/api/market/releases", uploadOf(tenant.keys.publisher, bundle, body));
      expect([answer.status, answer.json.code]).toEqual([422, "release_invalid"]);
    }
    expect(await stack.listObjects("artifacts", `artifact/${await sha256Hex(signed)}`)).toEqual([]);
    const shown = await api.fetch("/api/market/releases?package=market/swapped", jsonCall(tenant.keys.viewer, "GET"));
    expect(shown.status).toBe(404);
  });

  test.each([
    [
      "a manifest inside that is not the signed one",
      async (name: string) => packageOf(manifestOf(name, { privacy_units: 7 })),
    ],
    [
      "no maestro.json first",
      async (name: string) =>
        tarGz([
          { name: "main.mjs", text: "1" },
          { name: "maestro.json", text: JSON.stringify(manifestOf(name)) },
        ]),
    ],
    ["bytes that are no tar.gz", async () => new TextEncoder().encode("not an archive at all")],
  ])("an artifact with %s is refused", async (_, artifactOf) => {
    const manifest = manifestOf(`market/liar-${freshKey().replaceAll(/[^a-z0-9]/g, "")}`);
    const artifact = await artifactOf(manifest.name);
    const answer = await api.fetch(
      "/api/market/releases",
      uploadOf(tenant.keys.publisher, await signRelease(signer, manifest, artifact), artifact),
    );
    expect([answer.status, answer.json.code]).toEqual([422, "release_invalid"]);
  });

  test("a signature by an unregistered key, a tampered bundle and a missing one are refused", async () => {
    const manifest = manifestOf("market/unsigned");
    const artifact = await packageOf(manifest);
    const foreign = await signRelease(await newSigner(), manifest, artifact);
    const good = await signRelease(signer, manifest, artifact);
    const tampered = {
      ...good,
      dsseEnvelope: { ...good.dsseEnvelope, payload: base64(new TextEncoder().encode("{}")) },
    };
    for (const bundle of [foreign, tampered, {}, "text"]) {
      const answer = await api.fetch("/api/market/releases", uploadOf(tenant.keys.publisher, bundle, artifact));
      expect([answer.status, answer.json.code]).toEqual([422, "release_invalid"]);
    }
    const upload = uploadOf(tenant.keys.publisher, good, artifact);
    const { "maestro-release-bundle": _, ...headers } = upload.headers as Record<string, string>;
    expect((await api.fetch("/api/market/releases", { ...upload, headers })).status).toBeOneOf([400, 422]);
  });

  test("a channel's pointer moves up only, whatever comes last or at once", async () => {
    const pointed = async () =>
      (await api.fetch("/api/market/releases?package=market/up", jsonCall(tenant.keys.viewer, "GET"))).json.version;
    await publish("market/up", { version: "1.9.0" });
    await publish("market/up", { version: "1.10.0" });
    await publish("market/up", { version: "1.10.0-rc.1" });
    expect(await pointed()).toBe("1.10.0");
    await Promise.all(["1.10.3", "1.11.0", "1.10.2", "1.10.1"].map((version) => publish("market/up", { version })));
    expect(await pointed()).toBe("1.11.0");
  });

  test("versions are listed page by page to the end, the newest first, however long they are", async () => {
    const name = "market/paged";
    const parts = `1.0.0-${Array.from({ length: 28 }, (_, at) => at % 10).join(".")}`;
    const ascending = [
      parts,
      "1.0.0-9007199254740990",
      "1.0.0-rc.20261126223646123",
      "1.0.0-rc.100000000000000000",
      "1.0.0",
    ];
    for (const version of ascending) await publish(name, { version });
    const listed: string[] = [];
    for (let cursor: string | null = ""; cursor !== null;) {
      const path: string = `/api/market/versions?package=${name}&limit=1${cursor === "" ? "" : `&cursor=${encodeURIComponent(cursor)}`}`;
      const page = must(
        200,
        await api.fetch(path, { headers: { authorization: `Bearer ${tenant.keys.viewer}` } }),
      ).json;
      listed.push(...(page.releases as { version: string }[]).map(({ version }) => version));
      cursor = page.next_cursor as string | null;
    }
    expect(listed.toReversed()).toEqual(ascending);
  });

  test("an archive that inflates without end is refused after its first blocks, and others are served meanwhile", async () => {
    const bomb = new Uint8Array(gzipSync(new Uint8Array(48 * 1024 * 1024).fill(0x41)));
    const manifest = manifestOf("market/bomb");
    const bundle = await signRelease(signer, manifest, bomb);
    const answer = await api.fetch("/api/market/releases", uploadOf(tenant.keys.publisher, bundle, bomb));
    expect([answer.status, answer.json.code]).toEqual([422, "release_invalid"]);
    expect(await stack.listObjects("artifacts", `artifact/${await sha256Hex(bomb)}`)).toEqual([]);
  });

  test("of two tenants that publish a new name at once one gets it, and the other is told whose it is", async () => {
    for (let round = 0; round < 4; round += 1) {
      const manifest = manifestOf(`market/raced-${round}`);
      const artifact = await packageOf(manifest);
      const bundle = await signRelease(signer, manifest, artifact);
      const answers = await Promise.all(
        [tenant, stranger].map(({ keys }) =>
          api.fetch("/api/market/releases", uploadOf(keys.publisher, bundle, artifact)),
        ),
      );
      expect(answers.map(({ status }) => status).toSorted((left, right) => left - right)).toEqual([201, 403]);
      expect(answers.find(({ status }) => status === 403)?.json.rule).toBe("package_of_another_publisher");
    }
  });

  test("a publisher key is registered once, told once, and answered as it stands", async () => {
    const spki = base64((await newSigner()).spki);
    const add = (headers: Record<string, string> = {}) =>
      api.fetch("/api/market/publisher-keys", jsonCall(tenant.keys.publisher, "POST", { spki }, headers));
    const key = { "idempotency-key": freshKey() };
    const first = await add();
    const second = await add(key);
    const replayed = await add(key);
    expect([second.json, replayed.json]).toEqual([first.json, first.json]);
    const query = `FIND events WHERE type = "mc.publisher_key.added" AND attrs.publisher_key_id = "${first.json.key_id}" SINCE 1h`;
    await expect
      .poll(
        async () => (await api.fetch("/api/pql", jsonCall(tenant.keys.admin, "POST", { query }))).json.rows.length,
        {
          timeout: 20_000,
        },
      )
      .toBe(1);
  });

  test("another publisher's package name is theirs", async () => {
    const { manifest } = await publish("market/owned");
    const next = { ...manifest, version: "2.0.0" };
    const artifact = await packageOf(next);
    const answer = await api.fetch(
      "/api/market/releases",
      uploadOf(stranger.keys.publisher, await signRelease(signer, next, artifact), artifact),
    );
    expect([answer.status, answer.json.rule]).toEqual([403, "package_of_another_publisher"]);
  });

  test("an artifact over 64 MiB is refused while it streams, whatever length it claims", async () => {
    const manifest = manifestOf("market/huge");
    const artifact = await packageOf(manifest);
    const bundle = await signRelease(signer, manifest, artifact);
    const chunk = new Uint8Array(1024 * 1024);
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        if ((sent += 1) > 80) controller.close();
        else controller.enqueue(chunk);
      },
    });
    const streamed = { ...uploadOf(tenant.keys.publisher, bundle, endless), duplex: "half" } as RequestInit;
    const answer = await fetch(`${stack.apiUrl}/api/market/releases`, streamed);
    expect(answer.status).toBeOneOf([413, 422]);
    const big = await api.fetch("/api/market/releases", {
      ...uploadOf(tenant.keys.publisher, bundle, new Uint8Array(64 * 1024 * 1024 + 1)),
    });
    expect([big.status, big.json.code]).toEqual([413, "too_large"]);
  });

  test("a refusal reaches a client that is still sending, whatever it is refused for, and so does a replay", async () => {
    const manifest = manifestOf("market/large");
    const artifact = await packageOf(manifest);
    const bundle = await signRelease(signer, manifest, artifact);
    const large = new Uint8Array(24 * 1024 * 1024);
    const upload = (key: string, headers: Record<string, string> = {}, body = large) => {
      const { headers: given, ...rest } = uploadOf(key, bundle, body);
      const all = new Headers(given);
      for (const [name, value] of Object.entries(headers)) all.set(name, value);
      return api.fetch("/api/market/releases", { ...rest, headers: all });
    };
    const { publisher, viewer } = tenant.keys;
    const once = { "idempotency-key": freshKey() };
    expect((await upload(publisher, once, artifact)).status).toBe(201);
    const answers = await Promise.all([
      upload("mk_unknown"),
      upload(viewer),
      upload(publisher, { "content-type": "text/plain" }),
      upload(publisher, { "maestro-release-bundle": "e30=" }),
      upload(publisher, once),
      api.fetch("/api/market/nowhere", { method: "POST", body: new Uint8Array(1024 * 1024) }),
      api.fetch("/api/pql", jsonCall(tenant.keys.admin, "POST", { query: "x".repeat(1024 * 1024) })),
    ]);
    expect(answers.map(({ status }) => status)).toEqual([401, 403, 415, 422, 201, 404, 413]);
    expect(answers[4].headers.get("idempotency-replayed")).toBe("true");
  });

  test.each(["Tools/upper", "a//b", "/a", "a/", "a_b", "a..b", "-a", "a".repeat(129), "", "ä", "a b"])(
    "the package name %j is refused",
    async (name) => {
      const answer = await api.fetch("/api/market/installs", jsonCall(tenant.keys.operator, "POST", { package: name }));
      expect([answer.status, answer.json.code]).toEqual([400, "invalid_request"]);
      const row = await entitle(tenant, [{ package: name, channel: "stable", allowed: true }]);
      expect(row.status).toBe(400);
    },
  );

  test.each(["1", "1.2", "v1.2.3", "01.2.3", "1.2.3 ", "latest", ""])("the version %j is refused", async (version) => {
    const query = `package=market/good&version=${encodeURIComponent(version)}`;
    const answer = await api.fetch(`/api/market/releases?${query}`, jsonCall(tenant.keys.viewer, "GET"));
    expect([answer.status, answer.json.code]).toEqual([400, "invalid_request"]);
  });
});

describe("MC-MKT-1901: entitlements", () => {
  test("no row means no; a row lets the channel it names be installed, and nothing more", async () => {
    await publish("market/entitled", { version: "1.0.0" });
    await publish("market/entitled", { version: "1.1.0-rc.1", channel: "canary" });
    const install = (channel: string) =>
      api.fetch(
        "/api/market/installs",
        jsonCall(tenant.keys.operator, "POST", { package: "market/entitled", channel }),
      );
    const missing = await install("stable");
    expect([missing.status, missing.json.rule]).toEqual([403, "entitlement_missing"]);
    await entitle(tenant, [{ package: "market/entitled", channel: "stable", allowed: true }]);
    expect((await install("stable")).json).toMatchObject({ version: "1.0.0", channel: "stable" });
    const canary = await install("canary");
    expect([canary.status, canary.json.rule]).toEqual([403, "channel_not_entitled"]);
    await entitle(tenant, [{ package: "market/entitled", channel: "canary", allowed: true }]);
    expect((await install("canary")).json).toMatchObject({ version: "1.1.0-rc.1", channel: "canary" });
    await entitle(tenant, [{ package: "market/entitled", channel: "canary", allowed: false }]);
    const taken = await install("stable");
    expect([taken.status, taken.json.rule]).toEqual([403, "entitlement_denied"]);
  });

  test("the fix that a deny names is the call that allows it", async () => {
    await publish("market/fixable");
    const install = () =>
      api.fetch("/api/market/installs", jsonCall(tenant.keys.operator, "POST", { package: "market/fixable" }));
    const { fix } = (await install()).json;
    expect((await api.fetch(fix.path, jsonCall(tenant.keys.admin, fix.method, fix.body))).status).toBe(200);
    expect((await install()).status).toBe(201);
  });

  test("the set has a version that is its ETag; an older If-Match is refused and changes nothing", async () => {
    const before = await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.viewer, "GET"));
    const etag = before.headers.get("etag")!;
    expect(etag).toBe(`"v${before.json.version}"`);
    const row = { package: "market/etag", channel: "stable", allowed: true };
    const first = await entitle(tenant, [row], { "if-match": etag });
    expect([first.status, first.headers.get("etag")]).toEqual([200, `"v${before.json.version + 1}"`]);
    const stale = await entitle(tenant, [{ ...row, allowed: false }], { "if-match": etag });
    expect([stale.status, stale.json.code]).toEqual([412, "version_conflict"]);
    const after = await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.viewer, "GET"));
    expect(after.json.entitlements).toContainEqual({
      ...row,
      version_range: null,
      run_windows: null,
      runs_per_day_max: null,
    });
  });

  test("If-Match may list ETags of which one is current, and a weak one is none", async () => {
    const current = async () =>
      (await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.viewer, "GET"))).headers.get("etag")!;
    const row = { package: "market/etag-list", channel: "stable", allowed: true };
    const answers = [
      await entitle(tenant, [row], { "if-match": `"v0", ${await current()}` }),
      await entitle(tenant, [row], { "if-match": "*" }),
      await entitle(tenant, [row], { "if-match": `W/${await current()}` }),
      await entitle(tenant, [row], { "if-match": '"v0", "v1"' }),
    ];
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 412, 412]);
  });

  test("twenty changes at once are all there, each with a version of its own", async () => {
    const start = (await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.viewer, "GET"))).json.version;
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        entitle(tenant, [{ package: `market/many-${at}`, channel: "stable", allowed: true }]),
      ),
    );
    const versions = answers.map(({ json }) => json.version).toSorted((left, right) => left - right);
    expect(versions).toEqual(Array.from({ length: 20 }, (_, at) => start + 1 + at));
    const rows = (await api.fetch("/api/market/entitlements", jsonCall(tenant.keys.viewer, "GET"))).json.entitlements;
    expect(rows.filter((row: { package: string }) => row.package.startsWith("market/many-"))).toHaveLength(20);
  });

  test("once a PUT has answered, no check sees the old answer", async () => {
    await publish("market/flip");
    for (const allowed of [true, false, true, false, true]) {
      await entitle(tenant, [{ package: "market/flip", channel: "stable", allowed }]);
      const answer = await api.fetch(
        "/api/market/installs",
        jsonCall(tenant.keys.operator, "POST", { package: "market/flip" }),
      );
      expect(answer.status).toBe(allowed ? 201 : 403);
    }
  });

  test("a key used twice changes once; with another body it is a conflict", async () => {
    const key = { "idempotency-key": freshKey() };
    const row = { package: "market/once", channel: "stable", allowed: true };
    const [first, second] = await Promise.all([entitle(tenant, [row], key), entitle(tenant, [row], key)]);
    expect(first.json).toEqual(second.json);
    const other = await entitle(tenant, [{ ...row, allowed: false }], key);
    expect([other.status, other.json.code]).toEqual([409, "idempotency_conflict"]);
  });

  test("one tenant's entitlements are not another's", async () => {
    await entitle(tenant, [{ package: "market/mine", channel: "stable", allowed: true }]);
    const rows = (await api.fetch("/api/market/entitlements", jsonCall(stranger.keys.admin, "GET"))).json.entitlements;
    expect(rows).toEqual([]);
  });
});

test("first installs at once are one install, told once", async () => {
  await publish("market/at-once");
  await entitle(tenant, [{ package: "market/at-once", channel: "stable", allowed: true }]);
  const install = () =>
    api.fetch("/api/market/installs", jsonCall(tenant.keys.operator, "POST", { package: "market/at-once" }));
  const answers = await Promise.all([install(), install(), install()]);
  const ids = answers.filter(({ status }) => status === 201).map(({ json }) => json.id);
  expect(new Set(ids).size).toBe(1);
  const installs = (await api.fetch("/api/market/installs", jsonCall(tenant.keys.viewer, "GET"))).json.installs;
  expect(installs.find((row: { package: string }) => row.package === "market/at-once").id).toBe(ids[0]);
});

describe("artifacts", () => {
  test("a tenant that installed a release gets its bytes; any other gets the 404 of a digest that is not there", async () => {
    const { artifact } = await publish("market/fetched");
    const digest = await sha256Hex(artifact);
    await entitle(stranger, [{ package: "market/fetched", channel: "stable", allowed: true }]);
    const before = await api.fetch(`/api/market/artifacts/${digest}`, jsonCall(stranger.keys.operator, "GET"));
    const absent = await api.fetch(`/api/market/artifacts/${"0".repeat(64)}`, jsonCall(stranger.keys.operator, "GET"));
    expect({ ...before.json, request_id: "" }).toEqual({ ...absent.json, request_id: "" });
    await api.fetch("/api/market/installs", jsonCall(stranger.keys.operator, "POST", { package: "market/fetched" }));
    const after = await api.fetch(`/api/market/artifacts/${digest}`, jsonCall(stranger.keys.operator, "GET"));
    expect(after.bytes).toEqual(artifact);
  });
});
