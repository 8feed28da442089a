// Decisions by role, remembered: the ones that the policy gives, whoever asks, and none of another input.

import { readdir, readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { loadCommittedPolicy } from "../../test/support/policy.ts";
import { sampled } from "../../test/support/sampled.ts";
import { roleNames } from "../contract/names.ts";
import type { Caller } from "../tenancy/caller.ts";
import { actions, decisionInput } from "./actions.ts";
import { decide, type Policy } from "./decide.ts";
import { rememberedByRole } from "./remembered.ts";

const policy = await loadCommittedPolicy();

const yesNo = [true, false];
const credentials: Pick<Caller, "credential" | "fetcher_svids">[] = [
  { credential: "token", fetcher_svids: null },
  ...yesNo.flatMap((registered) =>
    yesNo.map((everywhere) => ({ credential: "key" as const, fetcher_svids: { registered, everywhere } })),
  ),
];

const callers = (tenant: string, principal: string): Caller[] =>
  roleNames.flatMap((role) =>
    (["person", "service"] as const).flatMap((kind) =>
      credentials.map((credential): Caller => ({
        tenant_id: tenant,
        tenant,
        principal_id: principal,
        kind,
        role,
        ...credential,
        spiffe_id: null,
        spiffe_domain: null,
      })),
    ),
  );

function counted(): { readonly remembered: Policy; readonly asked: () => number } {
  let asked = 0;
  const evaluate = (input: unknown): unknown => {
    asked += 1;
    return policy.evaluate(input);
  };
  return { remembered: rememberedByRole({ sha256: policy.sha256, evaluate }), asked: () => asked };
}

test("each action, role, kind and credential is decided as afresh, whoever asked first; the policy is asked once for each", () => {
  const { remembered, asked } = counted();
  expect(remembered.sha256).toBe(policy.sha256);
  const people = [callers("tenant-1", "pri_1"), callers("tenant-2", "pri_2"), callers("", "admin")];
  for (const [index, caller] of people.flat().entries()) {
    // The first one has each action decided; what of it the next ones are told, is drawn.
    for (const action of index < people[0]!.length ? actions : sampled(actions, 4)) {
      const input = decisionInput(action, caller);
      expect(decide(remembered, input), `${action} as ${caller.role}`).toEqual(decide(policy, input));
    }
  }
  expect(asked()).toBe(actions.length * roleNames.length * 2 * credentials.length);
});

test("of a caller without an SVID the Rego reads role, kind and credential, beside that the ids are texts", async () => {
  const folder = new URL("../../policy/rego/", import.meta.url);
  // spiffe_check.rego speaks of workloads alone, whose decisions are not remembered.
  const names = (await readdir(folder)).filter((name) => !name.endsWith("_test.rego") && name !== "spiffe_check.rego");
  const texts = await Promise.all(names.map((name) => readFile(new URL(name, folder), "utf8")));
  const lines = texts
    .flatMap((text) => text.split("\n"))
    .filter((line) => /\b(?:caller|tenant_id|principal_id)\b/.test(line));
  const shape = [
    '"tenant_id", "tenant", "principal_id", "role", "kind",',
    "object.keys(input.caller) == {",
    'object.keys(input.caller.fetcher_svids) == {"registered", "everywhere"}',
    "every value in input.caller.fetcher_svids { is_boolean(value) }",
    'every name in ["tenant_id", "tenant", "principal_id", "role", "kind"] { is_string(input.caller[name]) }',
    'object.keys(input) == {"action", "caller"}',
    'object.keys(input) == {"action", "caller", "facts"}',
  ];
  const reading = lines.map((line) => line.trim()).filter((line) => !line.startsWith("#") && !shape.includes(line));
  expect(reading.length).toBeGreaterThan(0);
  for (const line of reading)
    expect(
      line.replaceAll(/\binput\.caller\.(?:role|kind|credential|fetcher_svids|spiffe_id|spiffe_domain)\b/g, ""),
    ).not.toMatch(/\bcaller\b|_id\b/);
});

test("an input with facts, or that is not to the letter, is asked about each time", () => {
  const { remembered, asked } = counted();
  const [caller] = callers("t", "p");
  const input = decisionInput("pql.query", caller!);
  const byKey = { ...input.caller, credential: "key" };
  remembered.evaluate({ ...input, caller: { ...byKey, fetcher_svids: { registered: true, everywhere: true } } });
  const others = [
    { ...input, facts: {} },
    { ...input, caller: { ...input.caller, tenant_id: 1 } },
    { ...input, caller: { role: caller!.role, kind: caller!.kind } },
    { ...input, caller: { ...input.caller, slug: "t" } },
    { ...input, caller: { ...input.caller, spiffe_domain: "own" } },
    { ...input, caller: { ...input.caller, credential: "key" } },
    { ...input, caller: { ...input.caller, fetcher_svids: { registered: true, everywhere: true } } },
    { ...input, caller: { ...byKey, fetcher_svids: { registered: true, everywhere: "no" } } },
    { ...input, caller: { ...byKey, fetcher_svids: { registered: true, everywhere: true, more: true } } },
    { ...input, more: 1 },
    { action: "pql.query", caller: null },
    null,
  ];
  remembered.evaluate(input);
  for (const other of others) expect(remembered.evaluate(other)).toEqual([]);
  for (const other of others) expect(remembered.evaluate(other)).toEqual([]);
  expect(asked()).toBe(2 + 2 * others.length);
});

test("so many decisions are remembered, and no more", () => {
  let asked = 0;
  const remembered = rememberedByRole({ sha256: "", evaluate: () => [(asked += 1)] });
  const [caller] = callers("t", "p");
  const ask = (at: number): unknown =>
    remembered.evaluate({ ...decisionInput("pql.query", caller!), action: `made.up.${at}` });
  for (let at = 0; at < 8_100; at += 1) ask(at);
  expect([ask(0), ask(7_999)]).toEqual([[1], [8_000]]);
  expect(asked).toBe(8_100);
  expect([ask(8_000), ask(8_000)]).toEqual([[8_101], [8_102]]);
});

test("what failed is not remembered", () => {
  let isBroken = true;
  const remembered = rememberedByRole({
    sha256: policy.sha256,
    evaluate(input) {
      if (isBroken) throw new Error("injected");
      return policy.evaluate(input);
    },
  });
  const input = decisionInput("pql.query", callers("t", "p")[0]!);
  expect(decide(remembered, input).rule).toBe("policy_error");
  isBroken = false;
  expect(decide(remembered, input)).toEqual(decide(policy, input));
});
