// What takes another person, or a person at all: keys count as the one who made them, and no service lifts a bar.

import { sql } from "drizzle-orm";
import { beforeAll, describe, expect, test } from "vitest";
import { inBatch } from "../../shared/tenancy/database.ts";
import { databaseAs } from "../support/api.ts";
import { Market } from "../support/installs.ts";
import { contractOf } from "../support/openapi.ts";
import { anotherPerson } from "../support/people.ts";
import {
  jsonCall,
  manifestOf,
  must,
  packageOf,
  registeredSigner,
  signRelease,
  uploadOf,
} from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let market: Market;
let count = 0;
const newName = (): string => `four-eyes/package-${(count += 1)}`;

beforeAll(async () => {
  const api = await contractOf(stack.apiUrl);
  const tenant = await stack.seedTenant("four-eyes");
  market = new Market(api, tenant, await registeredSigner(api, tenant), tenant);
});

const keyBy = async (key: string, role: string): Promise<string> =>
  String(must(201, await market.api.fetch("/api/keys", jsonCall(key, "POST", { role }))).json.key);

describe("a release that waits for review", () => {
  const uploaded = async (key: string): Promise<string> => {
    const manifest = manifestOf(newName());
    const artifact = await packageOf(manifest);
    const bundle = await signRelease(market.signer, manifest, artifact);
    return String(must(201, await market.api.fetch("/api/market/releases", uploadOf(key, bundle, artifact))).json.id);
  };
  const approve = (key: string, id: string) =>
    market.api.fetch(`/api/market/reviews/${id}/approve`, jsonCall(key, "POST", {}));

  test("is not approved with a key that its uploader made, in either direction or beside it", async () => {
    const { admin } = market.tenant.keys;
    const [publishing, reviewing] = [await keyBy(admin, "publisher"), await keyBy(admin, "reviewer")];
    for (const [uploader, reviewer] of [
      [admin, reviewing],
      [publishing, admin],
      [publishing, reviewing],
    ] as const) {
      const refused = await approve(reviewer, await uploaded(uploader));
      expect([refused.status, refused.json.rule]).toEqual([403, "own_release"]);
      expect(refused.json.fix).toMatchObject({ method: null, path: null, body: null });
    }
  });

  test("is approved by another person, and by a key of that person", async () => {
    const other = await anotherPerson(stack, market.tenant, "admin");
    const { admin, publisher, reviewer } = market.tenant.keys;
    for (const [uploader, approver] of [
      [admin, other],
      [admin, await keyBy(other, "reviewer")],
      [publisher, reviewer],
    ] as const) {
      expect((await approve(approver, await uploaded(uploader))).json).toMatchObject({ state: "published" });
    }
  });
});

test("who made a key stays known, to the head of the chain", async () => {
  const child = await keyBy(market.tenant.keys.admin, "admin");
  const grandchild = await keyBy(child, "viewer");
  const idOf = async (key: string): Promise<string> =>
    String((await market.api.fetch("/api/whoami", jsonCall(key, "GET"))).json.principal_id);
  const [rows] = await inBatch(databaseAs(stack, "owner"), [
    sql`select created_by, origin_id from principals where id = ${await idOf(grandchild)}`,
  ]);
  expect(rows).toEqual([{ created_by: await idOf(child), origin_id: market.tenant.principals.admin }]);
});

describe("a bar", () => {
  const bar = (key: string, name: string, barred: boolean) =>
    market.put("/api/market/bars", { package: name, version: "1.0.0", barred, reason: "a test" }, key);
  const barred = async (name: string): Promise<boolean> => (await market.status(name)).bars.length > 0;

  test("is placed by a service, and lifted by a person alone", async () => {
    const name = newName();
    await market.publish(name, "1.0.0");
    const automation = await keyBy(market.tenant.keys.admin, "operator");
    must(200, await bar(automation, name, true));
    for (const service of [automation, await keyBy(market.tenant.keys.admin, "admin")]) {
      const refused = await bar(service, name, false);
      expect([refused.status, refused.json.rule, refused.json.fix.path]).toEqual([403, "bar_lift_by_person", null]);
    }
    expect(await barred(name)).toBe(true);
    must(200, await bar(await stack.issueToken({ subject: market.tenant.local_subjects.operator }), name, false));
    expect(await barred(name)).toBe(false);
    await expect
      .poll(
        () => market.events(`type = "mc.policy.decision" AND rule = "bar_lift_by_person" AND package = "${name}"`),
        {
          timeout: 20_000,
        },
      )
      .toHaveLength(2);
  });

  test("is not lifted by nobody, as the health gate is: the database refuses it", async () => {
    const name = newName();
    await market.publish(name, "1.0.0");
    must(200, await bar(market.tenant.keys.operator, name, true));
    const lift = inBatch(databaseAs(stack, "owner"), [
      sql`update release_bars set lifted_at = now(), lifted_by = null where package = ${name}`,
    ]);
    await expect(lift).rejects.toMatchObject({ code: "23514" });
    expect(await barred(name)).toBe(true);
  });
});
