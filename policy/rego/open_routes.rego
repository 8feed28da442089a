# Routes that ask for no credential: whoever comes is let in, since this table says so. What is not in it is shut, whatever the API's
# code says. The API's door asks for each request (shared/policy/open-routes.ts).
package mc.authz

open_routes := {
	"GET /.well-known/spiffe/{name}/bundle.json",
	"GET /api/audit/events.schema.json",
	"GET /api/audit/keys",
	# Who has the token has the link.
	"GET /api/disclosures/{token}",
	"GET /docs",
	"GET /healthz",
	"GET /openapi.json",
}

open_route := {"allow": true, "reasons": []} if {
	open_route_fits
	input.route in open_routes
}

open_route := {"allow": false, "reasons": [reason]} if {
	open_route_fits
	not input.route in open_routes
	reason := sprintf("%s is open to nobody without a credential.", [input.route])
}

open_route_fits if {
	object.keys(input) == {"route"}
	is_string(input.route)
}
