package mc.credentials_test

import data.mc.authz

fetcher(registered, everywhere) := {
	"tenant_id": "t", "tenant": "acme", "principal_id": "p", "role": "fetcher", "kind": "service",
	"credential": "key", "fetcher_svids": {"registered": registered, "everywhere": everywhere},
	"spiffe_id": null, "spiffe_domain": null,
}

asked(who) := decision if decision := authz.decision with input as {"action": "edge.report", "caller": who}

gets_no_decision(change) if not asked(object.union(fetcher(true, true), change))

test_a_fetchers_key_opens_nothing_where_fetchers_have_svids if {
	decision := asked(fetcher(true, true))
	not decision.allow
	decision.rule == "svid_needed"
	decision.fix.body == {"flag": "spiffe_everywhere", "enabled": false}
}

test_a_fetchers_key_opens_while_no_id_is_registered_or_the_flag_is_off if {
	every who in [fetcher(false, true), fetcher(true, false), fetcher(false, false)] { asked(who).allow }
}

test_what_is_nearest_is_told_first if {
	decision := authz.decision with input as {"action": "flag.write", "caller": fetcher(true, true)}
	[obstacle.rule | some obstacle in decision.obstacles] == ["svid_needed", "role_too_low"]
}

test_keys_of_others_and_what_is_no_key_open_all_the_same if {
	viewer := object.union(fetcher(true, true), {"role": "viewer"})
	decision := authz.decision with input as {"action": "whoami.read", "caller": viewer}
	decision.allow
	bare := object.remove(fetcher(true, true), ["fetcher_svids"])
	asked(object.union(bare, {"credential": "token", "fetcher_svids": null})).allow
	asked(object.union(bare, {
		"credential": "svid", "fetcher_svids": null,
		"spiffe_id": "spiffe://acme.example/a", "spiffe_domain": "own",
	})).allow
}

test_a_credential_that_is_not_to_the_letter_gets_no_decision if {
	every change in [
		{"credential": "password"},
		{"credential": null},
		{"credential": "token"},
		{"credential": "svid"},
		{"credential": "svid", "spiffe_id": "spiffe://acme.example/a", "spiffe_domain": "own"},
		{"spiffe_id": "spiffe://acme.example/a", "spiffe_domain": "own"},
		{"fetcher_svids": null},
		{"fetcher_svids": {"registered": "yes"}},
		{"fetcher_svids": {"more": true}},
	] {
		gets_no_decision(change)
	}
}
