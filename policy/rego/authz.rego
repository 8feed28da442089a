# Every decision of the API: may this caller do this, and if not, why, and what is the smallest change that would allow
# it. Compiled to WASM by scripts/generate/policy.ts (entry point: mc/authz/decision), evaluated by shared/policy.
#
# Without `input.facts` only the role is decided; with them the whole. The first rule that denies, in the order of
# `deny_order`, is the decision: a caller is told the nearest obstacle, not all of them.
package mc.authz

import data.mc.privacy

# Action -> the roles that may do it. The order of the roles is the order in which a fix proposes them.
roles_by_action := {
	"whoami.read": ["admin", "operator", "auditor", "publisher", "viewer"],
	"key.list": ["admin", "auditor"],
	"key.create": ["admin"],
	"key.revoke": ["admin"],
	"publisher_key.add": ["admin", "publisher"],
	"release.publish": ["admin", "publisher"],
	"release.read": ["admin", "operator", "auditor", "publisher", "viewer"],
	"artifact.read": ["admin", "operator"],
	"entitlement.read": ["admin", "operator", "auditor", "viewer"],
	"entitlement.write": ["admin"],
	"install.read": ["admin", "operator", "auditor", "viewer"],
	"install.write": ["admin", "operator"],
	"execution.start": ["admin", "operator"],
	"execution.finish": ["admin", "operator"],
	"execution.read": ["admin", "operator", "auditor", "viewer"],
	"disclosure.link": ["admin", "operator", "auditor"],
	"pql.query": ["admin", "operator", "auditor"],
	"budget.read": ["admin", "operator", "auditor", "viewer"],
	"budget.write": ["admin"],
	"audit.read": ["admin", "operator", "auditor"],
}

# An entitlement's channel -> the release channels that it covers.
channels_covered := {
	"stable": {"stable"},
	"canary": {"stable", "canary"},
}

deny_order := [
	"role_too_low",
	"package_of_another_publisher",
	"entitlement_missing",
	"entitlement_denied",
	"channel_not_entitled",
	"not_installed",
	"privacy_budget_exceeded",
]

# Undefined for an action that is not in the table: no decision at all, which the caller of this policy takes as a deny.
roles_allowed := roles_by_action[input.action]

decision := {
	"allow": true,
	"rule": "ok",
	"reasons": [],
	"roles_allowed": roles_allowed,
	"fix": null,
} if {
	well_formed
	count(deny) == 0
}

decision := {
	"allow": false,
	"rule": rule,
	"reasons": [deny[rule].reason],
	"roles_allowed": roles_allowed,
	"fix": deny[rule].fix,
} if {
	well_formed
	count(deny) > 0
	rule := [name | some name in deny_order; deny[name]][0]
}

# Input that does not say who asks, or brings facts that are not its action's to the letter, gets no decision.
well_formed if {
	object.keys(input) == {"action", "caller"}
	caller_fits
}

well_formed if {
	facts_given
	object.keys(input) == {"action", "caller", "facts"}
	caller_fits
	facts_fit
}

facts_given if "facts" in object.keys(input)

caller_fits if {
	object.keys(input.caller) == {"tenant_id", "principal_id", "role", "kind"}
	every value in input.caller { is_string(value) }
}

facts_fit if {
	input.action == "execution.start"
	object.keys(input.facts) == {"package", "entitlement", "install", "privacy"}
	is_string(input.facts.package)
	entitlement_fits
	install_fits
	privacy_fits
}

facts_fit if {
	input.action == "install.write"
	object.keys(input.facts) == {"package", "channel", "entitlement", "release"}
	is_string(input.facts.package)
	input.facts.channel in object.keys(channels_covered)
	entitlement_fits
	release_fits
}

facts_fit if {
	input.action == "release.publish"
	object.keys(input.facts) == {"package", "package_owner"}
	is_string(input.facts.package)
	input.facts.package_owner in {"none", "self", "other"}
}

entitlement_fits if input.facts.entitlement == null

entitlement_fits if {
	object.keys(input.facts.entitlement) == {"channel", "allowed"}
	input.facts.entitlement.channel in object.keys(channels_covered)
	is_boolean(input.facts.entitlement.allowed)
}

install_fits if input.facts.install == null

install_fits if {
	object.keys(input.facts.install) == {"channel", "version"}
	input.facts.install.channel in object.keys(channels_covered)
	is_string(input.facts.install.version)
}

release_fits if input.facts.release == null

release_fits if {
	object.keys(input.facts.release) == {"channel"}
	input.facts.release.channel in object.keys(channels_covered)
}

privacy_fits if input.facts.privacy == null

privacy_fits if {
	object.keys(input.facts.privacy) == {"remaining_units", "units"}
	every value in input.facts.privacy { is_number(value) }
}

# --- The role

deny["role_too_low"] := {
	"reason": sprintf("The role %s does not allow %s; %s.", [input.caller.role, input.action, roles_sentence]),
	"fix": {
		"words": sprintf("Ask an admin of the tenant for a key with the role %s.", [lowest_role]),
		"method": "POST",
		"path": "/api/keys",
		"body": {"role": lowest_role},
	},
} if {
	not input.caller.role in roles_allowed
}

roles_sentence := sprintf("only %s does", [roles_allowed[0]]) if count(roles_allowed) == 1

roles_sentence := sprintf("%s do", [concat(", ", roles_allowed)]) if count(roles_allowed) > 1

# The role that may do the least among those that may do this.
lowest_role := roles_allowed[count(roles_allowed) - 1]

# --- Publishing

deny["package_of_another_publisher"] := {
	"reason": sprintf("The package %s belongs to another publisher.", [input.facts.package]),
	"fix": {
		"words": "Publish under a package name of your own: change `name` in maestro.json, sign again, and publish.",
		"method": "POST",
		"path": "/api/market/releases",
		"body": null,
	},
} if {
	input.action == "release.publish"
	facts_given
	input.facts.package_owner == "other"
}

# --- Entitlements: at install and at run

entitlement_asked if {
	input.action in {"execution.start", "install.write"}
	facts_given
}

# The channel that must be covered: the one that it was installed from, or the one that is asked for.
wanted_channel := input.facts.install.channel if input.action == "execution.start"

wanted_channel := input.facts.channel if input.action == "install.write"

# The narrowest entitlement that would do: the one there is where it covers the channel, else one for the channel.
default fix_channel := "stable"

fix_channel := input.facts.entitlement.channel if {
	wanted_channel in channels_covered[input.facts.entitlement.channel]
} else := wanted_channel

entitlement_fix := {
	"words": sprintf("Have an admin entitle the tenant to %s on %s.", [input.facts.package, fix_channel]),
	"method": "PUT",
	"path": "/api/market/entitlements",
	"body": {"entitlements": [{"package": input.facts.package, "channel": fix_channel, "allowed": true}]},
}

deny["entitlement_missing"] := {
	"reason": sprintf("The tenant has no entitlement to %s.", [input.facts.package]),
	"fix": entitlement_fix,
} if {
	entitlement_asked
	input.facts.entitlement == null
}

deny["entitlement_denied"] := {
	"reason": sprintf("The tenant's entitlement to %s says that it is not allowed.", [input.facts.package]),
	"fix": entitlement_fix,
} if {
	entitlement_asked
	input.facts.entitlement.allowed == false
}

deny["channel_not_entitled"] := {
	"reason": sprintf(
		"The tenant is entitled to %s on %s, which does not cover %s.",
		[input.facts.package, input.facts.entitlement.channel, wanted_channel],
	),
	"fix": entitlement_fix,
} if {
	entitlement_asked
	input.facts.entitlement.allowed == true
	not wanted_channel in channels_covered[input.facts.entitlement.channel]
}

# --- Runs

deny["not_installed"] := {
	"reason": sprintf("The package %s is not installed.", [input.facts.package]),
	"fix": {
		"words": sprintf("Install %s first.", [input.facts.package]),
		"method": "POST",
		"path": "/api/market/installs",
		"body": {"package": input.facts.package},
	},
} if {
	input.action == "execution.start"
	facts_given
	input.facts.install == null
}

deny["privacy_budget_exceeded"] := verdict if {
	input.action == "execution.start"
	facts_given
	some verdict in privacy.deny with input as {"privacy": input.facts.privacy}
}
