// Has the product stop believing authorities of a trust domain, whatever its bundle says, and says beforehand what that breaks. Called by
// fetcher-target.ts, each call as often as it takes.

import type { Clock, Random } from "../../../shared/contract/ports.ts";
import { rotatedAuthoritiesMax } from "../../../shared/contract/http-rotations.ts";
import { isAmong, type AuthorityName } from "../../../shared/identity/authorities.ts";
import { lastByAuthorities, type SomeOf } from "../../../shared/identity/authority-store.ts";
import { distrustedMax, withoutDistrusted } from "../../../shared/identity/distrust.ts";
import { keepDistrust, readBelieved } from "../../../shared/identity/distrust-store.ts";
import { firstToEnd } from "../../../shared/identity/receive-document.ts";
import type { TrustDomain } from "../../../shared/identity/spiffe-id.ts";
import { parseTrustBundle } from "../../../shared/identity/trust-bundle.ts";
import { newEvent, outboxInsert } from "../../../shared/outbox/outbox.ts";
import type { EmergencyKeys } from "../../../shared/rotation/target.ts";
import type { Database } from "../../../shared/tenancy/database.ts";

/** Tries against others who hand in bundles at the same time. */
const triesMax = 8;

export interface DistrustParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly shards: number;
  /** As maestro_app. */
  readonly database: Database;
  /** As maestro_auth. */
  readonly authDatabase: Database;
  readonly nudgeDrain: (tenantId: string) => void;
}

/** Of whose trust domain. */
export interface OwnDomain {
  readonly tenantId: string;
  readonly trustDomain: TrustDomain;
}

/** Durable when it resolves, with its event: from the commit on nothing is believed of them. Those that are distrusted already stay so. */
export async function distrustAuthorities(
  parts: DistrustParts,
  { tenantId, trustDomain }: OwnDomain,
  rotation: string,
  names: readonly AuthorityName[],
): Promise<void> {
  for (let attempt = 0; attempt < triesMax; attempt += 1) {
    const before = await readBelieved(parts.database, tenantId, trustDomain);
    const added = names.filter((name) => !isAmong(before.distrusted, name));
    if (added.length === 0) return;
    const distrusts = before.distrusted.length + added.length;
    if (distrusts > distrustedMax) throw new RangeError(`${trustDomain} has ${distrusts} distrusted authorities`);
    const next = await bundleWithout(trustDomain, before.document, [...before.distrusted, ...added]);
    const now = parts.clock();
    const context = { tenant_id: tenantId, principal: null, source: "api", now, random: parts.random } as const;
    const event = newEvent(context, "mc.identity.authority_distrusted", {
      trust_domain: trustDomain,
      rotation_id: rotation,
      authorities: added.map(authorityText).join(","),
      distrusts,
      bundle_sha256: next?.bundle.digest ?? null,
      outcome: "distrusted",
    });
    const outbox = (where: Parameters<typeof outboxInsert>[2]) => outboxInsert([event], parts.shards, where);
    const change = { names: added, rotation_id: rotation, next, now, outbox };
    if (!(await keepDistrust(parts.database, tenantId, trustDomain, before, change))) continue;
    parts.nudgeDrain(tenantId);
    return;
  }
  throw new Error(`others kept changing the bundle of ${trustDomain}`);
}

async function bundleWithout(trustDomain: TrustDomain, document: string | null, distrusted: readonly AuthorityName[]) {
  if (document === null) return null;
  const kept = await withoutDistrusted(trustDomain, document, distrusted);
  const parsed = await parseTrustBundle(trustDomain, kept);
  if (!parsed.ok)
    throw new Error(`the bundle of ${trustDomain} without an authority is none: ${parsed.refusal.reason}`);
  return { document: kept, bundle: parsed.value, first: firstToEnd(parsed.value) };
}

/** `names`: null where nobody named any; then those in force, all of them. */
export async function keysToDistrust(
  parts: Pick<DistrustParts, "database">,
  { tenantId, trustDomain }: OwnDomain,
  names: readonly AuthorityName[] | null,
  inForce: readonly AuthorityName[],
): Promise<EmergencyKeys> {
  const refused = (detail: string): EmergencyKeys => ({ ok: false, code: "rotation_state", detail });
  const { distrusted } = await readBelieved(parts.database, tenantId, trustDomain);
  const wanted = names ?? inForce;
  if (wanted.length === 0) return refused(`No authority of ${trustDomain} is in force.`);
  const keys = wanted.filter((name, at) => !isAmong(distrusted, name) && !isAmong(wanted.slice(0, at), name));
  if (keys.length === 0) return refused("These authorities are distrusted already.");
  if (keys.length > rotatedAuthoritiesMax)
    return refused(`One emergency is about ${rotatedAuthoritiesMax} authorities at most: name them.`);
  if (distrusted.length + keys.length > distrustedMax) {
    const detail = `${trustDomain} has ${distrusted.length} distrusted authorities; ${distrustedMax} is the most.`;
    return { ok: false, code: "rotation_distrusts_max", detail };
  }
  return { ok: true, keys };
}

/** What distrusting `names` would break, as far as that was seen. `instances`: of the fleet's board, those that hold an SVID by one of them. */
export async function whatDistrustBreaks(
  parts: Pick<DistrustParts, "authDatabase">,
  { trustDomain }: OwnDomain,
  names: readonly AuthorityName[],
  inForce: readonly AuthorityName[],
  instances: SomeOf,
): Promise<string[]> {
  const { workloads, last } = await lastByAuthorities(parts.authDatabase, trustDomain, names);
  const left = inForce.filter((name) => !isAmong(names, name));
  const isAbsent = names.filter((name) => !isAmong(inForce, name));
  const lost = (["x509", "jwt"] as const).filter(
    (slot) => inForce.some((name) => name.slot === slot) && !left.some((name) => name.slot === slot),
  );
  return [
    `Nothing that ${textOf(names)} signed is believed once this is approved: at the API from then on, at the edges within 5 s of their ` +
      `stores. It is for ever, whatever a bundle of ${trustDomain} says.`,
    ...(isAbsent.length === 0 ? [] : [`Not in the bundle in force: ${textOf(isAbsent)}.`]),
    left.length === 0
      ? `No other authority is left: all ${workloads} registered workloads of ${trustDomain} are refused until a bundle with a new one is handed in.`
      : `Left: ${textOf(left)}.`,
    ...(left.length === 0
      ? []
      : lost.map((slot) => `No ${slot} authority is left: every SVID of that kind is refused.`)),
    last.count === 0
      ? "No registered workload was seen with an SVID of it last."
      : `Seen with an SVID of it last, and refused until it is renewed by another: ${someText(last)}.`,
    ...(instances.count === 0
      ? []
      : [`Instances on the fleet's board that hold a JWT-SVID of it: ${someText(instances)}.`]),
  ];
}

const authorityText = ({ slot, kid }: AuthorityName): string => `${slot}:${kid}`;
const textOf = (names: readonly AuthorityName[]): string => names.map(authorityText).join(", ");
export const someText = ({ first, count }: SomeOf): string =>
  count <= first.length ? first.join(", ") : `${first.join(", ")} and ${count - first.length} more`;
