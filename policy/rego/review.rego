# Publishing, reviewing, and what a person alone may do: whose package it is, that nobody approves their own, and that no
# automation lifts a bar. `own` counts a key as the one who made it: shared/tenancy/store.ts, `sameOrigin`.
package mc.review

import data.mc.facts
import data.mc.roles

deny["package_of_another_publisher"] := {
	"reason": sprintf("The package %s belongs to another publisher.", [input.facts.package]),
	"fix": {
		"words": "Publish under a package name of your own: change `name` in maestro.json, sign again, and publish.",
		"method": "POST",
		"path": "/api/market/releases",
		"body": null,
	},
	"effect": {"facts": {"package_owner": "none"}, "role": null},
} if {
	input.action == "release.publish"
	facts.given
	input.facts.package_owner == "other"
}

deny["own_release"] := {
	"reason": sprintf("You uploaded %s %s, yourself or with a key of yours; a release is reviewed by someone else.", [
		input.facts.package,
		input.facts.version,
	]),
	"fix": roles.another_person("reviewer"),
	"effect": {"facts": {"own": false}, "role": "reviewer"},
} if {
	input.action == "release.review"
	facts.given
	input.facts.own
}

deny["own_change"] := {
	"reason": sprintf("You proposed %s, yourself or with a key of yours; a change is approved by someone else.", [input.facts.change_id]),
	"fix": roles.another_person("admin"),
	"effect": {"facts": {"own": false}, "role": "admin"},
} if {
	input.action == "entitlement.approve"
	facts.given
	input.facts.own
}

deny["bar_lift_by_person"] := {
	"reason": sprintf("The bar of %s %s is lifted by a person; you are a service.", [
		input.facts.package,
		input.facts.version,
	]),
	"fix": {
		"words": "Log in as a person (locally, `maestro login --local`), and lift it with that token: a key that was made for a service is nobody's word.",
		"method": null,
		"path": null,
		"body": null,
	},
	"effect": {"facts": {}, "role": null, "kind": "person"},
} if {
	input.action == "bar.write"
	facts.given
	input.facts.lifts
	input.caller.kind != "person"
}
