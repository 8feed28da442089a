# What stands in the way of an install, an upgrade, a rollback or a run beside the entitlement: flags, yanks, bars,
# freezes, pins, and the health gate.
package mc.moves

import data.mc.facts

moving if {
	input.action in {"install.write", "upgrade.start"}
	facts.given
}

deny["channels_off"] := {
	"reason": "The flag market_channels is off: nothing is installed from canary or upgraded to it.",
	"fix": {
		"words": "Have an admin switch the flag market_channels on.",
		"method": "PUT",
		"path": "/api/flags",
		"body": {"flag": "market_channels", "enabled": true},
	},
	"effect": {"facts": {"flags": object.union(input.facts.flags, {"market_channels": true})}, "role": null},
} if {
	moving
	input.facts.channel == "canary"
	not input.facts.flags.market_channels
}

deny["release_yanked"] := {
	"reason": sprintf("The channel %s of %s points to %s, which its publisher has yanked.", [
		input.facts.channel,
		input.facts.package,
		input.facts.release.version,
	]),
	"fix": yank_fix,
	"effect": {"facts": {"release": object.union(input.facts.release, {"state": "published"})}, "role": null},
} if {
	moving
	input.facts.release.state == "yanked"
}

yank_fix := {
	"words": sprintf("Have the publisher point %s to %s.", [input.facts.channel, input.facts.release.alternative]),
	"method": "POST",
	"path": "/api/market/channels",
	"body": {
		"package": input.facts.package,
		"channel": input.facts.channel,
		"version": input.facts.release.alternative,
		"down": true,
	},
} if {
	input.facts.release.alternative != null
} else := {
	"words": "Have the publisher publish another release.",
	"method": "POST",
	"path": "/api/market/releases",
	"body": null,
}

deny["release_barred"] := {
	"reason": sprintf("%s %s is barred for this tenant: it was rolled back or barred before.", [
		input.facts.package,
		barred_version,
	]),
	"fix": {
		"words": sprintf("Lift the bar of %s %s, if it is known to be good.", [input.facts.package, barred_version]),
		"method": "PUT",
		"path": "/api/market/bars",
		"body": {
			"package": input.facts.package,
			"version": barred_version,
			"barred": false,
			"reason": "known to be good",
		},
	},
	"effect": {"facts": lifted, "role": null},
} if {
	barred_version
}

barred_version := input.facts.release.version if {
	moving
	input.facts.release.barred
}

barred_version := input.facts.version if {
	input.action == "rollback.start"
	facts.given
	input.facts.barred
}

lifted := {"release": object.union(input.facts.release, {"barred": false})} if moving

lifted := {"barred": false} if input.action == "rollback.start"

deny["package_frozen"] := {
	"reason": sprintf("%s is frozen: its installs stay where they are, but for a rollback.", [input.facts.package]),
	"fix": {
		"words": sprintf("Unfreeze %s.", [input.facts.package]),
		"method": "PUT",
		"path": "/api/market/freezes",
		"body": {"package": input.facts.package, "frozen": false},
	},
	"effect": {"facts": {"frozen": false}, "role": null},
} if {
	moving
	input.facts.frozen
}

deny["not_installed"] := {
	"reason": sprintf("The package %s is not installed as %s.", [input.facts.package, input.facts.install_name]),
	"fix": {
		"words": sprintf("Install %s as %s first.", [input.facts.package, input.facts.install_name]),
		"method": "POST",
		"path": "/api/market/installs",
		"body": {"package": input.facts.package, "name": input.facts.install_name},
	},
	"effect": {"facts": {"install": {"channel": "stable", "version": "0.0.0"}}, "role": null},
} if {
	input.action == "execution.start"
	facts.given
	input.facts.install == null
}

deny["not_installed"] := {
	"reason": sprintf("The package %s is not installed.", [input.facts.package]),
	"fix": {
		"words": sprintf("Install %s first.", [input.facts.package]),
		"method": "POST",
		"path": "/api/market/installs",
		"body": {"package": input.facts.package},
	},
	"effect": {"facts": {"installs": object.union(input.facts.installs, {"count": 1})}, "role": null},
} if {
	input.action in {"upgrade.start", "rollback.start"}
	facts.given
	input.facts.installs.count == 0
}

deny["install_pinned"] := {
	"reason": sprintf("The install %s of %s is pinned to its version.", [input.facts.install.name, input.facts.package]),
	"fix": {
		"words": sprintf("Unpin the install %s of %s.", [input.facts.install.name, input.facts.package]),
		"method": "PUT",
		"path": "/api/market/pins",
		"body": {"package": input.facts.package, "install": input.facts.install.name, "pinned": false},
	},
	"effect": {"facts": {"install": object.union(input.facts.install, {"pinned": false})}, "role": null},
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
	"effect": {"facts": {"installs": object.union(input.facts.installs, {"pinned": 0})}, "role": null},
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
