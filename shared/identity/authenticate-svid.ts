// Who is calling, by an SVID. The API's door calls it where a client certificate or a JWT-SVID came. One query, as maestro_auth,
// reads the principal and the digest of the bundle in force together: no verdict from before outlives a change of either.

import { role } from "../contract/names.ts";
import { Problem } from "../contract/problems.ts";
import type { Caller } from "../tenancy/caller.ts";
import type { Database } from "../tenancy/database.ts";
import type { Refusal } from "./refusal.ts";
import type { SightingNotes } from "./sighting-notes.ts";
import { svidHolder } from "./store.ts";
import { claimedId, type PresentedSvid, type SvidDesk } from "./svid-desk.ts";

export interface SvidAuthentication {
  readonly database: Database;
  readonly desk: SvidDesk;
  /** Told by which authority the SVIDs of registered workloads were signed. */
  readonly sightings: Pick<SightingNotes, "note">;
  /** When the request began: what was good then is good for all of it. */
  readonly now: number;
}

/** Throws a `Problem` (401, or 503 `identity_busy`); none of them tells a part of the SVID but the ID that it claims. */
export async function authenticateSvid(parts: SvidAuthentication, presented: PresentedSvid): Promise<Caller> {
  const { database, desk, sightings, now } = parts;
  const claimed = claimedId(presented);
  if (!claimed.ok) throw svidRefused(claimed.refusal);
  const id = claimed.value;
  await desk.admit(presented, id, now);
  const known = desk.bundles.get(id.trustDomain);
  const found = await svidHolder(database, id.uri, id.trustDomain, known?.digest ?? null);
  if (found === null || found.bundle_sha256 === null) {
    throw svidRefused({
      section: "SPIFFE Trust Domain and Bundle 3",
      reason: `no bundle of ${id.trustDomain} is held here`,
    });
  }
  const bundle =
    known !== null && known.digest === found.bundle_sha256
      ? known
      : await desk.bundles.read(id.trustDomain, found.bundle ?? "");
  const verified = await desk.verify(presented, bundle, now);
  if (!verified.ok) throw svidRefused(verified.refusal);
  const { holder, domain } = found;
  if (holder === null || domain === null) {
    throw new Problem("svid_not_registered", `The SVID is good, but no tenant has registered ${id.uri}.`);
  }
  if (holder.disabled) throw new Problem("principal_disabled", "This principal was disabled.");
  const { authority } = verified.value;
  sightings.note({ tenant_id: holder.tenant_id, spiffe_id: id.uri, ...authority }, found.watched_from_ms, now);
  return {
    tenant_id: holder.tenant_id,
    tenant: holder.tenant,
    principal_id: holder.principal_id,
    kind: holder.kind === "person" ? "person" : "service",
    role: role.parse(holder.role),
    credential: "svid",
    fetcher_svids: null,
    spiffe_id: id.uri,
    spiffe_domain: domain,
  };
}

export const svidRefused = ({ section, reason }: Refusal): Problem =>
  new Problem("svid_invalid", `The SVID is refused: ${reason} (${section}).`, { section });
