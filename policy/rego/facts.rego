# The shape of facts, action by action: what is not to the letter gets no decision. shared/policy/actions.ts has the types.
package mc.facts

channels := {"stable", "canary"}

weekdays := ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

given if "facts" in object.keys(input)

fit if {
	input.action == "execution.start"
	object.keys(input.facts) == {
		"package", "flags", "entitlement", "install_name", "install", "in_range",
		"clock", "runs_today", "privacy", "installing",
	}
	common_fits
	is_boolean(input.facts.in_range)
	is_string(input.facts.install_name)
	run_install_fits
	installing_fits
	object.keys(input.facts.clock) == {"weekday", "minute"}
	input.facts.clock.weekday in weekdays
	minute_fits(input.facts.clock.minute)
	count_fits(input.facts.runs_today)
	privacy_fits
}

fit if {
	input.action == "install.write"
	object.keys(input.facts) == {
		"package", "flags", "entitlement", "channel", "release", "in_range",
		"frozen", "install",
	}
	common_fits
	move_fits
	install_fits
}

fit if {
	input.action == "upgrade.start"
	object.keys(input.facts) == {
		"package", "flags", "entitlement", "channel", "release", "in_range",
		"frozen", "installs", "gate_holds", "cohort_percent",
	}
	common_fits
	move_fits
	object.keys(input.facts.installs) == {"count", "pinned"}
	every value in input.facts.installs { count_fits(value) }
	is_boolean(input.facts.gate_holds)
	count_fits(input.facts.cohort_percent)
}

fit if {
	input.action == "rollback.start"
	object.keys(input.facts) == {"package", "version", "installs", "barred"}
	is_string(input.facts.package)
	text_or_null(input.facts.version)
	rollback_installs_fit
	is_boolean(input.facts.barred)
}

# How many can go back is asked for explanations alone.
rollback_installs_fit if {
	object.keys(input.facts.installs) == {"count"}
	count_fits(input.facts.installs.count)
}

rollback_installs_fit if {
	object.keys(input.facts.installs) == {"count", "can_go_back", "barred_way"}
	count_fits(input.facts.installs.count)
	count_fits(input.facts.installs.can_go_back)
	text_or_null(input.facts.installs.barred_way)
}

fit if {
	input.action == "bar.write"
	object.keys(input.facts) == {"package", "version", "lifts"}
	is_string(input.facts.package)
	is_string(input.facts.version)
	is_boolean(input.facts.lifts)
}

fit if {
	input.action == "release.publish"
	object.keys(input.facts) == {"package", "package_owner"}
	is_string(input.facts.package)
	input.facts.package_owner in {"none", "self", "other"}
}

fit if {
	input.action == "release.review"
	object.keys(input.facts) == {"package", "version", "own"}
	is_string(input.facts.package)
	is_string(input.facts.version)
	is_boolean(input.facts.own)
}

fit if {
	input.action == "entitlement.approve"
	object.keys(input.facts) == {"change_id", "own"}
	is_string(input.facts.change_id)
	is_boolean(input.facts.own)
}

fit if {
	input.action in {"rotation.read", "rotation.start", "rotation.acknowledge", "rotation.cancel"}
	object.keys(input.facts) == {"curates", "own_domain"}
	is_boolean(input.facts.curates)
	is_boolean(input.facts.own_domain)
}

fit if {
	input.action == "rotation.approve"
	object.keys(input.facts) == {"curates", "own_domain", "rotation_id", "own"}
	is_boolean(input.facts.curates)
	is_boolean(input.facts.own_domain)
	is_string(input.facts.rotation_id)
	is_boolean(input.facts.own)
}

common_fits if {
	is_string(input.facts.package)
	object.keys(input.facts.flags) == {"market_entitlements", "market_channels"}
	every value in input.facts.flags { is_boolean(value) }
	entitlement_fits
}

move_fits if {
	input.facts.channel in channels
	is_boolean(input.facts.in_range)
	is_boolean(input.facts.frozen)
	input.facts.release == null
}

move_fits if {
	input.facts.channel in channels
	is_boolean(input.facts.in_range)
	is_boolean(input.facts.frozen)
	release_fits(input.facts.release)
}

entitlement_fits if input.facts.entitlement == null

entitlement_fits if {
	object.keys(input.facts.entitlement) == {"channel", "allowed", "version_range", "run_windows", "runs_per_day_max"}
	input.facts.entitlement.channel in channels
	is_boolean(input.facts.entitlement.allowed)
	text_or_null(input.facts.entitlement.version_range)
	windows_fit
	count_or_null(input.facts.entitlement.runs_per_day_max)
}

windows_fit if input.facts.entitlement.run_windows == null

windows_fit if {
	is_array(input.facts.entitlement.run_windows)
	every window in input.facts.entitlement.run_windows {
		object.keys(window) == {"days", "from", "to"}
		every day in window.days { day in weekdays }
		regex.match(`^\d\d:\d\d$`, window.from)
		regex.match(`^\d\d:\d\d$`, window.to)
	}
}

run_install_fits if input.facts.install == null

run_install_fits if {
	object.keys(input.facts.install) == {"channel", "version"}
	input.facts.install.channel in channels
	is_string(input.facts.install.version)
}

install_fits if input.facts.install == null

install_fits if {
	object.keys(input.facts.install) == {"name", "pinned"}
	is_string(input.facts.install.name)
	is_boolean(input.facts.install.pinned)
}

installing_fits if input.facts.installing == null

installing_fits if {
	object.keys(input.facts.installing) == {"channel", "release", "frozen"}
	input.facts.installing.channel in channels
	is_boolean(input.facts.installing.frozen)
	release_fits(input.facts.installing.release)
}

release_fits(release) if {
	object.keys(release) == {"version", "state", "barred", "alternative"}
	is_string(release.version)
	release.state in {"published", "yanked"}
	is_boolean(release.barred)
	text_or_null(release.alternative)
}

privacy_fits if input.facts.privacy == null

privacy_fits if {
	object.keys(input.facts.privacy) == {"units", "remaining_units", "limit_needed_units", "leak_units_per_hour"}
	every value in input.facts.privacy { whole(value) }
}

minute_fits(value) if {
	count_fits(value)
	value < 1440
}

count_fits(value) if {
	whole(value)
	value >= 0
}

# Whole numbers that every reader of JSON has exactly: a fraction is written differently by OPA's builds.
whole(value) if {
	is_number(value)
	value == floor(value)
	abs(value) <= 9007199254740991
}

count_or_null(value) if value == null

count_or_null(value) if count_fits(value)

text_or_null(value) if value == null

text_or_null(value) if is_string(value)
