// `maestro status` against the real stack: is it well, and when was each identity last rotated.

import { beforeAll, expect, test } from "vitest";
import { maestro, testFolder, testHost } from "../../cli/testing/host.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Role } from "../../shared/contract/names.ts";
import { callsAs, TestDomain } from "../support/identities.ts";
import { contractOf } from "../support/openapi.ts";
import { must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
let tenant: SeededTenant;
let domain: TestDomain;
let admin: ReturnType<typeof callsAs>;

beforeAll(async () => {
  tenant = await stack.seedTenant("cli-status");
  admin = callsAs(await contractOf(stack.apiUrl), { authorization: `Bearer ${tenant.keys.admin}` });
  domain = await TestDomain.make("cli-status.example");
  must(204, await admin.state(domain.name));
  must(200, await admin.handIn(domain.name, domain.document()));
});

async function statusAs(role: Role, ...words: string[]) {
  const env = { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] };
  return await maestro(testHost({ home: testFolder(), env }), "status", ...words);
}

interface Shown {
  readonly status: string;
  readonly signing_keys: readonly { readonly use: string; readonly last_rotated_at: string }[];
  readonly trust_domains: readonly { readonly name: string; readonly bundle: Record<string, unknown> }[] | null;
  readonly rotations: readonly unknown[] | null;
}

const shownTo = async (role: Role): Promise<Shown> => {
  const { code, err, json } = await statusAs(role, "--json");
  expect([code, err]).toEqual([0, ""]);
  return json() as unknown as Shown;
};

test("it says of every signing key and trust domain when it was last rotated, and of an authority when it ends", async () => {
  const before = await shownTo("auditor");
  expect(before).toMatchObject({ status: "ok", rotations: expect.any(Array) as unknown });
  expect(before.signing_keys.map(({ use }) => use).sort()).toEqual(
    expect.arrayContaining(["checkpoint", "link", "manifest", "pack", "receipt", "release"]),
  );
  const own = (shown: Shown) => shown.trust_domains?.find(({ name }) => name === domain.name)?.bundle;
  const changed = String(own(before)?.["changed_at"]);
  expect(own(before)).toMatchObject({ alarm: false, first_authority_ends_at: expect.any(String) as unknown });
  must(200, await admin.handIn(domain.name, domain.document()));
  expect(String(own(await shownTo("admin"))?.["changed_at"]) > changed).toBe(true);
  const words = await statusAs("admin");
  expect(words.out).toMatch(
    /service\s+ok[\s\S]+signing key[\s\S]+^worker[\s\S]+platform\/signer[\s\S]+cli-status\.example/m,
  );
});

test("it says of a trust domain why no bundle comes, while the last one stays in force", async () => {
  must(422, await admin.handIn(domain.name, "{}"));
  expect((await statusAs("auditor")).out).toMatch(/^cli-status\.example\b.*the bundle has no list of keys/m);
  must(200, await admin.handIn(domain.name, domain.document()));
  expect((await statusAs("auditor")).out).not.toContain("no list of keys");
});

test("a bundle that is confirmed and not changed is not rotated", async () => {
  const document = domain.document();
  must(200, await admin.handIn(domain.name, document));
  const changedAt = async () =>
    (await shownTo("admin")).trust_domains?.find(({ name }) => name === domain.name)?.bundle["changed_at"];
  const changed = await changedAt();
  must(200, await admin.handIn(domain.name, document));
  expect(await changedAt()).toBe(changed);
});

test("a role that may not read identities is told so, and sees the rest", async () => {
  const shown = await shownTo("viewer");
  expect(shown).toMatchObject({ status: "ok", trust_domains: null, rotations: null });
  expect((await statusAs("viewer")).out).toContain("this role may not read them");
});
