// How long a run's disclosure link took: from the later of its finish and the first ask to the first link that could be used.
// Kept in the run's row and counted in the same transaction, so that each run counts once, whatever isolate answers. Called
// by the disclosure route after the audit worker has answered.

import { sql } from "drizzle-orm";
import { asTenant, type Database } from "../tenancy/database.ts";
import { observeMs } from "../tenancy/metrics-store.ts";

export interface LinkTold {
  /** Ms since 1970, by the API's clock, as the finish is. */
  readonly asked_at: number;
  /** When the link that was given could be used; null: none was given yet. */
  readonly linked_at: number | null;
}

/** Sets what is not set yet. Whoever asks for a link long after a run is no slowness of ours: that counts from the ask. */
export async function linkTold(
  database: Database,
  tenantId: string,
  executionId: string,
  told: LinkTold,
): Promise<void> {
  const asked = new Date(told.asked_at).toISOString();
  const linked = told.linked_at === null ? null : new Date(told.linked_at).toISOString();
  await asTenant(database, tenantId, [
    sql`with before as (
          select finished_at, link_asked_at from executions
          where tenant_id = ${tenantId} and id = ${executionId} and linked_at is null
            and (link_asked_at is null or ${linked}::timestamptz is not null)
          for update
        ), told as (
          update executions set link_asked_at = coalesce(link_asked_at, ${asked}::timestamptz),
            linked_at = ${linked}::timestamptz
          where tenant_id = ${tenantId} and id = ${executionId} and exists (select from before)
        ), measured as (
          select greatest(0, extract(epoch from
            ${linked}::timestamptz - greatest(finished_at, coalesce(link_asked_at, ${asked}::timestamptz))) * 1000)::bigint as ms
          from before where ${linked}::timestamptz is not null
        )
        ${observeMs(tenantId, "mc_disclosure_link_tat_ms", sql`measured`)}`,
  ]);
}
