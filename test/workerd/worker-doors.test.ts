// The entrypoints of the platform's workers, listed by reflection: a method that is new to one is behind its door, and in the
// Rego's table, or these tests fail. And the same calls over real bindings, inside workerd.

import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { methodNames } from "../../shared/identity/platform/worker-door.ts";
import type { GuardedService } from "../../shared/identity/platform/service.ts";
import * as api from "../../workers/api/index.ts";
import { meterCalls, partsOf as apiParts } from "../../workers/api/compose.ts";
import * as audit from "../../workers/audit/index.ts";
import { partsOf as auditParts } from "../../workers/audit/compose.ts";
import * as signer from "../../workers/signer/index.ts";
import { partsOf as signerParts } from "../../workers/signer/compose.ts";
import tableText from "../../policy/rego/workers.rego?raw";

type Env = Parameters<typeof apiParts>[0] & Parameters<typeof auditParts>[0] & Parameters<typeof signerParts>[0];
const bound = env as unknown as Env & { readonly AUDIT_WORKER_KEY: string };

const callees = [
  { callee: "signer", caller: "api", target: signerParts(bound).signer },
  { callee: "authority", caller: "api", target: signerParts(bound).authority },
  { callee: "audit", caller: "api", target: auditParts(bound).service },
  { callee: "api", caller: "audit", target: meterCalls(bound) },
] as const;

/** callee → caller → methods, as the Rego has them. */
const table = JSON.parse(
  tableText
    .slice(tableText.indexOf("methods := ") + "methods := ".length)
    .replaceAll(/\{((?:\s*"[A-Za-z]+",?)+)\s*\}/g, "[$1]")
    .replaceAll(/,(\s*[\]}])/g, "$1"),
) as Record<string, Record<string, string[]>>;

test("an entrypoint has its door and nothing else; the authority has what comes before any SVID, too", () => {
  const entrypoints = [api.MeterService, audit.AuditService, signer.SignerService, signer.AuthorityService];
  expect(entrypoints.map(({ prototype }) => Object.getOwnPropertyNames(prototype).toSorted())).toEqual([
    ["call", "constructor"],
    ["call", "constructor"],
    ["call", "constructor"],
    ["bundle", "call", "constructor", "issue"],
  ]);
  const classes = Object.values({ ...api, ...audit, ...signer }).filter((value) => typeof value === "function");
  const found = classes.filter((one) => Object.getOwnPropertyNames(one.prototype).includes("call"));
  expect(found).toHaveLength(entrypoints.length);
});

test("what a worker can do for another one is what the Rego's table lets that one call, to the letter", () => {
  const classes = Object.fromEntries(
    callees.map(({ callee, caller, target }) => [
      callee,
      { [caller]: ["introduce", ...methodNames(target)].toSorted() },
    ]),
  );
  const listed = Object.fromEntries(
    Object.entries(table).map(([callee, callers]) => [
      callee,
      Object.fromEntries(Object.entries(callers).map(([caller, names]) => [caller, names.toSorted()])),
    ]),
  );
  expect(listed).toEqual(classes);
});

test("over their bindings each worker proves to the other who it is, and what comes back is what the method gives", async () => {
  const parts = apiParts(bound);
  const tenant = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001";
  expect(await parts.tufSigner.tufKeys(tenant)).toEqual(await signerParts(bound).signer.tufKeys(tenant));
  expect((await parts.signer.publishedKeys()).keys.map(({ use }) => use)).toEqual(["release"]);
  const asAudit = auditParts({ ...bound, WORKER_KEY: bound.AUDIT_WORKER_KEY });
  expect(await asAudit.caller.introduction("api", bound.METER as unknown as GuardedService)).toMatchObject({
    spiffe_id: "spiffe://platform.mc.test/platform/api",
    holds: [expect.stringMatching(/^[0-9a-f]{64}$/)],
  });
  // The scripts are one here, and so is the secret: the audit worker of these tests has the API's key.
  await expect(parts.audit.keys()).rejects.toMatchObject({ code: "worker_unavailable" });
});

test("a worker without a trust domain, or with a broken key, makes no call and takes none, and does all else", async () => {
  for (const change of [{ PLATFORM_TRUST_DOMAIN: "" }, { WORKER_KEY: "{}" }]) {
    const parts = apiParts({ ...bound, ...change });
    await expect(parts.signer.publishedKeys()).rejects.toMatchObject({ code: "worker_unavailable" });
    expect(parts.shards).toBeGreaterThan(0);
  }
  const { signerDoor, signer: target } = signerParts({ ...bound, PLATFORM_TRUST_DOMAIN: "" });
  expect(await signerDoor.call("a.b.c", "publishedKeys", [], target)).toMatchObject({
    ok: false,
    refusal: { code: "unavailable" },
  });
});
