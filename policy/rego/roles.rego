# Which roles may do what, and how a caller gets there.
package mc.roles

# Action -> the roles that may do it. The order of the roles is the order in which a fix proposes them.
by_action := {
	"whoami.read": ["admin", "operator", "auditor", "publisher", "reviewer", "viewer", "fetcher"],
	"key.list": ["admin", "auditor"],
	"key.create": ["admin"],
	"key.revoke": ["admin"],
	"principal.list": ["admin"],
	"principal.erase": ["admin"],
	"publisher_key.add": ["admin", "publisher"],
	"release.publish": ["admin", "publisher"],
	"release.review": ["admin", "reviewer"],
	"release.yank": ["admin", "publisher"],
	"release.read": ["admin", "operator", "auditor", "publisher", "reviewer", "viewer"],
	"channel.move": ["admin", "publisher"],
	"artifact.read": ["admin", "operator", "publisher", "reviewer"],
	"entitlement.read": ["admin", "operator", "auditor", "viewer"],
	"entitlement.write": ["admin"],
	"entitlement.propose": ["admin", "operator"],
	"entitlement.approve": ["admin"],
	"explain.ask": ["admin", "operator", "auditor", "publisher", "reviewer", "viewer"],
	"install.read": ["admin", "operator", "auditor", "viewer"],
	"install.write": ["admin", "operator"],
	"install.pin": ["admin", "operator"],
	"upgrade.start": ["admin", "operator"],
	"rollback.start": ["admin", "operator"],
	"package.freeze": ["admin", "operator"],
	"bar.write": ["admin", "operator"],
	"execution.start": ["admin", "operator"],
	"execution.finish": ["admin", "operator"],
	"execution.read": ["admin", "operator", "auditor", "viewer"],
	"disclosure.link": ["admin", "operator", "auditor"],
	"pql.query": ["admin", "operator", "auditor"],
	"budget.read": ["admin", "operator", "auditor", "viewer"],
	"budget.write": ["admin"],
	"audit.read": ["admin", "operator", "auditor"],
	"flag.read": ["admin", "operator", "auditor", "viewer"],
	"flag.write": ["admin"],
	"metrics.read": ["admin", "operator", "auditor", "viewer"],
	"policy.read": ["admin", "operator", "auditor", "publisher", "viewer"],
	"policy.publish": ["admin", "publisher"],
	"policy.promote": ["admin", "publisher"],
	"policy.roll_back": ["admin", "operator"],
	"policy.root": ["admin"],
	"edge.report": ["fetcher"],
	"edge.read": ["admin", "operator", "auditor", "publisher", "viewer"],
	"edge.forget": ["admin", "operator"],
	"policy.remove": ["admin"],
	"identity.read": ["admin", "auditor"],
	"identity.write": ["admin"],
	"rotation.read": ["admin", "operator", "auditor"],
	"rotation.start": ["admin"],
	"rotation.acknowledge": ["admin", "operator"],
	"rotation.approve": ["admin"],
	"rotation.cancel": ["admin"],
}

allowed := by_action[input.action]

too_low := {
	"reason": sprintf("The role %s does not allow %s; %s.", [input.caller.role, input.action, sentence]),
	"fix": key_with(lowest),
	"effect": {"facts": {}, "role": lowest},
} if {
	not input.caller.role in allowed
}

sentence := sprintf("only %s does", [allowed[0]]) if count(allowed) == 1

sentence := sprintf("%s do", [concat(", ", allowed)]) if count(allowed) > 1

# The role that may do the least among those that may do this.
lowest := allowed[count(allowed) - 1]

key_with(role) := {
	"words": sprintf("Ask an admin of the tenant for a key with the role %s.", [role]),
	"method": "POST",
	"path": "/api/keys",
	"body": {"role": role},
}

# Words without a call: whatever the caller can call makes one more key of the same person.
another_person(role) := {
	"words": sprintf("Ask another person with the role %s, whose access does not come from you.", [role]),
	"method": null,
	"path": null,
	"body": null,
}
