// Decisions over the real policy: each role and action, each deny rule and its fix, and what is no decision.

import { describe, expect, test } from "vitest";
import { committedPolicyBuild, policySourceDigest } from "../../scripts/generate/policy.ts";
import { loadCommittedPolicy } from "../../test/support/policy.ts";
import { entitlementUpsert, type RunWindow } from "../contract/http-entitlements.ts";
import { flagsOn } from "../contract/http-flags.ts";
import { roleNames, type Channel, type Role } from "../contract/names.ts";
import type { Caller } from "../tenancy/caller.ts";
import {
  actions,
  decisionInput,
  type Action,
  type ActionFacts,
  type EntitlementFact,
  type FactsOf,
} from "./actions.ts";
import { decide, rules, type Decision, type Policy } from "./decide.ts";

const policy = await loadCommittedPolicy();

const caller = (role: Role, kind: Caller["kind"] = "person"): Caller => ({
  tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  tenant: "acme",
  principal_id: "pri_00000000000000000000000000",
  kind,
  role,
  credential: "key",
  fetcher_svids: { registered: false, everywhere: true },
  spiffe_id: null,
  spiffe_domain: null,
});

const ask = <A extends Action>(role: Role, action: A, facts?: FactsOf<A>): Decision =>
  decide(policy, decisionInput(action, caller(role), facts));

/** An admin by SVID. */
const byWorkload = (action: Action, spiffe_id: string, spiffe_domain: "own" | "shared"): Decision =>
  decide(
    policy,
    decisionInput(action, {
      ...caller("admin", "service"),
      credential: "svid",
      fetcher_svids: null,
      spiffe_id,
      spiffe_domain,
    }),
  );

/** A fetcher by key, whose tenant has registered a fetcher's SPIFFE ID. */
const byFetchersKey = (everywhere: boolean): Decision =>
  decide(
    policy,
    decisionInput("edge.report", { ...caller("fetcher", "service"), fetcher_svids: { registered: true, everywhere } }),
  );

const operator =
  "whoami.read release.read artifact.read entitlement.read entitlement.propose explain.ask install.read install.write install.pin upgrade.start rollback.start package.freeze bar.write execution.start execution.finish execution.read disclosure.link budget.read audit.read pql.query flag.read metrics.read policy.read policy.roll_back edge.read edge.forget rotation.read rotation.acknowledge";
const auditor =
  "whoami.read release.read entitlement.read explain.ask install.read execution.read disclosure.link pql.query budget.read audit.read key.list flag.read metrics.read policy.read edge.read identity.read rotation.read";
const publisher =
  "whoami.read publisher_key.add release.publish release.yank release.read channel.move artifact.read explain.ask policy.read policy.publish policy.promote edge.read";
const viewer =
  "whoami.read release.read entitlement.read explain.ask install.read execution.read budget.read flag.read metrics.read policy.read edge.read";
const mayDo: Record<Role, readonly string[]> = {
  // A report is of the one who runs it.
  admin: actions.filter((action) => action !== "edge.report"),
  operator: operator.split(" "),
  auditor: auditor.split(" "),
  publisher: publisher.split(" "),
  reviewer: ["whoami.read", "release.read", "release.review", "artifact.read", "explain.ask"],
  viewer: viewer.split(" "),
  fetcher: ["whoami.read", "edge.report"],
};

const entitledOn = (channel: Channel, allowed = true): EntitlementFact => ({
  channel,
  allowed,
  version_range: null,
  run_windows: null,
  runs_per_day_max: null,
});
const run: ActionFacts["execution.start"] = {
  package: "tools/sbom-inventory",
  flags: flagsOn,
  entitlement: entitledOn("stable"),
  install_name: "default",
  install: { channel: "stable", version: "1.0.0" },
  in_range: true,
  clock: { weekday: "tue", minute: 600 },
  runs_today: 0,
  privacy: null,
  installing: null,
};
const move = {
  package: "tools/sbom-inventory",
  channel: "stable",
  flags: flagsOn,
  entitlement: entitledOn("stable"),
  release: { version: "1.0.0", state: "published", barred: false, alternative: null },
  in_range: true,
  frozen: false,
} as const;
const install: ActionFacts["install.write"] = { ...move, install: null };
const upgrade: ActionFacts["upgrade.start"] = {
  ...move,
  installs: { count: 2, pinned: 1 },
  gate_holds: false,
  cohort_percent: 50,
};
const rollback: ActionFacts["rollback.start"] = {
  package: "tools/sbom-inventory",
  version: null,
  installs: { count: 2 },
  barred: false,
};
const byService = (lifts: boolean): Decision =>
  decide(policy, decisionInput("bar.write", caller("operator", "service"), { package: "a", version: "1.0.0", lifts }));
const spent = (remaining: number, units: number): ActionFacts["execution.start"]["privacy"] => ({
  units,
  remaining_units: remaining,
  limit_needed_units: units,
  leak_units_per_hour: 5,
});

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
    const words = {
      reason: "The role viewer does not allow execution.start; admin, operator do.",
      fix: {
        words: "Ask an admin of the tenant for a key with the role operator.",
        method: "POST",
        path: "/api/keys",
        body: { role: "operator" },
      },
    };
    expect(ask("viewer", "execution.start")).toEqual({
      allow: false,
      rule: "role_too_low",
      reasons: [words.reason],
      roles_allowed: ["admin", "operator"],
      fix: words.fix,
      obstacles: [{ rule: "role_too_low", ...words, effect: { facts: {}, role: "operator" } }],
    });
  });

  test("a role too low is refused with facts as without them", () => {
    expect(ask("viewer", "execution.start", run).rule).toBe("role_too_low");
  });
});

describe("with facts", () => {
  const entitled = (channel: Channel, allowed = true) => ({ entitlement: entitledOn(channel, allowed) });
  const constrained = (given: Partial<EntitlementFact>) => ({ entitlement: { ...entitledOn("stable"), ...given } });
  const off = { market_entitlements: false, market_channels: false };
  const closed: RunWindow = { days: ["mon"], from: "00:00", to: "24:00" };
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
        privacy: spent(999_999_999_999, 1_000_000_000_000),
      }),
      "privacy_budget_exceeded",
    ],
    ["a run within the privacy budget", ask("operator", "execution.start", { ...run, privacy: spent(5, 5) }), "ok"],
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
    [
      "a run of a version out of range",
      ask("operator", "execution.start", { ...run, ...constrained({ version_range: ">=2.0.0" }), in_range: false }),
      "version_not_entitled",
    ],
    [
      "an install of a version out of range",
      ask("operator", "install.write", { ...install, ...constrained({ version_range: ">=2.0.0" }), in_range: false }),
      "version_not_entitled",
    ],
    [
      "a run outside its windows",
      ask("operator", "execution.start", { ...run, ...constrained({ run_windows: [closed] }) }),
      "outside_run_window",
    ],
    [
      "a run with no window at all",
      ask("operator", "execution.start", { ...run, ...constrained({ run_windows: [] }) }),
      "outside_run_window",
    ],
    [
      "a run in the first minute of a window",
      ask("operator", "execution.start", {
        ...run,
        ...constrained({ run_windows: [closed, { days: ["tue"], from: "10:00", to: "10:01" }] }),
      }),
      "ok",
    ],
    [
      "a run in the minute in which a window ends",
      ask("operator", "execution.start", {
        ...run,
        ...constrained({ run_windows: [{ days: ["tue"], from: "09:08", to: "10:00" }] }),
      }),
      "outside_run_window",
    ],
    [
      "the last run of a day",
      ask("operator", "execution.start", { ...run, ...constrained({ runs_per_day_max: 3 }), runs_today: 2 }),
      "ok",
    ],
    [
      "a run beyond the day's cap",
      ask("operator", "execution.start", { ...run, ...constrained({ runs_per_day_max: 3 }), runs_today: 3 }),
      "run_cap_reached",
    ],
    [
      "an install from canary while channels are off",
      ask("operator", "install.write", {
        ...install,
        ...entitled("canary"),
        channel: "canary",
        flags: { ...off, market_entitlements: true },
      }),
      "channels_off",
    ],
    [
      "an install from stable while channels are off",
      ask("operator", "install.write", { ...install, flags: { ...off, market_entitlements: true } }),
      "ok",
    ],
    [
      "an operator's run while entitlements are off",
      ask("operator", "execution.start", { ...run, flags: off }),
      "entitlements_off",
    ],
    [
      "an install of a yanked release",
      ask("operator", "install.write", { ...install, release: { ...move.release, state: "yanked" } }),
      "release_yanked",
    ],
    [
      "an install of a barred release",
      ask("operator", "install.write", { ...install, release: { ...move.release, barred: true } }),
      "release_barred",
    ],
    [
      "an install of a frozen package",
      ask("operator", "install.write", { ...install, frozen: true }),
      "package_frozen",
    ],
    [
      "a move of a pinned install",
      ask("operator", "install.write", { ...install, install: { name: "edge-1", pinned: true } }),
      "install_pinned",
    ],
    ["an upgrade", ask("operator", "upgrade.start", upgrade), "ok"],
    [
      "an upgrade of what is all pinned",
      ask("operator", "upgrade.start", { ...upgrade, installs: { count: 2, pinned: 2 } }),
      "install_pinned",
    ],
    [
      "an upgrade of what is not installed",
      ask("operator", "upgrade.start", { ...upgrade, installs: { count: 0, pinned: 0 } }),
      "not_installed",
    ],
    [
      "a wider cohort while the gate holds",
      ask("operator", "upgrade.start", { ...upgrade, gate_holds: true }),
      "gate_holds",
    ],
    ["a rollback", ask("operator", "rollback.start", rollback), "ok"],
    [
      "a rollback of what is not installed",
      ask("operator", "rollback.start", { ...rollback, installs: { count: 0 } }),
      "not_installed",
    ],
    [
      "a rollback to a barred version",
      ask("operator", "rollback.start", { ...rollback, version: "1.0.0", barred: true }),
      "release_barred",
    ],
    [
      "a rollback of installs that can go nowhere",
      ask("operator", "rollback.start", { ...rollback, installs: { count: 2, can_go_back: 0, barred_way: null } }),
      "nothing_to_roll_back",
    ],
    [
      "a rollback of installs of which one can go back",
      ask("operator", "rollback.start", { ...rollback, installs: { count: 2, can_go_back: 1, barred_way: null } }),
      "ok",
    ],
    ["a bar that a person lifts", ask("operator", "bar.write", { package: "a", version: "1.0.0", lifts: true }), "ok"],
    ["a bar that a service lifts", byService(true), "bar_lift_by_person"],
    ["a bar that a service places", byService(false), "ok"],
    ["a review", ask("reviewer", "release.review", { package: "a", version: "1.0.0", own: false }), "ok"],
    [
      "a review of one's own release",
      ask("admin", "release.review", { package: "a", version: "1.0.0", own: true }),
      "own_release",
    ],
    ["an approval", ask("admin", "entitlement.approve", { change_id: "chg_1", own: false }), "ok"],
    [
      "an approval of one's own change",
      ask("admin", "entitlement.approve", { change_id: "chg_1", own: true }),
      "own_change",
    ],
    ["a fetcher's key where fetchers have SVIDs", byFetchersKey(true), "svid_needed"],
    ["a fetcher's key where they need none", byFetchersKey(false), "ok"],
    ["an ID of the tenant's own domain", byWorkload("whoami.read", "spiffe://acme.example/a", "own"), "ok"],
    ["an ID below its tenant", byWorkload("whoami.read", "spiffe://mc.local/tenant/acme/admin/a", "shared"), "ok"],
    [
      "an ID below another tenant",
      byWorkload("whoami.read", "spiffe://mc.local/tenant/other/admin/a", "shared"),
      "spiffe_id_of_another_tenant",
    ],
    [
      "an ID that names another role",
      byWorkload("whoami.read", "spiffe://mc.local/tenant/acme/viewer/a", "shared"),
      "spiffe_id_of_another_role",
    ],
    [
      "a workload that would erase a person",
      byWorkload("principal.erase", "spiffe://acme.example/a", "own"),
      "person_needed",
    ],
    [
      "an approval of one's own emergency",
      ask("admin", "rotation.approve", { curates: true, own_domain: false, rotation_id: "rot_1", own: true }),
      "own_change",
    ],
    [
      "a rotation by a tenant that does not curate",
      ask("admin", "rotation.start", { curates: false, own_domain: false }),
      "tenant_not_curating",
    ],
    [
      "taking a rotation back, by an operator",
      ask("operator", "rotation.cancel", { curates: true, own_domain: false }),
      "role_too_low",
    ],
    [
      "taking a rotation back, by a tenant that does not curate",
      ask("admin", "rotation.cancel", { curates: false, own_domain: false }),
      "tenant_not_curating",
    ],
    ["a rotation by a tenant that curates", ask("admin", "rotation.start", { curates: true, own_domain: false }), "ok"],
  ];
  test.each(cases)("%s is decided", (_, decision, rule) => {
    expect(decision.rule).toBe(rule);
    expect(decision.allow).toBe(rule === "ok");
    expect(decision.fix === null).toBe(rule === "ok");
  });

  test("while entitlements are off an admin may, by a rule that the log is told of", () => {
    const decision = ask("admin", "execution.start", { ...run, entitlement: null, flags: off });
    expect([decision.allow, decision.rule, decision.obstacles]).toEqual([true, "entitlements_off", []]);
  });

  test("every deny rule of the catalogue is met by a case above", () => {
    const met = new Set([...cases.map(([, , rule]) => rule), "role_too_low", "policy_error"]);
    expect([...met].sort()).toEqual([...rules].sort());
  });

  test("the entitlement that a fix proposes turns the answer to allow", () => {
    for (const channel of ["stable", "canary"] as const) {
      for (const entitlement of [
        null,
        entitledOn("stable", false),
        entitledOn("canary", false),
        entitledOn("stable"),
      ]) {
        const facts = { ...run, install: { channel, version: "1.0.0" }, entitlement };
        const before = ask("operator", "execution.start", facts);
        if (before.allow) continue;
        const { package: name, ...proposed } = entitlementUpsert.parse(before.fix?.body).entitlements[0]!;
        expect(name).toBe(run.package);
        expect(ask("operator", "execution.start", { ...facts, entitlement: proposed }).rule).toBe("ok");
      }
    }
  });

  test("whole numbers of a deny are written as they are", () => {
    const denied = ask("operator", "execution.start", { ...run, privacy: spent(-7, 1_000_000_000_000) });
    expect(denied.reasons).toEqual([
      "The run needs 1000000000000 micro-epsilon, and -7 are left of the tenant's privacy budget.",
    ]);
    expect(denied.fix?.words).toContain("by 1000000000007 micro-epsilon");
    expect(denied.fix?.body).toEqual({ limit_units: 1_000_000_000_000, leak_units_per_hour: 5 });
  });
});

describe("what is no decision is a deny", () => {
  const answering = (result: unknown): Policy => ({ sha256: "", evaluate: () => result });
  const allow = { allow: true, rule: "ok", reasons: [], roles_allowed: ["admin"], fix: null, obstacles: [] };
  const effect = { facts: {}, role: null };
  const obstacle = { rule: "not_installed", reason: "It is not.", fix: null, effect };
  const deny = {
    allow: false,
    rule: "not_installed",
    reasons: ["It is not."],
    roles_allowed: ["admin"],
    fix: null,
    obstacles: [obstacle],
  };
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
    ["a deny without an obstacle", [{ result: { ...deny, obstacles: [] } }]],
    ["an obstacle without an effect", [{ result: { ...deny, obstacles: [{ ...obstacle, effect: {} }] } }]],
    ["an allow with an obstacle", [{ result: { ...allow, obstacles: [obstacle] } }]],
    ["a truthy word", [{ result: { ...allow, allow: "true" } }]],
    ["an unknown role", [{ result: { ...allow, roles_allowed: ["root"] } }]],
    ["a fix of another shape", [{ result: { ...deny, fix: { words: "do it" } } }]],
    [
      "a fix with a path and no method",
      [{ result: { ...deny, fix: { words: "do it", method: null, path: "/api/keys", body: null } } }],
    ],
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
    [
      "a minute that no day has",
      { ...input, action: "execution.start", facts: { ...run, clock: { weekday: "tue", minute: 1_440 } } },
    ],
  ])("the real policy decides nothing on %s", (_, foreign) => {
    expect(decide(policy, foreign as Parameters<typeof decide>[1])).toMatchObject({ rule: "policy_error" });
  });
});
