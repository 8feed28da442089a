// What a KeyRotation object offers the API's routes, one object a kind of keys. Types only.

import type { EmergencyProposal, NamedConsumer, Rotation } from "../contract/http-rotations.ts";
import type { RotationCounts } from "./rotation-metrics.ts";
import type { KeyReference } from "./service.ts";
import type { ConsumerAnswer, ProposalAnswer, RotationAnswer, RotationCall } from "./rotation-ledger.ts";

export interface RotationsPort {
  list(): Promise<{
    readonly rotations: Rotation[];
    readonly consumers: NamedConsumer[];
    readonly proposals: EmergencyProposal[];
  }>;
  show(id: string): Promise<RotationAnswer>;
  proposal(id: string): Promise<EmergencyProposal | null>;
  /** Durable when it resolves, as all that follows; it has gone on as far as it can within some seconds. */
  start(call: RotationCall): Promise<RotationAnswer>;
  /** `wanted`: the keys that it is to be about, where the kind takes a choice; null: no choice. */
  propose(call: RotationCall, reason: string, wanted: readonly KeyReference[] | null): Promise<ProposalAnswer>;
  /** `approved`: the digest of the proposal that was read; another one is refused. */
  approve(call: RotationCall, id: string, approved: string): Promise<RotationAnswer>;
  /** While the new keys sign nothing; refused after that. */
  cancel(call: RotationCall, id: string): Promise<RotationAnswer>;
  acknowledge(call: RotationCall, id: string, consumer: string, kids: readonly string[]): Promise<RotationAnswer>;
  resume(id: string): Promise<RotationAnswer>;
  addConsumer(call: RotationCall, name: string): Promise<ConsumerAnswer>;
  removeConsumer(call: RotationCall, name: string): Promise<ConsumerAnswer>;
  counts(tenantId: string): Promise<RotationCounts["counts"]>;
}
