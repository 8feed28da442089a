# What stands in the way of an install, an upgrade, a rollback or a run beside the entitlement: flags, yanks, bars,
# freezes, pins, and the health gate. A run of what is not installed meets what installing it would meet.
package mc.moves

import data.mc.facts

moving if {
	input.action in {"install.write", "upgrade.start"}
	facts.given
}

# What would be installed: what the action asks for, or what a run lacks. `installing` stays among the facts once the
# install is there, so that an explanation does not take the install alone for enough.
way := input.facts if moving

way := input.facts.installing if {
	input.action == "execution.start"
	facts.given
	input.facts.installing != null
}

# The facts of the way, once something of it has changed.
changed_way(change) := change if moving

changed_way(change) := {"installing": change} if input.action == "execution.start"

# The version that would be installed: where the channel points, or where it is to be pointed.
target_version := way.release.alternative if {
	way.release.state == "yanked"
	way.release.alternative != null
} else := way.release.version

deny["channels_off"] := {
	"reason": "The flag market_channels is off: nothing is installed from canary or upgraded to it.",
	"fix": {
		"words": "Have an admin switch the flag market_channels on.",
		"method": "PUT",
		"path": "/api/flags",
		"body": {"flag": "market_channels", "enabled": true},
	},
	"effect": {"facts": {"flags": {"market_channels": true}}, "role": null},
} if {
	way.channel == "canary"
	not input.facts.flags.market_channels
}

deny["release_yanked"] := {
	"reason": sprintf("The channel %s of %s points to %s, which its publisher has yanked.", [
		way.channel,
		input.facts.package,
		way.release.version,
	]),
	"fix": yank_fix,
	"effect": {
		"facts": object.union(
			changed_way({"release": {"version": target_version, "state": "published", "barred": false}}),
			ranged,
		),
		"role": null,
	},
} if {
	way.release.state == "yanked"
}

# What is published anew is in the range, as the words say; an alternative is in it or not.
ranged := {} if way.release.alternative != null

ranged := {"in_range": true} if way.release.alternative == null

# The alternative is none that the tenant has barred.
yank_fix := {
	"words": sprintf("Have the publisher point %s to %s.", [way.channel, way.release.alternative]),
	"method": "POST",
	"path": "/api/market/channels",
	"body": {
		"package": input.facts.package,
		"channel": way.channel,
		"version": way.release.alternative,
		"down": true,
	},
} if {
	way.release.alternative != null
} else := {
	"words": sprintf("Have the publisher publish another release to %s%s.", [way.channel, in_words]),
	"method": null,
	"path": null,
	"body": null,
}

default in_words := ""

in_words := sprintf(", of a version in %s", [input.facts.entitlement.version_range]) if {
	input.facts.entitlement.version_range != null
}

deny["release_barred"] := {
	"reason": sprintf("%s %s is barred for this tenant: it was rolled back or barred before.", [
		input.facts.package,
		barred_version,
	]),
	"fix": lift_of(barred_version),
	"effect": {"facts": lifted, "role": null},
} if {
	barred_version
}

lift_of(version) := {
	"words": sprintf("Have a person lift the bar of %s %s, if it is known to be good.", [input.facts.package, version]),
	"method": "PUT",
	"path": "/api/market/bars",
	"body": {
		"package": input.facts.package,
		"version": version,
		"barred": false,
		"reason": "known to be good",
	},
}

barred_version := way.release.version if way.release.barred

barred_version := input.facts.version if {
	input.action == "rollback.start"
	facts.given
	input.facts.barred
}

lifted := changed_way({"release": {"barred": false}}) if way

lifted := {"barred": false} if input.action == "rollback.start"

deny["package_frozen"] := {
	"reason": sprintf("%s is frozen: its installs stay where they are, but for a rollback.", [input.facts.package]),
	"fix": {
		"words": sprintf("Unfreeze %s.", [input.facts.package]),
		"method": "PUT",
		"path": "/api/market/freezes",
		"body": {"package": input.facts.package, "frozen": false},
	},
	"effect": {"facts": changed_way({"frozen": false}), "role": null},
} if {
	way.frozen
}

deny["not_installed"] := {
	"reason": sprintf("The package %s is not installed as %s.", [input.facts.package, input.facts.install_name]),
	"fix": install_fix,
	"effect": {"facts": {"install": would_be_installed}, "role": null},
} if {
	input.action == "execution.start"
	facts.given
	input.facts.install == null
}

install_fix := {
	"words": sprintf("Install %s from %s as %s.", [input.facts.package, way.channel, input.facts.install_name]),
	"method": "POST",
	"path": "/api/market/installs",
	"body": object.union({"package": input.facts.package, "name": input.facts.install_name}, from_channel),
} if {
	way
} else := {
	"words": sprintf(
		"No channel of %s points to a release: its publisher has to publish one before it can be installed as %s.",
		[input.facts.package, input.facts.install_name],
	),
	"method": null,
	"path": null,
	"body": null,
}

# Installs are from stable where the call names no channel.
from_channel := {"channel": "canary"} if way.channel == "canary"

from_channel := {} if way.channel == "stable"

would_be_installed := {"channel": way.channel, "version": target_version} if {
	way
} else := {"channel": "stable", "version": "0.0.0"}

# What stands in the way of this upgrade stands in the way of that install, and is told before it.
deny["not_installed"] := {
	"reason": not_installed,
	"fix": {
		"words": sprintf("Install %s from %s first.", [input.facts.package, way.channel]),
		"method": "POST",
		"path": "/api/market/installs",
		"body": object.union({"package": input.facts.package}, from_channel),
	},
	"effect": {"facts": {"installs": {"count": 1}}, "role": null},
} if {
	input.action == "upgrade.start"
	facts.given
	input.facts.installs.count == 0
}

deny["not_installed"] := {
	"reason": not_installed,
	"fix": {
		"words": sprintf(
			"There is nothing to take back: installing %s does not help, since a new install has nothing to go back to.",
			[input.facts.package],
		),
		"method": null,
		"path": null,
		"body": null,
	},
	"effect": {"facts": {"installs": {"count": 1, "can_go_back": 1, "barred_way": null}}, "role": null},
} if {
	input.action == "rollback.start"
	facts.given
	input.facts.installs.count == 0
}

not_installed := sprintf("The package %s is not installed.", [input.facts.package])

# For explanations alone: the action plans its moves, and answers the problem of the same name where there are none.
deny["nothing_to_roll_back"] := {
	"reason": nothing_reason,
	"fix": nothing_fix,
	"effect": {"facts": {"installs": {"can_go_back": 1}}, "role": null},
} if {
	input.action == "rollback.start"
	facts.given
	input.facts.installs.count > 0
	input.facts.installs.can_go_back == 0
}

nothing_reason := sprintf("No install of %s has an older release to go back to.", [input.facts.package]) if {
	input.facts.version == null
} else := sprintf("No install of %s can go back to %s.", [input.facts.package, input.facts.version])

nothing_fix := lift_of(input.facts.installs.barred_way) if {
	input.facts.installs.barred_way != null
} else := {
	"words": "Nothing can be taken back before something has moved: an upgrade, to another release, makes this one what a rollback goes back to.",
	"method": null,
	"path": null,
	"body": null,
} if {
	input.facts.version == null
} else := {
	"words": sprintf(
		"Name another version: one that an install had before, is not on now, and that still verifies. %s is none.",
		[input.facts.version],
	),
	"method": null,
	"path": null,
	"body": null,
}

deny["install_pinned"] := {
	"reason": sprintf("The install %s of %s is pinned to its version.", [input.facts.install.name, input.facts.package]),
	"fix": {
		"words": sprintf("Unpin the install %s of %s.", [input.facts.install.name, input.facts.package]),
		"method": "PUT",
		"path": "/api/market/pins",
		"body": {"package": input.facts.package, "install": input.facts.install.name, "pinned": false},
	},
	"effect": {"facts": {"install": {"pinned": false}}, "role": null},
} if {
	input.action == "install.write"
	facts.given
	input.facts.install.pinned
}

deny["install_pinned"] := {
	"reason": sprintf("Every install of %s is pinned to its version.", [input.facts.package]),
	"fix": {
		"words": sprintf("Unpin the installs of %s.", [input.facts.package]),
		"method": "PUT",
		"path": "/api/market/pins",
		"body": {"package": input.facts.package, "pinned": false},
	},
	"effect": {"facts": {"installs": {"pinned": 0}}, "role": null},
} if {
	input.action == "upgrade.start"
	facts.given
	input.facts.installs.count > 0
	input.facts.installs.pinned == input.facts.installs.count
}

deny["gate_holds"] := {
	"reason": sprintf("The health gate of the rollout of %s holds: it has not seen enough to widen it.", [input.facts.package]),
	"fix": {
		"words": "Wait for more runs, or widen it despite the gate.",
		"method": "POST",
		"path": "/api/market/upgrades",
		"body": {
			"package": input.facts.package,
			"channel": input.facts.channel,
			"cohort_percent": input.facts.cohort_percent,
			"despite_gate": true,
		},
	},
	"effect": {"facts": {"gate_holds": false}, "role": null},
} if {
	input.action == "upgrade.start"
	facts.given
	input.facts.gate_holds
}
