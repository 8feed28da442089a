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

words(facts) := denial.fix.words if some denial in denials(facts)

test_waiting_is_named_where_something_comes_back if {
	startswith(words(spent(2, 3)), "Wait until the budget has leaked back, or ")
}

test_waiting_is_not_named_where_nothing_comes_back if {
	facts := object.union(spent(2, 3), {"leak_units_per_hour": 0})
	words(facts) == "Have an admin raise the budget's limit by 1 micro-epsilon."
}

# Of a limit of 2 with all of it left, 3 are wanted.
test_waiting_is_not_named_where_the_run_needs_more_than_the_limit if {
	facts := {"units": 3, "remaining_units": 2, "limit_needed_units": 3, "leak_units_per_hour": 5}
	words(facts) == "Have an admin raise the budget's limit by 1 micro-epsilon."
}

# A limit of 3, of which 2 are left, and 3 are wanted: tomorrow there is room.
test_waiting_is_named_where_the_run_needs_all_of_the_limit if {
	facts := {"units": 3, "remaining_units": 2, "limit_needed_units": 4, "leak_units_per_hour": 1}
	startswith(words(facts), "Wait until ")
}

test_a_budget_below_zero_is_told_as_it_is if {
	some denial in denials(spent(-5, 1))
	contains(denial.reason, "and -5 are left")
	contains(denial.fix.words, "by 6 micro-epsilon")
}

test_a_run_that_spends_nothing_needs_no_budget if count(denials(spent(0, 0))) == 0
