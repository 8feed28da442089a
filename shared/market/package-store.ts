// The SQL of browsing: packages that have something published.

import { sql } from "drizzle-orm";
import { packageSummary, type PackageSummary } from "../contract/http-market.ts";
import { asTenant, type Database } from "../tenancy/database.ts";

/** Words of a search that count. */
export const wordsMax = 8;

/** Each word must be in the name or in the description, whatever its case. By name, strictly after `after`. */
export async function listPackages(
  database: Database,
  tenantId: string,
  words: readonly string[],
  limit: number,
  after: string | null,
): Promise<PackageSummary[]> {
  const patterns = words.slice(0, wordsMax).map((word) => `%${word.replaceAll(/[\\%_]/g, "\\$&")}%`);
  const found = patterns.map((pattern) => sql`and (p.name ilike ${pattern} or p.description ilike ${pattern})`);
  const [rows] = await asTenant(database, tenantId, [
    sql`select p.name, p.description, stable.version as stable, canary.version as canary, r.release_count, r.published_at
        from packages p
        cross join lateral (
          select count(*)::int as release_count, max(published_at) as published_at
          from releases where package = p.name and state = 'published'
        ) r
        left join lateral (
          select s.version from channel_pointers c join releases s on s.id = c.release_id
          where c.package = p.name and c.channel = 'stable' and c.bundle is not null
        ) stable on true
        left join lateral (
          select s.version from channel_pointers c join releases s on s.id = c.release_id
          where c.package = p.name and c.channel = 'canary' and c.bundle is not null
        ) canary on true
        where r.release_count > 0 and ${after === null ? sql`true` : sql`p.name > ${after}`} ${sql.join(found, sql` `)}
        order by p.name limit ${limit}`,
  ]);
  return (rows ?? []).map((row) =>
    packageSummary.parse({ ...row, published_at: new Date(String(row["published_at"])).toISOString() }),
  );
}
