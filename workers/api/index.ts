// The API worker's entry: requests, the cron, the RPC for the audit worker, and the classes of its Durable Objects.

import { WorkerEntrypoint } from "cloudflare:workers";
import { edgeHealthObject } from "../../durable-objects/edge-health.ts";
import { entitlementsObject } from "../../durable-objects/entitlements.ts";
import { keyRotationObject } from "../../durable-objects/key-rotation.ts";
import { outboxDrainObject } from "../../durable-objects/outbox-drain.ts";
import { policyPublisherObject } from "../../durable-objects/policy-publisher.ts";
import { pqlMeterObject } from "../../durable-objects/pql-meter.ts";
import { privacyLedgerObject } from "../../durable-objects/privacy-ledger.ts";
import { rolloutGatesObject } from "../../durable-objects/rollout-gates.ts";
import type { GuardedService, WorkerAnswer } from "../../shared/identity/platform/service.ts";
import { createApp } from "./app.ts";
import {
  edgeHealthParts,
  entitlementsParts,
  keyRotationParts,
  meterCalls,
  outboxDrainParts,
  partsOf,
  policyPublisherParts,
  pqlMeterParts,
  privacyLedgerParts,
  rolloutGatesParts,
  sweep,
} from "./compose.ts";
import type { Env } from "./env.ts";

const app = createApp();

export const Entitlements = entitlementsObject<Env>(entitlementsParts);
export const OutboxDrain = outboxDrainObject<Env>(outboxDrainParts);
export const PrivacyLedger = privacyLedgerObject<Env>(privacyLedgerParts);

export const PqlMeter = pqlMeterObject<Env>(pqlMeterParts);

export const PolicyPublisher = policyPublisherObject<Env>(policyPublisherParts);

export const EdgeHealth = edgeHealthObject<Env>(edgeHealthParts);

export const KeyRotation = keyRotationObject<Env>(keyRotationParts);

export const RolloutGates = rolloutGatesObject<Env>(rolloutGatesParts);

/** For the audit worker: compose.ts's meterCalls, behind the door. */
export class MeterService extends WorkerEntrypoint<Env> implements GuardedService {
  call(svid: string, method: string, given: readonly unknown[]): Promise<WorkerAnswer> {
    return partsOf(this.env).workerDoor.call(svid, method, given, meterCalls(this.env));
  }
}

export default {
  fetch: (request, env, context) => app.fetch(request, { parts: partsOf(env) }, context),
  scheduled: (_controller, env) => sweep(env),
} satisfies ExportedHandler<Env>;
