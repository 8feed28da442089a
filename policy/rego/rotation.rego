# Rotating keys: the platform's by tenants that curate the marketplace, the authority of a trust domain by the tenant that states it; in an
# emergency by two persons.
package mc.rotation

import data.mc.facts
import data.mc.roles

deny["own_change"] := {
	"reason": sprintf("You proposed the emergency %s, yourself or with a key of yours; it is approved by someone else.", [
		input.facts.rotation_id,
	]),
	"fix": roles.another_person("admin"),
	"effect": {"facts": {"own": false}, "role": "admin"},
} if {
	input.action == "rotation.approve"
	facts.given
	input.facts.own
}

deny["tenant_not_curating"] := {
	"reason": "The platform's keys are rotated by tenants that curate the marketplace; yours does not.",
	"fix": {
		"words": "Ask whoever runs the platform: the tenant that curates it rotates its keys.",
		"method": null,
		"path": null,
		"body": null,
	},
	"effect": {"facts": {"curates": true}, "role": null},
} if {
	startswith(input.action, "rotation.")
	facts.given
	not input.facts.curates
	not input.facts.own_domain
}
