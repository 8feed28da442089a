// The authority of a trust domain as a kind of rotation: it is the tenant's, so that this target makes and switches nothing. It looks, and says what is
// missing until its condition holds (ADR-1241); in an emergency it has the product stop believing an authority (ADR-1243). Called by the domain's KeyRotation object, each call as often as it takes.

import type { FleetPort } from "../../../shared/edge/fleet-board.ts";
import { silentMs } from "../../../shared/contract/http-edge.ts";
import { trustKey } from "../../../shared/edge/serving-path.ts";
import type { ProviderStore } from "../../../shared/edge/stores.ts";
import { authoritiesOf, isAmong, jwtAuthorityKid, type AuthorityName } from "../../../shared/identity/authorities.ts";
import {
  readRotatedDomain,
  seenOfDomain,
  watchDomain,
  type RotatedDomain,
} from "../../../shared/identity/authority-store.ts";
import { parseTrustDomain } from "../../../shared/identity/spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "../../../shared/identity/trust-bundle.ts";
import { rotatedAuthoritiesMax } from "../../../shared/contract/http-rotations.ts";
import type { KeyReference, RotatedKeys } from "../../../shared/rotation/service.ts";
import type { RotationTarget } from "../../../shared/rotation/target.ts";
import {
  distrustAuthorities,
  keysToDistrust,
  someText,
  whatDistrustBreaks,
  type DistrustParts,
  type OwnDomain,
} from "./distrust-authorities.ts";

/** Who was not seen for longer has no SVID that is good any more: SPIRE's default life of an X.509-SVID. */
const seenLatelyMs = 3_600_000;
/** docs/edge/SERVING.md: an edge believes a bundle for so long after it was read. */
const leaseMs = 5_000;
const lookFirstMs = 2_000;
const lookMaxMs = 60_000;
/** Stores that are read at one time. */
const readsMax = 16;
const namedMax = 5;

export interface FetcherTargetParts extends DistrustParts {
  readonly pause: (ms: number) => Promise<void>;
  readonly providers: readonly ProviderStore[];
  readonly fleet: (tenantId: string) => Pick<FleetPort, "view">;
  /** Since when each store was seen to have the bundle in force, by the object; a restart begins anew, so that it is waited longer, never shorter. */
  readonly mirroredSince: Map<string, number>;
  /** Has the publishers of all tenants that trust the domain mirror its bundle. */
  readonly nudgeTrust: (trustDomain: string) => Promise<void>;
}

interface InForce {
  readonly domain: RotatedDomain;
  readonly bundle: TrustBundle;
  readonly names: readonly AuthorityName[];
}

export function fetcherTarget(parts: FetcherTargetParts, trustDomain: string, tenantId: string): RotationTarget {
  const { clock, database, authDatabase } = parts;

  /** What the API believes now; a sentence where that is nothing. */
  async function inForce(): Promise<InForce | string> {
    const domain = await readRotatedDomain(authDatabase, tenantId, trustDomain);
    if (domain === null) return `${trustDomain} is not stated by this tenant any more`;
    const checked = parseTrustDomain(trustDomain);
    if (!checked.ok || domain.document === null)
      return `no bundle of ${trustDomain} is here: maestro identity bundle set ${trustDomain} FILE`;
    const parsed = await parseTrustBundle(checked.value, domain.document);
    if (!parsed.ok) throw new Error(`the stored bundle of ${trustDomain} is none: ${parsed.refusal.reason}`);
    return { domain, bundle: parsed.value, names: await authoritiesOf(parsed.value) };
  }

  /** Whether every copy in the store is the bundle in force; a tenant that mirrors none is none. */
  async function isMirrored(store: ProviderStore, { slugs, sha256 }: RotatedDomain): Promise<boolean> {
    const waiting = [...slugs];
    let isWhole = true;
    const read = async (): Promise<void> => {
      for (let slug = waiting.shift(); slug !== undefined && isWhole; slug = waiting.shift())
        if ((await store.digest(trustKey(slug, trustDomain))) !== sha256) isWhole = false;
    };
    await Promise.all(Array.from({ length: readsMax }, read));
    return isWhole;
  }

  /** Every edge of that provider has it too: its lease is over since its store was read back. That is the edges' own promise. */
  async function isHeld(store: ProviderStore, domain: RotatedDomain): Promise<boolean> {
    const { mirroredSince } = parts;
    const copy = `${store.name} ${domain.sha256}`;
    const isThere = await isMirrored(store, domain);
    const now = clock();
    // What was seen of another bundle is of no use any more.
    for (const other of mirroredSince.keys())
      if (other.startsWith(`${store.name} `) && (other !== copy || !isThere)) mirroredSince.delete(other);
    if (!isThere) return false;
    const since = mirroredSince.get(copy) ?? now;
    mirroredSince.set(copy, since);
    if (now - since >= leaseMs) return true;
    await parts.pause(leaseMs - (now - since));
    return await isMirrored(store, domain);
  }

  async function seen(keys: RotatedKeys) {
    const question = { old: keys.old, next: keys.new, sinceMs: clock() - seenLatelyMs };
    return await seenOfDomain(authDatabase, trustDomain, question);
  }

  /** Instances on the tenant's board that are not silent and hold a JWT-SVID of this domain by an old key. */
  async function instancesWithOld({ old }: Pick<RotatedKeys, "old">, { jwtKeys }: TrustBundle): Promise<string[]> {
    const { instances } = await parts.fleet(tenantId).view();
    const prefix = `spiffe://${trustDomain}/`;
    const found: string[] = [];
    for (const { reported_ms: at, report } of instances) {
      const svid = report.svid ?? null;
      const key = svid?.spiffe_id.startsWith(prefix) === true ? jwtKeys.get(svid.authority) : undefined;
      if (key === undefined || clock() - at > silentMs) continue;
      if (isAmong(old, { slot: "jwt", kid: await jwtAuthorityKid(key) })) found.push(report.instance);
    }
    return found;
  }

  function ownDomain(): OwnDomain {
    const checked = parseTrustDomain(trustDomain);
    if (!checked.ok) throw new Error(`${trustDomain} is no trust domain`);
    return { tenantId, trustDomain: checked.value };
  }

  /** What stays in force is what goes on: nobody is waited for. */
  async function distrusted(rotation: string, old: readonly AuthorityName[]): Promise<RotatedKeys> {
    await distrustAuthorities(parts, ownDomain(), rotation, old);
    const now = await inForce();
    return { old, new: typeof now === "string" ? [] : now.names.slice(0, rotatedAuthoritiesMax) };
  }

  const steps = (move: string): string =>
    `maestro svid authority ${move} FOLDER (SPIRE: spire-server localauthority x509 ${move}, and jwt ${move})`;

  return {
    // It only looks: the tenant's own authority switches, and nothing here has to be undone.
    cancellable: ["prepare", "published", "acknowledged"],
    async prepare(rotation, found, compromised) {
      if (compromised && found !== null) return await distrusted(rotation, namesOf(found.old));
      const now = await inForce();
      if (typeof now === "string") return { found, obstacle: now };
      const old = found?.old ?? now.names;
      if (old.length === 0)
        return {
          found: null,
          obstacle: "the bundle in force has no authority: hand one in that has (maestro identity bundle set)",
        };
      if (old.length > rotatedAuthoritiesMax || now.names.length > 2 * rotatedAuthoritiesMax)
        return { found: null, obstacle: `the bundle in force has more than ${rotatedAuthoritiesMax} authorities` };
      const next = now.names.filter((name) => !isAmong(old, name)).slice(0, rotatedAuthoritiesMax);
      const missing = [...new Set(old.map(({ slot }) => slot))].filter(
        (slot) => !next.some((one) => one.slot === slot),
      );
      if (missing.length === 0) return { old, new: next };
      const handIn = `maestro identity bundle set ${trustDomain} FILE`;
      return {
        found: { old, new: [] },
        obstacle: `the bundle in force has no new ${missing.join(" and no new ")} authority beside the old one: ${steps("prepare")}, then ${handIn}`,
      };
    },
    publish: () => parts.nudgeTrust(trustDomain),
    async consumers(keys, compromised) {
      // There is nothing to switch to. Who takes the old one away is looked at before it is said to be revoked.
      if (compromised) return [];
      const now = await inForce();
      const holds = typeof now !== "string" && keys.new.every((name) => now.names.some((one) => one.kid === name.kid));
      const edges = parts.providers.map(async (store) => ({
        name: `edge-${store.name}`,
        holds: typeof now !== "string" && holds && (await isHeld(store, now.domain)),
      }));
      return [{ name: "api", holds }, ...(await Promise.all(edges))];
    },
    async activate(_, keys, compromised) {
      if (compromised) return null;
      const { workloads, is_new_seen } = await seen(keys);
      if (workloads === 0 || is_new_seen) return null;
      return `no SVID by a new authority was taken yet: ${steps("activate")}, then renew the workloads' SVIDs`;
    },
    taint: () => watchDomain(database, tenantId, trustDomain, clock()),
    async verify(_, keys, compromised) {
      // What is not believed any more is presented in vain.
      if (compromised) return null;
      const now = await inForce();
      if (typeof now === "string") return now;
      const { is_old_seen, still_old: old, unseen } = await seen(keys);
      // Whether they have come over is seen by what they present from here on.
      if (is_old_seen) await watchDomain(database, tenantId, trustDomain, clock());
      if (is_old_seen || old.count > 0)
        return `the old authority is still presented by ${someText(old)}: renew their SVIDs`;
      const instances = await instancesWithOld(keys, now.bundle);
      if (instances.length > 0)
        return `the old authority is still held by ${someText({ first: instances.slice(0, namedMax), count: instances.length })}: renew their JWT-SVIDs`;
      if (unseen.count === 0) return null;
      return `nothing was presented since the old authority was tainted by ${someText(unseen)}: have them call, or, if they are gone, maestro identity workload remove`;
    },
    revoke: (_, keys) => withoutOld(keys),
    withdraw: () => Promise.resolve(null),
    async breaks(keys) {
      const now = await inForce();
      const [names, bundle] = typeof now === "string" ? [[], null] : [now.names, now.bundle];
      const instances = bundle === null ? [] : await instancesWithOld({ old: keys }, bundle);
      const some = { first: instances.slice(0, namedMax), count: instances.length };
      return await whatDistrustBreaks(parts, ownDomain(), namesOf(keys), names, some);
    },
    async emergencyKeys(wanted) {
      const now = await inForce();
      const names = typeof now === "string" ? [] : now.names;
      return await keysToDistrust(parts, ownDomain(), wanted === null ? null : namesOf(wanted), names);
    },
    lookAgainMs: (waitedMs) => Math.min(lookMaxMs, Math.max(lookFirstMs, waitedMs / 10)),
  };

  /** Null: neither the API nor a store believes an old one. */
  async function withoutOld({ old }: RotatedKeys): Promise<string | null> {
    const now = await inForce();
    // A domain that is gone is believed nothing of.
    if (typeof now === "string") return null;
    const left = now.names.filter((name) => isAmong(old, name));
    if (left.length > 0) {
      const names = left.map(({ slot, kid }) => `${slot} ${kid.slice(0, 16)}`).join(", ");
      return `the bundle in force still has ${names}: ${steps("taint")} and revoke, then maestro identity bundle set ${trustDomain} FILE`;
    }
    const held = await Promise.all(parts.providers.map((store) => isHeld(store, now.domain)));
    const late = parts.providers.find((_, at) => held[at] === false);
    if (late !== undefined) return `edge-${late.name} has not the bundle in force yet`;
    return null;
  }
}

/** This kind's slots are x509 and jwt, and no other. */
const namesOf = (keys: readonly KeyReference[]): AuthorityName[] =>
  keys.map(({ slot, kid }) => ({ slot: slot === "x509" ? "x509" : "jwt", kid }));
