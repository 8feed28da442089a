# Entitlements, at install, upgrade and run: no row means no. Every deny of this page has the same fix: the row of the
# package with all that is missing, and nothing else changed.
package mc.entitlements

import data.mc.facts
import data.mc.moves
import data.mc.roles

# An entitlement's channel -> the release channels that it covers.
channels_covered := {
	"stable": {"stable"},
	"canary": {"stable", "canary"},
}

concerned if {
	input.action in {"execution.start", "install.write", "upgrade.start"}
	facts.given
}

asked if {
	concerned
	input.facts.flags.market_entitlements
}

# With the flag off admins may, and nobody else.
passed_over if {
	concerned
	not input.facts.flags.market_entitlements
}

deny["entitlements_off"] := {
	"reason": "The flag market_entitlements is off; until it is on again, admins alone install and run.",
	"fix": roles.key_with("admin"),
	"effect": {"facts": {}, "role": "admin"},
} if {
	passed_over
	input.caller.role != "admin"
}

deny["entitlement_missing"] := verdict(sprintf("The tenant has no entitlement to %s.", [input.facts.package])) if {
	asked
	input.facts.entitlement == null
}

deny["entitlement_denied"] := verdict(sprintf(
	"The tenant's entitlement to %s says that it is not allowed.",
	[input.facts.package],
)) if {
	asked
	input.facts.entitlement.allowed == false
}

deny["channel_not_entitled"] := verdict(sprintf(
	"The tenant is entitled to %s on %s, which does not cover %s.",
	[input.facts.package, input.facts.entitlement.channel, wanted_channel],
)) if {
	asked
	input.facts.entitlement.allowed
	not channel_covered
}

deny["version_not_entitled"] := verdict(sprintf(
	"The tenant is entitled to %s in the range %s, which %s is not in.",
	[input.facts.package, input.facts.entitlement.version_range, wanted_version],
)) if {
	asked
	input.facts.entitlement.allowed
	out_of_range
}

deny["outside_run_window"] := verdict(sprintf(
	"Runs of %s start in the tenant's run windows only, and it is %s, %s UTC.",
	[input.facts.package, input.facts.clock.weekday, clock_text(input.facts.clock.minute)],
)) if {
	asked
	input.facts.entitlement.allowed
	window_shut
}

deny["run_cap_reached"] := verdict(sprintf(
	"Of %s, %d runs may start in a UTC day, and %d have.",
	[input.facts.package, input.facts.entitlement.runs_per_day_max, input.facts.runs_today],
)) if {
	asked
	input.facts.entitlement.allowed
	cap_reached
}

# The channel that must be covered: the one that it was installed from, the one that is asked for, or the one that a run
# of what is not installed would have it installed from.
wanted_channel := input.facts.install.channel if {
	input.action == "execution.start"
	input.facts.install != null
} else := moves.way.channel

wanted_version := input.facts.install.version if {
	input.action == "execution.start"
	input.facts.install != null
} else := moves.target_version

# True as well where nothing is installed, nor could be: then there is no channel to cover.
channel_covered if wanted_channel in channels_covered[input.facts.entitlement.channel]

channel_covered if {
	input.action == "execution.start"
	input.facts.install == null
	input.facts.installing == null
}

out_of_range if {
	input.facts.in_range == false
	input.facts.entitlement.version_range != null
}

window_shut if {
	input.action == "execution.start"
	windows != null
	count([window | some window in windows; window_open(window)]) == 0
}

windows := input.facts.entitlement.run_windows

window_open(window) if {
	input.facts.clock.weekday in window.days
	minute_of(window.from) <= input.facts.clock.minute
	input.facts.clock.minute < minute_of(window.to)
}

minute_of(text) := (to_number(trim_zero(substring(text, 0, 2))) * 60) + to_number(trim_zero(substring(text, 3, 2)))

trim_zero("00") := "0"

trim_zero(text) := trim_left(text, "0") if text != "00"

clock_text(minute) := sprintf("%s:%s", [two_digits(floor(minute / 60)), two_digits(minute % 60)])

two_digits(number) := sprintf("0%d", [number]) if number < 10

two_digits(number) := sprintf("%d", [number]) if number >= 10

cap_reached if {
	input.action == "execution.start"
	input.facts.entitlement.runs_per_day_max != null
	input.facts.runs_today >= input.facts.entitlement.runs_per_day_max
}

# --- The row that would do

verdict(reason) := {
	"reason": reason,
	"fix": {
		"words": sprintf("Have an admin entitle the tenant to %s on %s%s.", [
			input.facts.package,
			fixed.channel,
			concat("", [words | some part in ["version_range", "run_windows", "runs_per_day_max"]; words := added_words[part]]),
		]),
		"method": "PUT",
		"path": "/api/market/entitlements",
		"body": {"entitlements": [object.union(
			{"package": input.facts.package},
			{key: value | some key, value in fixed; value != null},
		)]},
	},
	"effect": {"facts": {"entitlement": fixed, "in_range": true}, "role": null},
}

fixed := {
	"channel": fixed_channel,
	"allowed": true,
	"version_range": fixed_range,
	"run_windows": fixed_windows,
	"runs_per_day_max": fixed_cap,
}

# The narrowest channel that would do: the one there is where it covers the wanted one, else that one.
default fixed_channel := "stable"

fixed_channel := input.facts.entitlement.channel if {
	input.facts.entitlement != null
	channel_covered
} else := wanted_channel

default fixed_range := null

# A range that is as long as ranges get gives way to the version alone.
fixed_range := wanted_version if {
	out_of_range
	count(widened_range) > 256
} else := widened_range if {
	out_of_range
} else := input.facts.entitlement.version_range

widened_range := sprintf("%s || %s", [input.facts.entitlement.version_range, wanted_version])

default fixed_windows := null

fixed_windows := array.concat(windows, [this_hour]) if {
	window_shut
	count(windows) < windows_max
} else := array.concat(
	array.concat(array.slice(windows, 0, widened_at), [widened(windows[widened_at])]),
	array.slice(windows, widened_at + 1, count(windows)),
) if {
	window_shut
} else := windows

# shared/contract/http-entitlements.ts has the same bound.
windows_max := 20

# Where there are as many windows as there may be, the one that grows by the fewest minutes is widened; none is lost.
widened_at := min([[grows_by(window), at] | some at, window in windows])[1]

grows_by(window) := minutes_of(widened(window)) - minutes_of(window)

minutes_of(window) := (minute_of(window.to) - minute_of(window.from)) * count(window.days)

widened(window) := {
	"days": [day | some day in facts.weekdays; day in array.concat(window.days, this_hour.days)],
	"from": min([window.from, this_hour.from]),
	"to": max([window.to, this_hour.to]),
}

this_hour := {
	"days": [input.facts.clock.weekday],
	"from": sprintf("%s:00", [two_digits(hour)]),
	"to": sprintf("%s:00", [two_digits(hour + 1)]),
} if hour := floor(input.facts.clock.minute / 60)

default fixed_cap := null

fixed_cap := input.facts.runs_today + 1 if {
	cap_reached
} else := input.facts.entitlement.runs_per_day_max

added_words["version_range"] := sprintf(", versions %s", [fixed_range]) if out_of_range

added_words["run_windows"] := sprintf(", with a run window on %s from %s to %s UTC", [
	this_hour.days[0],
	this_hour.from,
	this_hour.to,
]) if {
	window_shut
	count(windows) < windows_max
}

added_words["run_windows"] := sprintf(", with the run window on %s widened to %s", [
	window_text(windows[widened_at]),
	window_text(widened(windows[widened_at])),
]) if {
	window_shut
	count(windows) >= windows_max
}

window_text(window) := sprintf("%s from %s to %s UTC", [concat(", ", window.days), window.from, window.to])

added_words["runs_per_day_max"] := sprintf(", with %d runs a day", [fixed_cap]) if cap_reached
