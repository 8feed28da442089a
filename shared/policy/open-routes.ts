// Which routes ask for no credential: decided by the same compiled Rego as all else (policy/rego/open_routes.rego, rule `open_route`).
// Asked by the API's door for each request of such a route.

import { openRouteEntrypoint, type LoadedPolicy } from "./compiled.ts";
import { yesOrNo, type YesOrNo } from "./yes-or-no.ts";

/** Open routes are fewer than this. */
const rememberedMax = 100;

/** `route`: its method and path as the contract has them, `GET /api/audit/keys`. */
export type OpenRoutes = (route: string) => YesOrNo;

export function openRoutes(loaded: LoadedPolicy): OpenRoutes {
  const ask = yesOrNo<{ readonly route: string }>(loaded, openRouteEntrypoint, ({ route }) => route, rememberedMax);
  return (route) => ask({ route });
}
