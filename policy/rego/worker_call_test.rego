package mc.worker_call_test

import data.mc.authz
import data.mc.workers

called(callee, method, id) := decision if {
	decision := authz.worker_call with input as {
		"callee": callee,
		"method": method,
		"spiffe_id": id,
		"trust_domain": "platform.mc.local",
	}
}

names := ["api", "audit", "signer", "authority", "edge"]

test_a_worker_calls_what_the_table_says_and_nothing_else if {
	allowed := {[callee, name, method] |
		some callee in names
		some name in names
		some methods in [list | list := workers.methods[_][_]]
		some method in methods
		called(callee, method, sprintf("spiffe://platform.mc.local/platform/%s", [name])).allow
	}
	listed := {[callee, name, method] |
		some callee, by_name in workers.methods
		some name, methods in by_name
		some method in methods
	}
	allowed == listed
	count(allowed) > 30
	refused := called("signer", "countersign", "spiffe://platform.mc.local/platform/audit")
	refused.reasons == ["spiffe://platform.mc.local/platform/audit may not call countersign of signer"]
}

test_a_worker_is_its_one_spelling_in_the_platforms_own_trust_domain if {
	every id in [
		"spiffe://mc.local/platform/api", "spiffe://platform.mc.local/platform/api2", "spiffe://platform.mc.local/api",
		"spiffe://platform.mc.local/tenant/a/platform/api", "spiffe://platform.mc.local/platform/API", "",
	] {
		called("signer", "countersign", id).allow == false
	}
}

test_a_call_of_another_shape_gets_no_decision if {
	not called("signer", 1, "spiffe://platform.mc.local/platform/api")
	not authz.worker_call with input as {"callee": "signer", "method": "pointer", "spiffe_id": "spiffe://a/platform/api"}
}
