package mc.authz_test

import data.mc.authz

caller(role) := {"tenant_id": "t", "principal_id": "p", "role": role, "kind": "person"}

decided(asked) := decision if decision := authz.decision with input as asked

by_role(role, action) := decided({"action": action, "caller": caller(role)})

with_facts(action, facts) := decided({"action": action, "caller": caller("operator"), "facts": facts})

publishing(owner) := decided({
	"action": "release.publish",
	"caller": caller("publisher"),
	"facts": {"package": "tools/a", "package_owner": owner},
})

# `object.union` would merge what is inside as well.
changed(facts, change) := object.union(object.remove(facts, object.keys(change)), change)

run := {
	"package": "tools/a",
	"entitlement": {"channel": "stable", "allowed": true},
	"install": {"channel": "stable", "version": "1.0.0"},
	"privacy": null,
}

install := {
	"package": "tools/a",
	"channel": "stable",
	"entitlement": {"channel": "stable", "allowed": true},
	"release": {"channel": "stable"},
}

test_an_admin_may_do_everything if {
	every action, _ in authz.roles_by_action { by_role("admin", action).allow }
}

test_each_role_may_do_what_the_table_says_and_nothing_else if {
	decided_otherwise := {[role, action] |
		some action, roles in authz.roles_by_action
		some role in ["admin", "operator", "auditor", "publisher", "viewer", "nobody"]
		in_table := role in roles
		by_role(role, action).allow != in_table
	}
	decided_otherwise == set()
	count({action | some action, _ in authz.roles_by_action; by_role("nobody", action).allow == false}) == 20
}

test_a_role_too_low_is_told_the_least_role_that_would_do if {
	decision := by_role("viewer", "execution.start")
	decision.rule == "role_too_low"
	decision.reasons == ["The role viewer does not allow execution.start; admin, operator do."]
	decision.roles_allowed == ["admin", "operator"]
	decision.fix.body == {"role": "operator"}
}

test_an_unknown_action_gets_no_decision if not by_role("admin", "tenant.delete")

test_a_caller_without_a_role_gets_no_decision if {
	not authz.decision with input as {"action": "whoami.read", "caller": {"tenant_id": "t", "principal_id": "p", "kind": "person"}}
	not authz.decision with input as {"action": "whoami.read", "caller": object.union(caller("admin"), {"role": 1})}
	not authz.decision with input as {"action": "whoami.read"}
}

test_input_beyond_the_contract_gets_no_decision if {
	not authz.decision with input as {"action": "whoami.read", "caller": caller("admin"), "flags": {}}
	not authz.decision with input as {"action": "whoami.read", "caller": object.union(caller("admin"), {"scope": "all"})}
}

test_facts_that_an_action_has_no_rules_for_get_no_decision if {
	not with_facts("execution.read", run)
	not with_facts("execution.start", null)
	not with_facts("execution.start", false)
	not with_facts("execution.start", {})
	not with_facts("execution.start", object.remove(run, ["install"]))
	not with_facts("execution.start", changed(run, {"install": {"version": "1.0.0"}}))
	not with_facts("execution.start", changed(run, {"install": {"channel": "nightly", "version": "1.0.0"}}))
	not with_facts("execution.start", changed(run, {"entitlement": {"channel": "stable", "allowed": "yes"}}))
	not with_facts("execution.start", changed(run, {"entitlement": {"channel": "stable"}}))
	not with_facts("execution.start", changed(run, {"privacy": {"units": "1", "remaining_units": 2}}))
	not with_facts("install.write", changed(install, {"channel": "nightly"}))
	not with_facts("install.write", changed(install, {"release": {}}))
	not publishing("maybe")
}

test_a_run_of_an_entitled_installed_package_is_allowed if with_facts("execution.start", run).allow

test_no_row_means_no if {
	every action, facts in {"execution.start": run, "install.write": install} {
		decision := with_facts(action, changed(facts, {"entitlement": null}))
		decision.rule == "entitlement_missing"
		decision.fix.body == {"entitlements": [{"package": "tools/a", "channel": "stable", "allowed": true}]}
	}
}

test_a_row_that_says_no_means_no if {
	every action, facts in {"execution.start": run, "install.write": install} {
		entitlement := {"entitlement": {"channel": "canary", "allowed": false}}
		decision := with_facts(action, changed(facts, entitlement))
		decision.rule == "entitlement_denied"
		decision.fix.body.entitlements[0].channel == "canary"
	}
}

test_stable_covers_stable_only_and_canary_covers_both if {
	stable := {"channel": "stable", "allowed": true}
	canary := {"channel": "canary", "allowed": true}
	table := [
		[stable, "stable", "ok"],
		[stable, "canary", "channel_not_entitled"],
		[canary, "stable", "ok"],
		[canary, "canary", "ok"],
	]
	every row in table {
		installed := {"entitlement": row[0], "install": {"channel": row[1], "version": "1.0.0"}}
		with_facts("execution.start", changed(run, installed)).rule == row[2]
		asked := {"entitlement": row[0], "channel": row[1]}
		with_facts("install.write", changed(install, asked)).rule == row[2]
	}
}

test_a_run_of_what_is_not_installed_is_denied if {
	decision := with_facts("execution.start", changed(run, {"install": null}))
	decision.rule == "not_installed"
	decision.fix.path == "/api/market/installs"
}

test_the_nearest_obstacle_is_told_first if {
	decision := with_facts("execution.start", changed(run, {"entitlement": null, "install": null}))
	decision.rule == "entitlement_missing"
	count(decision.reasons) == 1
}

test_a_spent_budget_denies_the_run if {
	spent := {"privacy": {"remaining_units": 2, "units": 3}}
	with_facts("execution.start", changed(run, spent)).rule == "privacy_budget_exceeded"
	enough := {"privacy": {"remaining_units": 3, "units": 3}}
	with_facts("execution.start", changed(run, enough)).allow
}

test_a_package_belongs_to_its_first_publisher if {
	publishing("none").allow
	publishing("self").allow
	publishing("other").rule == "package_of_another_publisher"
}
