// The fleet as it stands: the board of the tenant's EdgeHealth object beside what its PolicyPublisher has published. Called by
// the routes of the fleet and of the metrics.

import { Problem } from "../../../shared/contract/problems.ts";
import type { BoardView } from "../../../shared/edge/fleet-board.ts";
import {
  fleetOf,
  laggingPolicies,
  type Fleet,
  type KnownRevision,
  type PublishedFacts,
} from "../../../shared/edge/fleet.ts";
import type { PolicyRevision } from "../../../shared/contract/http-policies.ts";
import { errorFacts } from "../middleware/problem.ts";
import type { Parts } from "../parts.ts";

/** Policies whose history is read to tell since when an instance lags; beyond them it is told since the newest revision. */
const historiesMax = 20;

type FleetParts = Pick<Parts, "fleet" | "publisher" | "clock" | "log">;

/** Throws Problem `edge_board_unavailable`, also where it is not known what is published. */
export async function readFleet(parts: FleetParts, tenantId: string): Promise<Fleet> {
  // First: what is published after it makes an instance late, and never ahead.
  const board = await parts.fleet(tenantId).view();
  if (board.instances.length === 0) return fleetOf(board, { heads: [], earlier: [] }, parts.clock());
  return fleetOf(board, await publishedFor(parts, tenantId, board), parts.clock());
}

async function publishedFor(parts: FleetParts, tenantId: string, board: BoardView): Promise<PublishedFacts> {
  try {
    const publisher = parts.publisher(tenantId);
    const { policies } = await publisher.view();
    const heads = policies.flatMap(({ channels }) => Object.values(channels).flatMap(known));
    const lagging = laggingPolicies(board, heads).slice(0, historiesMax);
    const histories = await Promise.all(lagging.map((name) => publisher.policy(name)));
    return { heads, earlier: histories.flatMap((history) => history?.revisions.flatMap(known) ?? []) };
  } catch (error) {
    parts.log("error", "what is published was not read", { tenant_id: tenantId, ...errorFacts(error) });
    throw new Problem("edge_board_unavailable", "What is published cannot be read now. Ask again.");
  }
}

function known(revision: PolicyRevision | null): KnownRevision[] {
  if (revision === null) return [];
  const { policy, channel, revision: number, tar_sha256, published_at } = revision;
  return [{ policy, channel, revision: number, tar_sha256, published_at }];
}
