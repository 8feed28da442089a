// Inputs of the policy, drawn at random: of each action that has facts, with every obstacle there is, alone and together. Used by
// the tests of explanations, and by the test that holds the compiled policy against OPA.

import fastCheck from "fast-check";
import type { RunWindow } from "../../shared/contract/http-entitlements.ts";
import { roleNames } from "../../shared/contract/names.ts";
import type { Caller } from "../../shared/tenancy/caller.ts";
import { decisionInput, type Action, type DecisionInput, type FactsOf } from "../../shared/policy/actions.ts";

const bool = fastCheck.boolean();
const channel = fastCheck.constantFrom("stable" as const, "canary" as const);
const role = fastCheck.constantFrom(...roleNames);
const kind = fastCheck.constantFrom("person" as const, "service" as const);
type Came = Pick<Caller, "credential" | "fetcher_svids" | "spiffe_id" | "spiffe_domain">;
const nobody = { spiffe_id: null, spiffe_domain: null };
const identity = fastCheck.oneof(
  fastCheck
    .record({ registered: bool, everywhere: bool })
    .map((fetcher_svids): Came => ({ credential: "key", fetcher_svids, ...nobody })),
  fastCheck.constantFrom<Came>(
    { credential: "token", fetcher_svids: null, ...nobody },
    { credential: "svid", fetcher_svids: null, spiffe_id: "spiffe://t.example/a", spiffe_domain: "own" },
  ),
);
const flags = fastCheck.record({ market_entitlements: bool, market_channels: bool });
export const hour = (at: number): string => String(at).padStart(2, "0");
const window: fastCheck.Arbitrary<RunWindow> = fastCheck.record({
  days: fastCheck.constantFrom<RunWindow["days"]>(["mon"], ["tue"], ["mon", "wed"]),
  from: fastCheck.constantFrom("00:00", "08:30"),
  to: fastCheck.constantFrom("09:05", "09:45", "24:00"),
});
const entitlement = fastCheck.option(
  fastCheck.record({
    channel,
    allowed: bool,
    version_range: fastCheck.constantFrom(null, ">=2.0.0"),
    run_windows: fastCheck.oneof(
      fastCheck.constant(null),
      fastCheck.array(window, { maxLength: 3 }),
      fastCheck.array(window, { minLength: 20, maxLength: 20 }),
    ),
    runs_per_day_max: fastCheck.constantFrom(null, 0, 5),
  }),
);
const release = fastCheck
  .record({ yanked: bool, barred: bool, alternative: fastCheck.constantFrom(null, "0.9.0") })
  .map(({ yanked, barred, alternative }) => ({
    version: "1.0.0",
    state: yanked ? ("yanked" as const) : ("published" as const),
    barred,
    alternative: yanked ? alternative : null,
  }));
const common = { package: fastCheck.constant("tools/a"), flags, entitlement, in_range: bool };
const moving = { ...common, channel, release, frozen: bool };
const budget = { units: 5, remaining_units: 1, limit_needed_units: 9, leak_units_per_hour: 0 };

const run = fastCheck.record({
  ...common,
  install_name: fastCheck.constant("default"),
  install: fastCheck.option(fastCheck.record({ channel, version: fastCheck.constant("1.0.0") })),
  clock: fastCheck.record({
    weekday: fastCheck.constantFrom("mon" as const, "tue" as const, "sun" as const),
    minute: fastCheck.constantFrom(0, 545, 1_439),
  }),
  runs_today: fastCheck.constantFrom(0, 5),
  privacy: fastCheck.constantFrom(null, budget),
  installing: fastCheck.option(fastCheck.record({ channel, release, frozen: bool })),
});
const rollback = fastCheck.record({
  package: fastCheck.constant("tools/a"),
  version: fastCheck.constantFrom(null, "0.9.0"),
  installs: fastCheck.record({
    count: fastCheck.constantFrom(0, 2),
    can_go_back: fastCheck.constantFrom(0, 1),
    barred_way: fastCheck.constantFrom(null, "0.8.0"),
  }),
  barred: bool,
});
const upgrade = fastCheck.record({
  ...moving,
  installs: fastCheck.constantFrom({ count: 0, pinned: 0 }, { count: 2, pinned: 2 }, { count: 2, pinned: 1 }),
  gate_holds: bool,
  cohort_percent: fastCheck.constant(10),
});
const pinned = fastCheck.option(fastCheck.record({ name: fastCheck.constant("default"), pinned: bool }));

const asked = <A extends Action>(action: A, facts: fastCheck.Arbitrary<FactsOf<A>>) =>
  fastCheck
    .tuple(role, kind, identity, facts)
    .map(([role, kind, identity, given]) =>
      decisionInput<Action>(action, { tenant_id: "t", tenant: "t", principal_id: "p", kind, role, ...identity }, given),
    );
/** Whole decisions, with their facts. */
export const decisionInputs: fastCheck.Arbitrary<DecisionInput> = fastCheck.oneof(
  // An install that is there has nothing before it.
  asked(
    "execution.start",
    run.map((facts) => (facts.install === null ? facts : { ...facts, installing: null })),
  ),
  asked("install.write", fastCheck.record({ ...moving, install: pinned })),
  asked("upgrade.start", upgrade),
  // What else holds an upgrade up mostly comes before the gate.
  asked(
    "upgrade.start",
    upgrade.map((facts) => ({ ...facts, in_range: true, frozen: false, gate_holds: true })),
  ),
  asked("rollback.start", rollback),
  asked("bar.write", fastCheck.constant({ package: "tools/a", version: "1.0.0", lifts: true })),
  asked("release.review", fastCheck.constant({ package: "tools/a", version: "1.0.0", own: true })),
  asked("rotation.start", fastCheck.record({ curates: bool, own_domain: bool })),
  asked("rotation.cancel", fastCheck.record({ curates: bool, own_domain: bool })),
  asked(
    "rotation.approve",
    fastCheck.record({ curates: bool, own_domain: bool, rotation_id: fastCheck.constant("rot_1"), own: bool }),
  ),
  asked("entitlement.approve", fastCheck.constant({ change_id: "chg_1", own: true })),
);
