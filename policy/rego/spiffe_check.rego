# Workloads: what a SPIFFE ID may do, whatever its role allows. The ID was proven and is registered when this is asked; here it is held
# against the tenant and the role that it speaks for, and against what asks for a person. shared/identity registers by the same rules.
package mc.authz

import data.mc.facts
import data.mc.roles
import data.mc.workers

is_workload if input.caller.spiffe_id != null

# What is decided by a person, and by no automation: approvals, reviews, erasing a person.
asks_for_a_person := {"entitlement.approve", "release.review", "principal.erase", "rotation.approve"}

# In a trust domain that tenants share, whose an ID is stands in it: spiffe://<domain>/tenant/<slug>/<role>/<name>.
segments := split(input.caller.spiffe_id, "/")

is_below_its_tenant if {
	count(segments) > 5
	segments[3] == "tenant"
	segments[4] == input.caller.tenant
}

deny["spiffe_id_of_another_tenant"] := {
	"reason": sprintf("The SPIFFE ID is of a trust domain that tenants share, and not below /tenant/%s/.", [input.caller.tenant]),
	"fix": another_id,
	"effect": {"facts": {}, "role": null},
} if {
	is_workload
	input.caller.spiffe_domain == "shared"
	not is_below_its_tenant
}

deny["spiffe_id_of_another_role"] := {
	"reason": sprintf("The SPIFFE ID names the role %s, and is registered with the role %s.", [segments[5], input.caller.role]),
	"fix": another_id,
	"effect": {"facts": {}, "role": null},
} if {
	is_workload
	input.caller.spiffe_domain == "shared"
	is_below_its_tenant
	segments[5] in known_roles
	segments[5] != input.caller.role
}

deny["person_needed"] := {
	"reason": sprintf("%s asks for a person, and you are a workload.", [input.action]),
	"fix": by_a_person,
	"effect": {"facts": {}, "role": null, "kind": "person"},
} if {
	is_workload
	is_for_a_person
}

is_for_a_person if input.action in asks_for_a_person

is_for_a_person if {
	input.action == "bar.write"
	facts.given
	input.facts.lifts
}

another_id := {
	"words": sprintf("Ask an admin of the tenant to register an ID below /tenant/%s/%s/, and take an SVID of it.", [
		input.caller.tenant,
		input.caller.role,
	]),
	"method": null,
	"path": null,
	"body": null,
}

by_a_person := {
	"words": "Log in as a person (locally, `maestro login --local`), and do it with that token: an SVID is nobody's word.",
	"method": null,
	"path": null,
	"body": null,
}

known_roles contains role if {
	some allowed in roles.by_action
	some role in allowed
}

# Between the platform's own workers: the SVID was verified against the platform's authority before this is asked. An ID is the
# worker of its one spelling in the platform's own trust domain, and of no other.
worker_call := {"allow": true, "reasons": []} if {
	worker_call_fits
	is_called_by_its_caller
}

worker_call := {"allow": false, "reasons": [reason]} if {
	worker_call_fits
	not is_called_by_its_caller
	reason := sprintf("%s may not call %s of %s", [input.spiffe_id, input.method, input.callee])
}

worker_call_fits if {
	object.keys(input) == {"callee", "method", "spiffe_id", "trust_domain"}
	every name in ["callee", "method", "spiffe_id", "trust_domain"] { is_string(input[name]) }
}

is_called_by_its_caller if {
	some caller, allowed in workers.methods[input.callee]
	input.spiffe_id == sprintf("spiffe://%s/platform/%s", [input.trust_domain, caller])
	input.method in allowed
}
