# What a caller came with: a key, an issuer's token or an SVID; and where keys no longer do. A tenant that has registered a SPIFFE ID of a
# fetcher has its fetchers come with SVIDs, while its flag spiffe_everywhere is on. What a key's tenant has of both comes with the caller.
package mc.credentials

fits if {
	input.caller.credential == "key"
	no_identity
	object.keys(input.caller.fetcher_svids) == {"registered", "everywhere"}
	every value in input.caller.fetcher_svids { is_boolean(value) }
}

fits if {
	input.caller.credential == "token"
	no_identity
	input.caller.fetcher_svids == null
}

fits if {
	input.caller.credential == "svid"
	startswith(input.caller.spiffe_id, "spiffe://")
	input.caller.spiffe_domain in {"own", "shared"}
	input.caller.fetcher_svids == null
}

no_identity if {
	input.caller.spiffe_id == null
	input.caller.spiffe_domain == null
}

deny["svid_needed"] := {
	"reason": "The tenant has registered SPIFFE IDs of fetchers, and the flag spiffe_everywhere is on: fetchers' keys open nothing.",
	"fix": {
		"words": "Call with the fetcher's SVID; or have an admin switch the flag off for a while.",
		"method": "PUT",
		"path": "/api/flags",
		"body": {"flag": "spiffe_everywhere", "enabled": false},
	},
	"effect": {"facts": {}, "role": null, "spiffe_everywhere": false},
} if {
	input.caller.credential == "key"
	input.caller.role == "fetcher"
	input.caller.fetcher_svids.registered
	input.caller.fetcher_svids.everywhere
}
