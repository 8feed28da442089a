# Publishing and reviewing: whose package it is, and that nobody approves their own.
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
	"reason": sprintf("You uploaded %s %s yourself; a release is reviewed by someone else.", [
		input.facts.package,
		input.facts.version,
	]),
	"fix": roles.key_with("reviewer"),
	"effect": {"facts": {"own": false}, "role": "reviewer"},
} if {
	input.action == "release.review"
	facts.given
	input.facts.own
}

deny["own_change"] := {
	"reason": sprintf("You proposed %s yourself; a change is approved by someone else.", [input.facts.change_id]),
	"fix": roles.key_with("admin"),
	"effect": {"facts": {"own": false}, "role": "admin"},
} if {
	input.action == "entitlement.approve"
	facts.given
	input.facts.own
}
