package mc.spiffe_check_test

import data.mc.authz

caller(role, id, domain) := {
	"tenant_id": "t", "tenant": "acme", "principal_id": "p", "role": role, "kind": "service",
	"credential": "svid", "fetcher_svids": null, "spiffe_id": id, "spiffe_domain": domain,
}

asked(action, who) := decision if decision := authz.decision with input as {"action": action, "caller": who}

lift(who) := decision if {
	decision := authz.decision with input as {
		"action": "bar.write",
		"caller": who,
		"facts": {"package": "tools/a", "version": "1.0.0", "lifts": true},
	}
}

fetcher(path) := caller("fetcher", concat("", ["spiffe://mc.local", path]), "shared")

test_a_fetcher_below_its_tenant_reports_and_does_nothing_else if {
	asked("edge.report", fetcher("/tenant/acme/fetcher/berlin-1")).allow
	asked("whoami.read", fetcher("/tenant/acme/fetcher/berlin-1")).allow
	asked("release.read", fetcher("/tenant/acme/fetcher/berlin-1")).rule == "role_too_low"
}

test_an_id_of_a_shared_domain_is_below_its_tenant if {
	every path in [
		"/tenant/other/fetcher/a", "/tenant/acme2/fetcher/a", "/tenant/acme", "/platform/signer",
		"/a/tenant/acme/fetcher/a", "/Tenant/acme/fetcher/a",
	] {
		decision := asked("edge.report", fetcher(path))
		not decision.allow
		decision.rule == "spiffe_id_of_another_tenant"
	}
	asked("edge.report", fetcher("/tenant/acme/berlin-1")).allow
}

test_an_id_that_names_a_role_has_that_role if {
	decision := asked("whoami.read", fetcher("/tenant/acme/admin/berlin-1"))
	decision.rule == "spiffe_id_of_another_role"
	decision.reasons == ["The SPIFFE ID names the role admin, and is registered with the role fetcher."]
	asked("key.create", caller("admin", "spiffe://mc.local/tenant/acme/fetcher/a", "shared")).rule == "spiffe_id_of_another_role"
	asked("key.create", caller("admin", "spiffe://mc.local/tenant/acme/admin/a", "shared")).allow
}

test_an_id_of_the_tenants_own_domain_is_what_the_tenant_calls_it if {
	asked("edge.report", caller("fetcher", "spiffe://acme.example/tenant/other/admin/a", "own")).allow
	asked("edge.report", caller("fetcher", "spiffe://acme.example/a", "own")).allow
}

test_a_workload_does_nothing_that_asks_for_a_person if {
	admin := caller("admin", "spiffe://acme.example/a", "own")
	every action in authz.asks_for_a_person {
		asked(action, admin).rule == "person_needed"
		not asked(action, admin).allow
		asked(action, object.union(admin, {"credential": "token", "spiffe_id": null, "spiffe_domain": null})).allow
	}
	{obstacle.rule | some obstacle in lift(admin).obstacles} == {"person_needed", "bar_lift_by_person"}
	lift(object.union(admin, {"kind": "person"})).rule == "person_needed"
	asked("bar.write", admin).allow
}
