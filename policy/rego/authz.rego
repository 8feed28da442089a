# Every decision of the API: may this caller do this, and if not, why, and what is the smallest change that would allow
# it. Compiled to WASM by scripts/generate/policy.ts (entry point: mc/authz/decision), evaluated by shared/policy.
#
# Without `input.facts` only the role is decided; with them the whole. The first rule that denies, in the order of
# `deny_order`, is the decision: a caller is told the nearest obstacle. `obstacles` has all of them, each with what its fix
# changes in this input (`effect`), so that an explanation can evaluate the same decision with the fix applied.
package mc.authz

import data.mc.credentials
import data.mc.entitlements
import data.mc.facts
import data.mc.moves
import data.mc.privacy
import data.mc.review
import data.mc.roles
import data.mc.rotation

deny_order := [
	"svid_needed",
	"spiffe_id_of_another_tenant",
	"spiffe_id_of_another_role",
	"role_too_low",
	"person_needed",
	"own_release",
	"own_change",
	"tenant_not_curating",
	"bar_lift_by_person",
	"package_of_another_publisher",
	"channels_off",
	"entitlements_off",
	"entitlement_missing",
	"entitlement_denied",
	"channel_not_entitled",
	"version_not_entitled",
	"release_yanked",
	"release_barred",
	"package_frozen",
	"not_installed",
	"nothing_to_roll_back",
	"install_pinned",
	"gate_holds",
	"outside_run_window",
	"run_cap_reached",
	"privacy_budget_exceeded",
]

# Undefined for an action that is not in the table: no decision at all, which the caller of this policy takes as a deny.
roles_allowed := roles.allowed

decision := {
	"allow": true,
	"rule": allow_rule,
	"reasons": [],
	"roles_allowed": roles_allowed,
	"fix": null,
	"obstacles": [],
} if {
	well_formed
	count(deny) == 0
}

decision := {
	"allow": false,
	"rule": obstacles[0].rule,
	"reasons": [obstacles[0].reason],
	"roles_allowed": roles_allowed,
	"fix": obstacles[0].fix,
	"obstacles": obstacles,
} if {
	well_formed
	count(deny) > 0
}

default allow_rule := "ok"

# Allowed although nobody was asked for an entitlement: the caller of this policy tells the log.
allow_rule := "entitlements_off" if entitlements.passed_over

obstacles := [object.union({"rule": name}, deny[name]) | some name in deny_order; deny[name]]

# Input that does not say who asks, or brings facts that are not its action's to the letter, gets no decision.
well_formed if {
	object.keys(input) == {"action", "caller"}
	caller_fits
}

well_formed if {
	object.keys(input) == {"action", "caller", "facts"}
	caller_fits
	facts.fit
}

caller_fits if {
	object.keys(input.caller) == {
		"tenant_id", "tenant", "principal_id", "role", "kind",
		"credential", "fetcher_svids", "spiffe_id", "spiffe_domain",
	}
	every name in ["tenant_id", "tenant", "principal_id", "role", "kind"] { is_string(input.caller[name]) }
	credentials.fits
}

deny[rule] := verdict if some rule, verdict in credentials.deny

deny["role_too_low"] := roles.too_low

deny[rule] := verdict if some rule, verdict in review.deny

deny[rule] := verdict if some rule, verdict in rotation.deny

deny[rule] := verdict if some rule, verdict in entitlements.deny

deny[rule] := verdict if some rule, verdict in moves.deny

deny["privacy_budget_exceeded"] := verdict if {
	input.action == "execution.start"
	facts.given
	some verdict in privacy.deny with input as {"privacy": input.facts.privacy}
}
