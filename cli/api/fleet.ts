// The board of the fleet as the CLI calls it. Part of `cli/api.ts`.

import { edgeFleet, type EdgeFleet } from "../../shared/contract/http-edge.ts";
import { send } from "../http.ts";
import { apiPath, type Client, type Page } from "./client.ts";

export const fleetApi = ({ json, wire }: Client) => ({
  fleet: ({ limit, cursor }: Page): Promise<EdgeFleet> =>
    json({ method: "GET", path: "/api/edge/fleet", query: { limit, cursor } }, edgeFleet),
  forgetFetcher: (instance: string): Promise<void> =>
    send(wire, { method: "DELETE", path: apiPath("edge", "fleet", instance), idempotent: true }, () =>
      Promise.resolve(),
    ),
});
