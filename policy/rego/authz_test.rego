package mc.authz_test

import data.mc.authz
import data.mc.roles

caller(role) := {
	"tenant_id": "t", "tenant": "t", "principal_id": "p", "role": role, "kind": "person",
	"credential": "token", "fetcher_svids": null, "spiffe_id": null, "spiffe_domain": null,
}

service(role) := object.union(caller(role), {"kind": "service"})

decided(asked) := decision if decision := authz.decision with input as asked

by_role(role, action) := decided({"action": action, "caller": caller(role)})

with_facts(action, facts) := decided({"action": action, "caller": caller("operator"), "facts": facts})

as_role(role, action, facts) := decided({"action": action, "caller": caller(role), "facts": facts})

publishing(owner) := as_role("publisher", "release.publish", {"package": "tools/a", "package_owner": owner})

# `object.union` would merge what is inside as well.
changed(facts, change) := object.union(object.remove(facts, object.keys(change)), change)

on := {"market_entitlements": true, "market_channels": true}

entitled(channel) := {
	"channel": channel,
	"allowed": true,
	"version_range": null,
	"run_windows": null,
	"runs_per_day_max": null,
}

run := {
	"package": "tools/a",
	"flags": on,
	"entitlement": entitled("stable"),
	"install_name": "default",
	"install": {"channel": "stable", "version": "1.0.0"},
	"in_range": true,
	"clock": {"weekday": "tue", "minute": 600},
	"runs_today": 0,
	"privacy": null,
	"installing": null,
}

move := {
	"package": "tools/a",
	"flags": on,
	"channel": "stable",
	"entitlement": entitled("stable"),
	"release": {"version": "1.0.0", "state": "published", "barred": false, "alternative": null},
	"in_range": true,
	"frozen": false,
}

install := object.union(move, {"install": null})

upgrade := object.union(move, {
	"installs": {"count": 2, "pinned": 1},
	"gate_holds": false,
	"cohort_percent": 50,
})

# A run of what is not installed: what installing it would meet.
lacking := {"channel": "stable", "release": move.release, "frozen": false}

lacking_run(change) := changed(run, {"install": null, "installing": changed(lacking, change)})

rollback := {"package": "tools/a", "version": null, "installs": {"count": 2}, "barred": false}

entitlement_actions := {"execution.start": run, "install.write": install, "upgrade.start": upgrade}

# A report is what a fetcher says of itself.
test_an_admin_may_do_everything_but_speak_for_a_fetcher if {
	{action | some action, _ in roles.by_action; not by_role("admin", action).allow} == {"edge.report"}
}

test_each_role_may_do_what_the_table_says_and_nothing_else if {
	decided_otherwise := {[role, action] |
		some action, allowed in roles.by_action
		some role in ["admin", "operator", "auditor", "publisher", "reviewer", "viewer", "fetcher", "nobody"]
		in_table := role in allowed
		by_role(role, action).allow != in_table
	}
	decided_otherwise == set()
	count({action | some action, _ in roles.by_action; by_role("nobody", action).allow == false}) == count(roles.by_action)
}

test_a_role_too_low_is_told_the_least_role_that_would_do if {
	decision := by_role("viewer", "execution.start")
	decision.rule == "role_too_low"
	decision.reasons == ["The role viewer does not allow execution.start; admin, operator do."]
	decision.roles_allowed == ["admin", "operator"]
	decision.fix.body == {"role": "operator"}
	by_role("viewer", "budget.write").reasons == ["The role viewer does not allow budget.write; only admin does."]
}

test_an_unknown_action_gets_no_decision if not by_role("admin", "tenant.delete")

test_a_caller_without_a_role_gets_no_decision if {
	not authz.decision with input as {"action": "whoami.read", "caller": object.remove(caller("admin"), ["role"])}
	not authz.decision with input as {"action": "whoami.read", "caller": object.union(caller("admin"), {"role": 1})}
	not authz.decision with input as {"action": "whoami.read"}
}

test_input_beyond_the_contract_gets_no_decision if {
	not authz.decision with input as {"action": "whoami.read", "caller": caller("admin"), "flags": {}}
	not authz.decision with input as {"action": "whoami.read", "caller": object.union(caller("admin"), {"scope": "all"})}
	every identity in [
		{"spiffe_id": "spiffe://t.example/a"},
		{"spiffe_domain": "own"},
		{"spiffe_id": "https://t.example/a", "spiffe_domain": "own"},
		{"spiffe_id": "spiffe://t.example/a", "spiffe_domain": "mine"},
		{"spiffe_id": 1, "spiffe_domain": "own"},
	] {
		not authz.decision with input as {"action": "whoami.read", "caller": changed(caller("admin"), object.union(identity, {"credential": "svid"}))}
	}
}

test_facts_that_an_action_has_no_rules_for_get_no_decision if {
	not with_facts("execution.read", run)
	not with_facts("execution.start", null)
	not with_facts("execution.start", false)
	not with_facts("execution.start", {})
	not with_facts("execution.start", object.remove(run, ["install"]))
	not with_facts("execution.start", changed(run, {"install": {"version": "1.0.0"}}))
	not with_facts("execution.start", changed(run, {"install": {"channel": "nightly", "version": "1.0.0"}}))
	not with_facts("execution.start", changed(run, {"entitlement": changed(entitled("stable"), {"allowed": "yes"})}))
	not with_facts("execution.start", changed(run, {"entitlement": {"channel": "stable"}}))
	not with_facts("execution.start", changed(run, {"privacy": {"units": "1", "remaining_units": 2}}))
	not with_facts("execution.start", changed(run, {"clock": {"weekday": "tue", "minute": 1440}}))
	not with_facts("execution.start", changed(run, {"clock": {"weekday": "today", "minute": 1}}))
	not with_facts("execution.start", changed(run, {"runs_today": -1}))
	not with_facts("execution.start", changed(run, {"flags": {"market_entitlements": true}}))
	not with_facts("install.write", changed(install, {"channel": "nightly"}))
	not with_facts("install.write", changed(install, {"release": {}}))
	not with_facts("upgrade.start", changed(upgrade, {"installs": {"count": 1}}))
	not with_facts("rollback.start", changed(rollback, {"barred": null}))
	not with_facts("rollback.start", changed(rollback, {"installs": {"count": 1, "can_go_back": 1}}))
	not with_facts("execution.start", object.remove(run, ["installing"]))
	not with_facts("execution.start", changed(run, {"installing": object.remove(lacking, ["frozen"])}))
	not with_facts("execution.start", changed(run, {"installing": changed(lacking, {"release": null})}))
	not with_facts("bar.write", {"package": "a", "version": "1.0.0", "lifts": "yes"})
	not as_role("reviewer", "release.review", {"package": "a", "version": "1.0.0", "own": "yes"})
	not as_role("admin", "entitlement.approve", {"change_id": 1, "own": true})
	not publishing("maybe")
}

test_a_window_of_another_shape_gets_no_decision if {
	good := {"days": ["mon"], "from": "08:00", "to": "10:00"}
	every window in [
		{"days": ["mon"], "from": "8:00", "to": "10:00"},
		{"days": ["someday"], "from": "08:00", "to": "10:00"},
		{"days": ["mon"], "from": "08:00"},
	] {
		facts := changed(run, {"entitlement": changed(entitled("stable"), {"run_windows": [good, window]})})
		not with_facts("execution.start", facts)
	}
	not with_facts("execution.start", changed(run, {"entitlement": changed(entitled("stable"), {"run_windows": "always"})}))
}

test_a_run_of_an_entitled_installed_package_is_allowed if with_facts("execution.start", run).allow

test_no_row_means_no if {
	every action, facts in entitlement_actions {
		decision := with_facts(action, changed(facts, {"entitlement": null}))
		decision.rule == "entitlement_missing"
		decision.fix.body == {"entitlements": [{"package": "tools/a", "channel": "stable", "allowed": true}]}
	}
}

test_a_row_that_says_no_means_no if {
	every action, facts in entitlement_actions {
		entitlement := {"entitlement": changed(entitled("canary"), {"allowed": false})}
		decision := with_facts(action, changed(facts, entitlement))
		decision.rule == "entitlement_denied"
		decision.fix.body.entitlements[0].channel == "canary"
	}
}

test_stable_covers_stable_only_and_canary_covers_both if {
	table := [
		["stable", "stable", "ok"],
		["stable", "canary", "channel_not_entitled"],
		["canary", "stable", "ok"],
		["canary", "canary", "ok"],
	]
	every row in table {
		installed := {"entitlement": entitled(row[0]), "install": {"channel": row[1], "version": "1.0.0"}}
		with_facts("execution.start", changed(run, installed)).rule == row[2]
		asked := {"entitlement": entitled(row[0]), "channel": row[1]}
		with_facts("install.write", changed(install, asked)).rule == row[2]
	}
}

test_a_version_out_of_range_is_denied_and_the_fix_adds_it if {
	ranged := {"entitlement": changed(entitled("stable"), {"version_range": "^2.0.0"}), "in_range": false}
	every action, facts in entitlement_actions {
		decision := with_facts(action, changed(facts, ranged))
		decision.rule == "version_not_entitled"
		decision.fix.body.entitlements[0].version_range == "^2.0.0 || 1.0.0"
	}
}

test_a_range_that_cannot_grow_gives_way_to_the_version if {
	long := concat(" || ", [version | some minor in numbers.range(1, 30); version := sprintf("9.%d.100", [minor])])
	ranged := {"entitlement": changed(entitled("stable"), {"version_range": long}), "in_range": false}
	with_facts("execution.start", changed(run, ranged)).fix.body.entitlements[0].version_range == "1.0.0"
}

windowed(windows) := changed(run, {"entitlement": changed(entitled("stable"), {"run_windows": windows})})

test_runs_start_in_their_windows_only if {
	table := [
		[{"days": ["tue"], "from": "10:00", "to": "10:01"}, "ok"],
		[{"days": ["mon", "tue"], "from": "00:00", "to": "24:00"}, "ok"],
		[{"days": ["tue"], "from": "10:01", "to": "24:00"}, "outside_run_window"],
		[{"days": ["tue"], "from": "08:09", "to": "10:00"}, "outside_run_window"],
		[{"days": ["wed"], "from": "00:00", "to": "24:00"}, "outside_run_window"],
	]
	every row in table { with_facts("execution.start", windowed([row[0]])).rule == row[1] }
	with_facts("execution.start", windowed([])).rule == "outside_run_window"
}

test_the_fix_of_a_shut_window_is_the_hour_at_hand if {
	monday := {"days": ["mon"], "from": "08:00", "to": "09:00"}
	decision := with_facts("execution.start", windowed([monday]))
	hour := {"days": ["tue"], "from": "10:00", "to": "11:00"}
	decision.fix.body.entitlements[0].run_windows == [monday, hour]
	early := with_facts("execution.start", changed(windowed([]), {"clock": {"weekday": "sun", "minute": 545}}))
	early.fix.body.entitlements[0].run_windows == [{"days": ["sun"], "from": "09:00", "to": "10:00"}]
	early.reasons == ["Runs of tools/a start in the tenant's run windows only, and it is sun, 09:05 UTC."]
}

hours(count) := [window |
	some at in numbers.range(0, count - 1)
	window := {"days": ["mon"], "from": clock(at, "00"), "to": clock(at, "30")}
]

clock(hour, minutes) := sprintf("0%d:%s", [hour, minutes]) if hour < 10

clock(hour, minutes) := sprintf("%d:%s", [hour, minutes]) if hour >= 10

test_the_fix_of_a_shut_window_keeps_every_window_of_the_tenant if {
	hour := {"days": ["tue"], "from": "10:00", "to": "11:00"}
	every count in [1, 19] {
		windows := hours(count)
		decision := with_facts("execution.start", windowed(windows))
		decision.fix.body.entitlements[0].run_windows == array.concat(windows, [hour])
	}
	full := with_facts("execution.start", windowed(hours(20)))
	kept := full.fix.body.entitlements[0].run_windows
	changed_at := [at | some at, window in hours(20); kept[at] != window]
	count(kept) == 20
	changed_at == [10]
	kept[10] == {"days": ["mon", "tue"], "from": "10:00", "to": "11:00"}
	contains(full.fix.words, "the run window on mon from 10:00 to 10:30 UTC widened to mon, tue from 10:00 to 11:00 UTC")
}

test_the_day_has_so_many_runs_and_no_more if {
	capped := {"entitlement": changed(entitled("stable"), {"runs_per_day_max": 3})}
	with_facts("execution.start", object.union(changed(run, capped), {"runs_today": 2})).allow
	decision := with_facts("execution.start", object.union(changed(run, capped), {"runs_today": 3}))
	decision.rule == "run_cap_reached"
	decision.fix.body.entitlements[0].runs_per_day_max == 4
}

test_one_row_answers_every_obstacle_of_an_entitlement if {
	entitlement := {
		"channel": "stable",
		"allowed": true,
		"version_range": "^2.0.0",
		"run_windows": [],
		"runs_per_day_max": 0,
	}
	facts := changed(run, {
		"entitlement": entitlement,
		"in_range": false,
		"install": {"channel": "canary", "version": "1.0.0"},
	})
	decision := with_facts("execution.start", facts)
	count(decision.obstacles) == 4
	count({obstacle.fix | some obstacle in decision.obstacles}) == 1
	with_facts("execution.start", object.union(changed(facts, decision.obstacles[0].effect.facts), {})).allow
}

test_while_entitlements_are_off_admins_may_and_nobody_else if {
	off := {"flags": {"market_entitlements": false, "market_channels": true}, "entitlement": null}
	every action, facts in entitlement_actions {
		with_facts(action, changed(facts, off)).rule == "entitlements_off"
		allowed := as_role("admin", action, changed(facts, off))
		allowed.allow
		allowed.rule == "entitlements_off"
	}
}

test_while_channels_are_off_canary_is_shut_and_stable_is_not if {
	off := {"flags": {"market_entitlements": true, "market_channels": false}, "entitlement": entitled("canary")}
	every action, facts in {"install.write": install, "upgrade.start": upgrade} {
		denied := with_facts(action, changed(facts, object.union(off, {"channel": "canary"})))
		denied.rule == "channels_off"
		denied.fix.body == {"flag": "market_channels", "enabled": true}
		with_facts(action, changed(facts, off)).allow
	}
	with_facts("execution.start", changed(run, object.union(off, {"install": {"channel": "canary", "version": "1.0.0"}}))).allow
}

released(change) := {"release": object.union(move.release, change)}

test_a_yanked_release_is_not_moved_to if {
	decision := with_facts("install.write", changed(install, released({"state": "yanked"})))
	decision.rule == "release_yanked"
	decision.fix.method == null
	decision.fix.path == null
	decision.fix.words == "Have the publisher publish another release to stable."
	other := with_facts("upgrade.start", changed(upgrade, released({"state": "yanked", "alternative": "0.9.0"})))
	other.fix.body == {"package": "tools/a", "channel": "stable", "version": "0.9.0", "down": true}
}

test_a_barred_release_is_not_moved_to if {
	with_facts("install.write", changed(install, released({"barred": true}))).rule == "release_barred"
	decision := with_facts("rollback.start", changed(rollback, {"version": "1.0.0", "barred": true}))
	decision.rule == "release_barred"
	decision.fix.body.barred == false
}

test_a_frozen_package_stays_but_for_a_rollback if {
	with_facts("install.write", changed(install, {"frozen": true})).rule == "package_frozen"
	with_facts("upgrade.start", changed(upgrade, {"frozen": true})).rule == "package_frozen"
	with_facts("rollback.start", rollback).allow
}

test_pinned_installs_stay if {
	one := with_facts("install.write", changed(install, {"install": {"name": "edge-1", "pinned": true}}))
	one.rule == "install_pinned"
	one.fix.body == {"package": "tools/a", "install": "edge-1", "pinned": false}
	with_facts("install.write", changed(install, {"install": {"name": "edge-1", "pinned": false}})).allow
	all := with_facts("upgrade.start", changed(upgrade, {"installs": {"count": 2, "pinned": 2}}))
	all.rule == "install_pinned"
	all.fix.body == {"package": "tools/a", "pinned": false}
}

test_what_is_not_installed_neither_runs_nor_moves if {
	decision := with_facts("execution.start", changed(run, {"install": null, "install_name": "edge-1"}))
	decision.rule == "not_installed"
	decision.fix.path == null
	contains(decision.fix.words, "No channel of tools/a points to a release")
	way := with_facts("execution.start", changed(lacking_run({}), {"install_name": "edge-1"}))
	way.fix.body == {"package": "tools/a", "name": "edge-1"}
	canary := lacking_run({"channel": "canary"})
	with_facts("execution.start", canary).rule == "channel_not_entitled"
	from_canary := with_facts("execution.start", changed(canary, {"entitlement": entitled("canary")}))
	from_canary.fix.body == {"package": "tools/a", "name": "default", "channel": "canary"}
	upgraded := changed(upgrade, {"channel": "canary", "entitlement": entitled("canary"), "installs": {"count": 0, "pinned": 0}})
	with_facts("upgrade.start", upgraded).fix.body == {"package": "tools/a", "channel": "canary"}
	with_facts("upgrade.start", changed(upgrade, {"installs": {"count": 0, "pinned": 0}})).rule == "not_installed"
	rolled := with_facts("rollback.start", changed(rollback, {"installs": {"count": 0}}))
	rolled.rule == "not_installed"
	rolled.fix.path == null
}

test_a_run_of_what_is_not_installed_meets_what_its_install_would_meet if {
	yanked := changed(move.release, {"state": "yanked", "barred": true})
	facts := changed(lacking_run({"release": yanked, "frozen": true, "channel": "canary"}), {
		"entitlement": changed(entitled("stable"), {"version_range": "^2.0.0"}),
		"in_range": false,
		"flags": {"market_entitlements": true, "market_channels": false},
	})
	decision := with_facts("execution.start", facts)
	[obstacle.rule | some obstacle in decision.obstacles] == [
		"channels_off", "channel_not_entitled", "version_not_entitled", "release_yanked", "release_barred",
		"package_frozen", "not_installed",
	]
	decision.obstacles[1].fix.body.entitlements[0].channel == "canary"
	installed := changed(facts, decision.obstacles[6].effect.facts)
	count(with_facts("execution.start", installed).obstacles) == 6
}

test_a_rollback_that_can_go_nowhere_is_denied_where_that_is_known if {
	nowhere := {"count": 2, "can_go_back": 0, "barred_way": null}
	denied := with_facts("rollback.start", changed(rollback, {"installs": nowhere}))
	denied.rule == "nothing_to_roll_back"
	denied.fix.path == null
	named := with_facts("rollback.start", changed(rollback, {"installs": nowhere, "version": "0.1.0"}))
	contains(named.fix.words, "0.1.0 is none")
	barred := changed(nowhere, {"barred_way": "0.9.0"})
	lifting := with_facts("rollback.start", changed(rollback, {"installs": barred}))
	lifting.fix.body == {"package": "tools/a", "version": "0.9.0", "barred": false, "reason": "known to be good"}
	with_facts("rollback.start", changed(rollback, {"installs": changed(nowhere, {"can_go_back": 1})})).allow
}

by_service(facts) := decided({"action": "bar.write", "caller": service("operator"), "facts": facts})

test_a_bar_is_lifted_by_a_person_and_placed_by_anyone_of_the_role if {
	lifting := {"package": "tools/a", "version": "1.0.0", "lifts": true}
	placing := changed(lifting, {"lifts": false})
	denied := by_service(lifting)
	denied.rule == "bar_lift_by_person"
	denied.obstacles[0].effect.kind == "person"
	by_service(placing).allow
	with_facts("bar.write", lifting).allow
	with_facts("bar.write", placing).allow
}

test_a_move_without_a_release_is_decided_by_what_there_is if {
	with_facts("install.write", changed(install, {"release": null})).allow
	with_facts("install.write", changed(install, {"release": null, "frozen": true})).rule == "package_frozen"
}

test_a_gate_that_holds_is_widened_only_despite_it if {
	decision := with_facts("upgrade.start", changed(upgrade, {"gate_holds": true}))
	decision.rule == "gate_holds"
	decision.fix.body.despite_gate
	decision.fix.body.cohort_percent == 50
}

test_the_nearest_obstacle_is_told_first_and_the_others_are_there if {
	decision := with_facts("execution.start", changed(run, {"entitlement": null, "install": null}))
	decision.rule == "entitlement_missing"
	count(decision.reasons) == 1
	[obstacle.rule | some obstacle in decision.obstacles] == ["entitlement_missing", "not_installed"]
}

test_numbers_that_are_not_whole_get_no_decision if {
	budget := {"units": 3, "remaining_units": 2, "limit_needed_units": 11, "leak_units_per_hour": 5}
	every member, value in {"remaining_units": 2.5, "units": 1e300} {
		not with_facts("execution.start", changed(run, {"privacy": object.union(budget, {member: value})}))
	}
	not with_facts("execution.start", changed(run, {"runs_today": 0.5}))
}

test_a_spent_budget_denies_the_run if {
	budget := {"units": 3, "remaining_units": 2, "limit_needed_units": 11, "leak_units_per_hour": 5}
	decision := with_facts("execution.start", changed(run, {"privacy": budget}))
	decision.rule == "privacy_budget_exceeded"
	decision.fix.body == {"limit_units": 11, "leak_units_per_hour": 5}
	enough := object.union(budget, {"remaining_units": 3})
	with_facts("execution.start", changed(run, {"privacy": enough})).allow
}

test_a_package_belongs_to_its_first_publisher if {
	publishing("none").allow
	publishing("self").allow
	publishing("other").rule == "package_of_another_publisher"
}

test_nobody_reviews_their_own if {
	release := {"package": "tools/a", "version": "1.0.0", "own": true}
	own := as_role("reviewer", "release.review", release)
	own.rule == "own_release"
	own.fix.path == null
	own.fix.words == "Ask another person with the role reviewer, whose access does not come from you."
	as_role("reviewer", "release.review", changed(release, {"own": false})).allow
	as_role("admin", "entitlement.approve", {"change_id": "chg_1", "own": true}).rule == "own_change"
	as_role("admin", "entitlement.approve", {"change_id": "chg_1", "own": false}).allow
}

approving(facts) := as_role("admin", "rotation.approve", object.union(
	{"curates": true, "own_domain": false, "rotation_id": "rot_1", "own": false},
	facts,
))

test_keys_are_rotated_by_tenants_that_curate_alone if {
	every action in {"rotation.read", "rotation.start", "rotation.acknowledge", "rotation.cancel"} {
		as_role("admin", action, {"curates": true, "own_domain": false}).allow
		as_role("admin", action, {"curates": false, "own_domain": false}).rule == "tenant_not_curating"
		not as_role("admin", action, {"curates": 1, "own_domain": false})
	}
	approving({}).allow
	approving({"curates": false}).rule == "tenant_not_curating"
}

test_a_domains_authority_is_rotated_by_whoever_states_it if {
	every action in {"rotation.read", "rotation.start", "rotation.acknowledge", "rotation.cancel"} {
		as_role("admin", action, {"curates": false, "own_domain": true}).allow
		as_role("fetcher", action, {"curates": false, "own_domain": true}).rule == "role_too_low"
		not as_role("admin", action, {"curates": false, "own_domain": 1})
	}
	approving({"curates": false, "own_domain": true}).allow
	approving({"curates": false, "own_domain": true, "own": true}).rule == "own_change"
}

test_an_emergency_is_approved_by_someone_else if {
	denied := approving({"own": true})
	denied.rule == "own_change"
	denied.fix.words == roles.another_person("admin").words
	not approving({"rotation_id": 1})
}
