// Decisions over the real policy: each role and action, each deny rule and its fix, and what is no decision.

import { describe, expect, test } from "vitest";
import { committedPolicyBuild, policySourceDigest } from "../../scripts/generate/policy.ts";
import { loadCommittedPolicy } from "../../test/support/policy.ts";
import { roleNames, type Role } from "../contract/names.ts";
import type { Caller } from "../tenancy/caller.ts";
import { actions, decisionInput, type Action, type ActionFacts, type FactsOf } from "./actions.ts";
import { decide, rules, type Decision, type Policy } from "./decide.ts";

const policy = await loadCommittedPolicy();

const caller = (role: Role): Caller => ({
  tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  tenant: "acme",
  principal_id: "pri_00000000000000000000000000",
  kind: "person",
  role,
  credential: "key",
});

const ask = <A extends Action>(role: Role, action: A, facts?: FactsOf<A>): Decision =>
  decide(policy, decisionInput(action, caller(role), facts));

const operator =
  "whoami.read release.read artifact.read entitlement.read install.read install.write execution.start execution.finish execution.read disclosure.link budget.read audit.read pql.query";
const auditor =
  "whoami.read release.read entitlement.read install.read execution.read disclosure.link pql.query budget.read audit.read key.list";
const mayDo: Record<Role, readonly string[]> = {
  admin: actions,
  operator: operator.split(" "),
  auditor: auditor.split(" "),
  publisher: ["whoami.read", "publisher_key.add", "release.publish", "release.read"],
  viewer: ["whoami.read", "release.read", "entitlement.read", "install.read", "execution.read", "budget.read"],
};

const run: ActionFacts["execution.start"] = {
  package: "tools/sbom-inventory",
  entitlement: { channel: "stable", allowed: true },
  install: { channel: "stable", version: "1.0.0" },
  privacy: null,
};
const install: ActionFacts["install.write"] = {
  package: "tools/sbom-inventory",
  channel: "stable",
  entitlement: { channel: "stable", allowed: true },
  release: { channel: "stable" },
};

test("the compiled policy is that of the Rego source in the tree", async () => {
  expect((await committedPolicyBuild()).source_sha256).toBe(await policySourceDigest());
});

describe("by role alone", () => {
  test.each(roleNames.flatMap((role) => actions.map((action) => [role, action] as const)))(
    "%s and %s are decided as the table says",
    (role, action) => {
      const decision = ask(role, action);
      expect(decision.allow).toBe(mayDo[role].includes(action));
      expect(decision.rule).toBe(decision.allow ? "ok" : "role_too_low");
      expect([...decision.roles_allowed].sort()).toEqual(
        roleNames.filter((name) => mayDo[name].includes(action)).sort(),
      );
    },
  );

  test("a role too low is told in words, and how to get one that does", () => {
    expect(ask("viewer", "execution.start")).toEqual({
      allow: false,
      rule: "role_too_low",
      reasons: ["The role viewer does not allow execution.start; admin, operator do."],
      roles_allowed: ["admin", "operator"],
      fix: {
        words: "Ask an admin of the tenant for a key with the role operator.",
        method: "POST",
        path: "/api/keys",
        body: { role: "operator" },
      },
    });
  });

  test("a role too low is refused with facts as without them", () => {
    expect(ask("viewer", "execution.start", run).rule).toBe("role_too_low");
  });
});

describe("with facts", () => {
  const entitled = (channel: "stable" | "canary", allowed = true) => ({ entitlement: { channel, allowed } });
  const cases: [string, Decision, string][] = [
    ["an entitled run of an installed package", ask("operator", "execution.start", run), "ok"],
    [
      "a run without an entitlement",
      ask("operator", "execution.start", { ...run, entitlement: null }),
      "entitlement_missing",
    ],
    [
      "a run that the entitlement forbids",
      ask("operator", "execution.start", { ...run, ...entitled("stable", false) }),
      "entitlement_denied",
    ],
    [
      "a canary run on a stable entitlement",
      ask("operator", "execution.start", { ...run, install: { channel: "canary", version: "1.0.0" } }),
      "channel_not_entitled",
    ],
    [
      "a stable run on a canary entitlement",
      ask("operator", "execution.start", { ...run, ...entitled("canary") }),
      "ok",
    ],
    ["a run of what is not installed", ask("operator", "execution.start", { ...run, install: null }), "not_installed"],
    [
      "a run beyond the privacy budget",
      ask("operator", "execution.start", {
        ...run,
        privacy: { remaining_units: 999_999_999_999, units: 1_000_000_000_000 },
      }),
      "privacy_budget_exceeded",
    ],
    [
      "a run within the privacy budget",
      ask("operator", "execution.start", { ...run, privacy: { remaining_units: 5, units: 5 } }),
      "ok",
    ],
    ["an entitled install", ask("operator", "install.write", install), "ok"],
    [
      "an install without an entitlement",
      ask("operator", "install.write", { ...install, entitlement: null }),
      "entitlement_missing",
    ],
    [
      "an install that the entitlement forbids",
      ask("operator", "install.write", { ...install, ...entitled("canary", false) }),
      "entitlement_denied",
    ],
    [
      "an install from canary on a stable entitlement",
      ask("operator", "install.write", { ...install, channel: "canary" }),
      "channel_not_entitled",
    ],
    [
      "an install of a package that has no release",
      ask("operator", "install.write", { ...install, release: null }),
      "ok",
    ],
    [
      "the first release of a package",
      ask("publisher", "release.publish", { package: "a", package_owner: "none" }),
      "ok",
    ],
    [
      "a further release of one's own",
      ask("publisher", "release.publish", { package: "a", package_owner: "self" }),
      "ok",
    ],
    [
      "a release of a foreign package",
      ask("publisher", "release.publish", { package: "a", package_owner: "other" }),
      "package_of_another_publisher",
    ],
  ];
  test.each(cases)("%s is decided", (_, decision, rule) => {
    expect(decision.rule).toBe(rule);
    expect(decision.allow).toBe(rule === "ok");
    expect(decision.fix === null).toBe(rule === "ok");
  });

  test("every deny rule of the catalogue is met by a case above", () => {
    const met = new Set([...cases.map(([, , rule]) => rule), "role_too_low", "policy_error"]);
    expect([...met].sort()).toEqual([...rules].sort());
  });

  test("the entitlement that a fix proposes turns the answer to allow", () => {
    for (const channel of ["stable", "canary"] as const) {
      for (const entitlement of [
        null,
        { channel: "stable", allowed: false },
        { channel: "canary", allowed: false },
        { channel: "stable", allowed: true },
      ] as const) {
        const facts = { ...run, install: { channel, version: "1.0.0" }, entitlement };
        const before = ask("operator", "execution.start", facts);
        if (before.allow) continue;
        const body = before.fix?.body as {
          entitlements: [{ package: string; channel: "stable" | "canary"; allowed: boolean }];
        };
        const { package: name, ...proposed } = body.entitlements[0];
        expect(name).toBe(run.package);
        expect(ask("operator", "execution.start", { ...facts, entitlement: proposed }).rule).toBe("ok");
      }
    }
  });

  test("whole numbers of a deny are written as they are", () => {
    const spent = ask("operator", "execution.start", {
      ...run,
      privacy: { remaining_units: -7, units: 1_000_000_000_000 },
    });
    expect(spent.reasons).toEqual([
      "The run needs 1000000000000 micro-epsilon, and -7 are left of the tenant's privacy budget.",
    ]);
    expect(spent.fix?.words).toContain("by 1000000000007 micro-epsilon");
  });
});

describe("what is no decision is a deny", () => {
  const answering = (result: unknown): Policy => ({ sha256: "", evaluate: () => result });
  const allow = { allow: true, rule: "ok", reasons: [], roles_allowed: ["admin"], fix: null };
  const deny = { allow: false, rule: "not_installed", reasons: ["It is not."], roles_allowed: ["admin"], fix: null };
  const input = decisionInput("whoami.read", caller("admin"));

  test("a well-formed result set is taken as it is", () => {
    expect(decide(answering([{ result: allow }]), input)).toEqual(allow);
    expect(decide(answering([{ result: deny }]), input)).toEqual(deny);
  });

  test.each<[string, unknown]>([
    ["an undefined rule", []],
    ["true", true],
    ["OPA's bare true", [{ result: true }]],
    ["two results", [{ result: allow }, { result: allow }]],
    ["a result with more beside it", [{ result: allow, other: 1 }]],
    ["an unknown field", [{ result: { ...allow, note: "" } }]],
    ["a missing field", [{ result: { allow: true, rule: "ok", reasons: [], fix: null } }]],
    ["an allow that names a deny rule", [{ result: { ...allow, rule: "role_too_low" } }]],
    ["an allow with a reason", [{ result: { ...allow, reasons: ["because"] } }]],
    ["an allow for no role", [{ result: { ...allow, roles_allowed: [] } }]],
    ["a deny without a reason", [{ result: { ...deny, reasons: [] } }]],
    ["a deny by rule ok", [{ result: { ...deny, rule: "ok" } }]],
    ["a deny by an unknown rule", [{ result: { ...deny, rule: "because" } }]],
    ["a truthy word", [{ result: { ...allow, allow: "true" } }]],
    ["an unknown role", [{ result: { ...allow, roles_allowed: ["root"] } }]],
    ["a fix of another shape", [{ result: { ...deny, fix: { words: "do it" } } }]],
    [
      "a fix on another host",
      [{ result: { ...deny, fix: { words: "do it", method: "GET", path: "https://x", body: null } } }],
    ],
    ["null", null],
  ])("%s", (_, result) => {
    expect(decide(answering(result), input)).toMatchObject({ allow: false, rule: "policy_error" });
  });

  test("an exception of the evaluator", () => {
    const throwing: Policy = {
      sha256: "",
      evaluate: () => {
        throw "opa_abort: object insert conflict";
      },
    };
    expect(decide(throwing, input)).toMatchObject({ allow: false, rule: "policy_error", fix: null });
  });

  test.each<[string, unknown]>([
    ["an unknown action", { ...input, action: "tenant.delete" }],
    ["an unknown field", { ...input, flags: {} }],
    ["a caller without a role", { action: "whoami.read", caller: {} }],
    ["facts that its action has no rules for", { ...input, facts: run }],
    ["facts that are not an object", { ...input, action: "execution.start", facts: null }],
    ["facts without a field", { ...input, action: "execution.start", facts: { ...run, entitlement: undefined } }],
    [
      "an install without a channel",
      { ...input, action: "execution.start", facts: { ...run, install: { version: "1.0.0" } } },
    ],
  ])("the real policy decides nothing on %s", (_, foreign) => {
    expect(decide(policy, foreign as Parameters<typeof decide>[1])).toMatchObject({ rule: "policy_error" });
  });
});
