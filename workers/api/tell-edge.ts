// Has the stores of the CDN providers hear who may fetch: at once, or with the cron's next minute where the call is lost. Called
// by the routes that change fetchers' keys, workloads and the flag spiffe_everywhere.

import type { Caller } from "../../shared/tenancy/caller.ts";
import { errorFacts } from "./middleware/problem.ts";
import type { Parts } from "./parts.ts";

export async function tellEdge({
  parts,
  caller,
}: {
  readonly parts: Pick<Parts, "publisher" | "log">;
  readonly caller: Caller;
}): Promise<void> {
  try {
    await parts.publisher(caller.tenant_id).nudgeFetchers();
  } catch (error) {
    parts.log("warn", "the publisher was not told who may fetch", errorFacts(error));
  }
}
