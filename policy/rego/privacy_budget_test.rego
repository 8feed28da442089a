package mc.privacy_test

import data.mc.privacy

denials(facts) := found if found := privacy.deny with input as {"privacy": facts}

spent(remaining, units) := {
	"units": units,
	"remaining_units": remaining,
	"limit_needed_units": 20,
	"leak_units_per_hour": 5,
}

test_a_ledger_that_was_not_asked_denies_nothing if count(denials(null)) == 0

test_the_last_unit_may_be_spent if count(denials(spent(3, 3))) == 0

test_one_unit_more_may_not if {
	some denial in denials(spent(2, 3))
	denial.reason == "The run needs 3 micro-epsilon, and 2 are left of the tenant's privacy budget."
	contains(denial.fix.words, "by 1 micro-epsilon")
	denial.fix.body == {"limit_units": 20, "leak_units_per_hour": 5}
}

test_a_budget_below_zero_is_told_as_it_is if {
	some denial in denials(spent(-5, 1))
	contains(denial.reason, "and -5 are left")
	contains(denial.fix.words, "by 6 micro-epsilon")
}

test_a_run_that_spends_nothing_needs_no_budget if count(denials(spent(0, 0))) == 0
