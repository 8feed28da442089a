// The fleet as it stands: the board of the tenant's EdgeHealth object beside what its PolicyPublisher has published. Called by
// the routes of the fleet and of the metrics.

import { fleetOf, laggingPolicies, type Fleet, type KnownRevision } from "../../../shared/edge/fleet.ts";
import type { PolicyRevision } from "../../../shared/contract/http-policies.ts";
import type { Parts } from "../parts.ts";

/** Policies whose history is read to tell since when an instance lags; beyond them it is told since the newest revision. */
const historiesMax = 20;

type FleetParts = Pick<Parts, "fleet" | "publisher" | "clock">;

/** Throws Problem `edge_board_unavailable`. */
export async function readFleet(parts: FleetParts, tenantId: string): Promise<Fleet> {
  // First: what is published after it makes an instance late, and never ahead.
  const board = await parts.fleet(tenantId).view();
  if (board.instances.length === 0) return fleetOf(board, { heads: [], earlier: [] }, parts.clock());
  const publisher = parts.publisher(tenantId);
  const { policies } = await publisher.view();
  const heads = policies.flatMap(({ channels }) => Object.values(channels).flatMap(known));
  const lagging = laggingPolicies(board, heads).slice(0, historiesMax);
  const histories = await Promise.all(lagging.map((name) => publisher.policy(name)));
  const earlier = histories.flatMap((history) => history?.revisions.flatMap(known) ?? []);
  return fleetOf(board, { heads, earlier }, parts.clock());
}

function known(revision: PolicyRevision | null): KnownRevision[] {
  if (revision === null) return [];
  const { policy, channel, revision: number, tar_sha256, published_at } = revision;
  return [{ policy, channel, revision: number, tar_sha256, published_at }];
}
