# Privacy budgets, explained: the ledger's atomic reserve decides, and these rules say why it said no. Micro-epsilon,
# whole numbers. `input.privacy` is null while the ledger was not asked, or where it had room.
package mc.privacy

deny contains {
	"reason": sprintf(
		"The run needs %d micro-epsilon, and %d are left of the tenant's privacy budget.",
		[input.privacy.units, input.privacy.remaining_units],
	),
	"fix": {
		"words": sprintf(words, [missing_units]),
		"method": "PUT",
		"path": "/api/privacy/budget",
		"body": {
			"limit_units": input.privacy.limit_needed_units,
			"leak_units_per_hour": input.privacy.leak_units_per_hour,
		},
	},
	"effect": {"facts": {"privacy": null}, "role": null},
} if {
	is_object(input.privacy)
	missing_units > 0
}

missing_units := input.privacy.units - input.privacy.remaining_units

# Waiting helps where something comes back, and a budget with nothing spent has room for the run.
words := "Wait until the budget has leaked back, or have an admin raise its limit by %d micro-epsilon." if {
	input.privacy.leak_units_per_hour > 0
	input.privacy.units <= limit_units
} else := "Have an admin raise the budget's limit by %d micro-epsilon."

# What the limit is: what is needed, without the run, with what is left.
limit_units := (input.privacy.limit_needed_units - input.privacy.units) + input.privacy.remaining_units
