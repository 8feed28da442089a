package mc.open_routes_test

import data.mc.authz

asked(route) := decision if decision := authz.open_route with input as {"route": route}

test_a_route_of_the_table_is_open if every route in authz.open_routes {
	asked(route) == {"allow": true, "reasons": []}
}

test_any_other_one_is_shut_and_named if {
	every route in ["GET /api/whoami", "POST /healthz", "GET /healthz/", "get /healthz", ""] {
		asked(route) == {"allow": false, "reasons": [sprintf("%s is open to nobody without a credential.", [route])]}
	}
}

test_a_question_of_another_shape_gets_no_decision if {
	not asked(1)
	not authz.open_route with input as {}
	not authz.open_route with input as {"route": "GET /healthz", "caller": {}}
}
