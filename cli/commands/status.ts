// `maestro status`: is the service well, and are the identities behind it: each one's last rotation and its end.

import type { Command } from "commander";
import type { Health } from "../../shared/contract/http-health.ts";
import type { PublishedKey } from "../../shared/contract/http-audit.ts";
import { endStates, type Rotation } from "../../shared/contract/http-rotations.ts";
import type { TrustDomainView } from "../../shared/contract/http-identity.ts";
import type { Api } from "../api.ts";
import { isNearItsEnd } from "../../shared/identity/near-its-end.ts";
import { leaf, type Act } from "../command.ts";
import { confirmedInWords } from "./identity.ts";
import { ApiProblem } from "../failure.ts";
import type { Session } from "../session.ts";

export function statusCommands(program: Command, act: Act): void {
  leaf(program, "status", {
    summary: "say whether the service is well, when each identity was last rotated, and when it ends",
    more:
      "`alarm` where a third of an identity's life is left, or less, and where a bundle that is fetched has not come for long. Trust domains and rotations are for roles that may read them\n" +
      "(admin, auditor); others are told that they may not. Exit code 6 where the service is not well.",
    examples: ["maestro status", "maestro status --json", "maestro status --svid /run/spiffe"],
  }).action(act(showStatus));
}

interface OwnSvid {
  readonly spiffe_id: string;
  readonly last_rotated_at: string;
  readonly ends_at: string;
  readonly alarm: boolean;
}

interface SigningKey {
  readonly use: PublishedKey["use"];
  readonly kid: string;
  readonly last_rotated_at: string;
}

async function showStatus(session: Session): Promise<void> {
  const { out } = session;
  const [api, open] = [await session.api(), await session.openApi()];
  const [health, svid, keys, domains, rotations] = await Promise.all([
    open.health(),
    ownSvid(session),
    open.publishedKeys().then(({ keys: listed }) => signingKeys(listed)),
    orForbidden(() => api.trustDomains()),
    orForbidden(() => runningRotations(api)),
  ]);
  const status = { ...health, svid, signing_keys: keys, trust_domains: domains, rotations };
  out.result(status, () =>
    [
      out.record([
        ["service", out.paint.green(health.status)],
        ["database", health.database],
        ["audit log", health.audit],
        ["fetched bundles", bundlesInWords(health.bundles)],
        ...(svid === null ? [] : [["own SVID", `${svid.spiffe_id}${alarmOf(svid)}`] as const]),
        ...(svid === null
          ? []
          : ([
              ["last rotated", svid.last_rotated_at],
              ["ends", svid.ends_at],
            ] as const)),
      ]),
      out.table(
        ["signing key", "kid", "last rotated"],
        keys.map(({ use, kid, last_rotated_at }) => [use, kid.slice(0, 16), last_rotated_at]),
      ),
      health.workers === null
        ? out.paint.dim("workers: one of them does not show who it is")
        : out.table(["worker", "last rotated", "ends"], health.workers.map(workerLine)),
      domains === null
        ? out.paint.dim("trust domains: this role may not read them")
        : out.table(
            ["trust domain", "last rotated", "confirmed", "first authority ends", "refused"],
            domains.map(domainLine),
          ),
      rotations === null
        ? out.paint.dim("rotations: this role may not read them")
        : out.table(
            ["rotation", "kind", "state", "waits for"],
            rotations.map(({ id, kind, state, waiting_for: waitingFor, obstacle }) => [
              id,
              kind,
              state,
              waitingFor.length > 0 ? waitingFor.join(", ") : obstacle,
            ]),
          ),
    ].join("\n\n"),
  );
}

const alarmOf = ({ alarm }: { readonly alarm: boolean }): string => (alarm ? " (alarm)" : "");

const workerLine = (worker: NonNullable<Health["workers"]>[number]): string[] => [
  worker.spiffe_id,
  worker.last_rotated_at,
  `${worker.ends_at}${alarmOf(worker)}`,
];

/** Of all tenants: whoever operates the service is told that something is wrong, and the tenant what. */
const bundlesInWords = (bundles: Health["bundles"]): string | null =>
  bundles === null
    ? null
    : `${bundles.fetched} in the service, ${bundles.overdue === 0 ? "none" : bundles.overdue} overdue${alarmOf({ alarm: bundles.overdue > 0 })}`;

const domainLine = (domain: TrustDomainView): (string | null)[] => [
  domain.name,
  domain.bundle?.changed_at ?? null,
  confirmedInWords(domain),
  domain.bundle === null ? null : `${domain.bundle.first_authority_ends_at ?? "no authority"}${alarmOf(domain.bundle)}`,
  // Until a good one comes again the last one stays in force, whatever its authority has revoked since.
  domain.refused === null ? null : `${domain.refused.at}: ${domain.refused.reason}`,
];

async function ownSvid(session: Session): Promise<OwnSvid | null> {
  const presented = await session.svid();
  if (presented === null) return null;
  const { svid } = presented;
  return {
    spiffe_id: svid.id.uri,
    last_rotated_at: new Date(svid.issuedAtMs).toISOString(),
    ends_at: new Date(svid.expiresAtMs).toISOString(),
    alarm: isNearItsEnd(svid.issuedAtMs, svid.expiresAtMs, session.host.now()),
  };
}

/**
 * Of each use the key that signs now: the first in the list that has not ended, since one that is published and does not sign yet stands
 * behind it (shared/rotation/ring.ts). It was rotated when the one before it ended: it was in force some minutes before it signed. The
 * first one, when it began.
 */
export function signingKeys(listed: readonly PublishedKey[]): SigningKey[] {
  const ends = new Map<PublishedKey["use"], string>();
  const signing = new Map<PublishedKey["use"], PublishedKey>();
  for (const key of listed) {
    const { use, not_before: begun, not_after: ended } = key;
    // One that ended when it began was taken back before it signed: nothing came in its place.
    if (ended !== undefined && ended > begun && ended > (ends.get(use) ?? "")) ends.set(use, ended);
    if (ended === undefined && key.revoked_at === undefined && !signing.has(use)) signing.set(use, key);
  }
  return [...signing.values()].map(({ use, kid, not_before: begun }) => ({
    use,
    kid,
    last_rotated_at: ends.get(use) ?? begun,
  }));
}

/** Those that are not through. */
async function runningRotations(api: Api): Promise<Rotation[]> {
  const { rotations } = await api.rotations();
  return rotations.filter(({ state }) => !endStates.includes(state));
}

/** Null where the policy says no. */
async function orForbidden<T>(ask: () => Promise<T>): Promise<T | null> {
  try {
    return await ask();
  } catch (error) {
    if (error instanceof ApiProblem && error.status === 403) return null;
    throw error;
  }
}
