// The parts that the API's routes work with: made once an isolate by compose.ts, by hand in tests. A route reaches
// the platform through these and nothing else.

import type { AuditServiceApi } from "../../shared/audit/service.ts";
import type { Clock, Log, Random } from "../../shared/contract/ports.ts";
import type { DisclosureServiceApi } from "../../shared/disclosure/service.ts";
import type { FleetPort } from "../../shared/edge/fleet-board.ts";
import type { PublisherPort, TufSignerApi } from "../../shared/edge/service.ts";
import type { WorkerDoor } from "../../shared/identity/platform/worker-door.ts";
import type { SightingNotes } from "../../shared/identity/sighting-notes.ts";
import type { SvidDesk } from "../../shared/identity/svid-desk.ts";
import type { EntitlementsPort } from "../../shared/market/entitlements.ts";
import type { Policy } from "../../shared/policy/decide.ts";
import type { OpenRoutes } from "../../shared/policy/open-routes.ts";
import type { AnswerCache } from "../../shared/pql/answer-cache.ts";
import type { MeterPort } from "../../shared/pql/meter.ts";
import type { QueryTime } from "../../shared/pql/query-times.ts";
import type { SealedCache } from "../../shared/pql/sealed-cache.ts";
import type { LedgerPort } from "../../shared/privacy/ledger.ts";
import type { CallerMemory } from "../../shared/tenancy/caller-memory.ts";
import type { Database } from "../../shared/tenancy/database.ts";
import type { TokenIssuer } from "../../shared/tenancy/token.ts";
import type { RotationKind } from "../../shared/contract/http-rotations.ts";
import type { RotationsPort } from "../../shared/rotation/port.ts";
import type { RotatingKeysApi } from "../../shared/rotation/service.ts";
import type { ReleaseKeys } from "../../shared/signing/release.ts";
import type { SignerServiceApi } from "../../shared/signing/service.ts";
import type { DecisionNotes } from "./decision-notes.ts";
import type { FlagMemory } from "./flag-memory.ts";
import type { NoiseGate } from "./middleware/noise.ts";
import type { PlatformIdentities } from "./rotations/targets.ts";
import type { WorkerLook } from "./worker-looks.ts";

export interface Parts {
  readonly clock: Clock;
  readonly random: Random;
  /** Takes no time of a processor. */
  readonly pause: (ms: number) => Promise<void>;
  readonly log: Log;
  /** The isolate's: how many lines of the log strangers can make. */
  readonly noise: NoiseGate;
  /** As maestro_app. */
  readonly database: Database;
  /** As maestro_auth: authentication only. */
  readonly authDatabase: Database;
  /** Who held which API key when this isolate looked it up last. */
  readonly callers: CallerMemory;
  /** Where SVIDs are looked at. */
  readonly svidDesk: SvidDesk;
  /** By which authorities they were signed, noted behind the answers. */
  readonly sightings: Pick<SightingNotes, "note">;
  readonly policy: Policy;
  /** The same policy, of routes that ask for no credential. */
  readonly openRoutes: OpenRoutes;
  /** The isolate's allows of requests that change nothing, on their way to the log. */
  readonly decisionNotes: Pick<DecisionNotes, "note">;
  /** Whose tokens are taken, and where its keys are. */
  readonly issuer: TokenIssuer;
  ledger(tenantId: string): LedgerPort;
  entitlements(tenantId: string): EntitlementsPort;
  readonly meter: (tenantId: string) => MeterPort;
  /** Counts that this isolate gave last. */
  readonly answers: AnswerCache;
  /** Counts of sealed hours that this isolate has read. */
  readonly sealedCounts: SealedCache;
  /** Goes into the tenant's histogram within ten seconds or so, without waiting for it. */
  readonly noteQueryTime: (tenantId: string, time: QueryTime) => void;
  /** The histogram has what this isolate noted of the tenant when it resolves. Throws Problem `meter_unavailable`. */
  readonly tellQueryTimes: (tenantId: string) => Promise<void>;
  /** Which tenants have PQL 1.2, as this isolate read it last. */
  readonly pqlGrammar: FlagMemory;
  /** Which tenants have edge_multicdn, as this isolate read it last. */
  readonly edgeFlag: FlagMemory;
  readonly audit: AuditServiceApi & DisclosureServiceApi & RotatingKeysApi;
  readonly signer: SignerServiceApi & RotatingKeysApi;
  /** Rejects where it does not answer in time. */
  readonly tufSigner: TufSignerApi;
  /** Where other workers' calls of this one come first. */
  readonly workerDoor: WorkerDoor;
  /** The workers of the platform between each other: their trust domain, its bundle, and how they stand. */
  readonly platform: PlatformIdentities & {
    readonly trustDomain: string;
    bundle(): Promise<string>;
    /** What each worker presents, this one included, as it was looked at some seconds ago at most (worker-looks.ts). */
    shown(): Promise<WorkerLook>;
  };
  /** The tenant's publisher of edge policies. */
  publisher(tenantId: string): PublisherPort;
  /** The bundle of a trust domain has changed: has all publishers that mirror it do so soon. A lost call costs a minute. */
  nudgeTrust(trustDomain: string): Promise<void>;
  /** Rotations of a kind of keys. */
  rotations(kind: RotationKind): RotationsPort;
  /** Rotations of the authority of a trust domain that this tenant states. */
  authorityRotations(tenantId: string, trustDomain: string): RotationsPort;
  /** The board of the tenant's fetchers. Its calls throw Problem `edge_board_unavailable`. */
  fleet(tenantId: string): FleetPort;
  /**
   * The marketplace's release keys that signatures are believed by now, kid → SPKI in base64: those that are pinned in the
   * configuration, and those that one of them endorsed since (shared/market/release-key-store.ts). So verifying needs no signer, a
   * signer that was replaced is not believed, and no revocation is overlooked: they are read each time.
   */
  releaseKeys(): Promise<ReleaseKeys>;
  readonly artifacts: R2Bucket;
  /** Wakes the tenant's drain after a commit, without waiting for it; a lost nudge costs a second. */
  nudgeDrain(tenantId: string): void;
  /** Has the tenant's health gates look soon, without waiting for it; a lost nudge costs ten seconds. */
  nudgeGate(tenantId: string): void;
  /** How many audit queues there are. */
  readonly shards: number;
  /** What the edge proves itself with as it forwards a request; "" where there is no edge. */
  readonly edgeLinkKey: string;
  /** Origin of this API as callers see it, without a trailing slash. */
  readonly publicUrl: string;
}
