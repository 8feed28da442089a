// Makes the signer's parts out of what the platform binds: the only reader of Env. Called by index.ts, once an isolate.

import { waitUntil } from "cloudflare:workers";
import { loadPolicy } from "@open-policy-agent/opa-wasm";
import policyModule from "../../policy/generated/authz.wasm";
import { ringAt, type KeyRingParts, type RingApi } from "../../durable-objects/key-ring.ts";
import { remembered } from "../../shared/contract/remember.ts";
import { readWorkerKeys } from "../../shared/identity/platform/attestation.ts";
import { bundleOfKeys, issueToWorker, mintFor } from "../../shared/identity/platform/authority.ts";
import { HeldBundle } from "../../shared/identity/platform/held-bundle.ts";
import type { AuthorityBundle, Issued } from "../../shared/identity/platform/service.ts";
import { WorkerDoor } from "../../shared/identity/platform/worker-door.ts";
import { workerCalls } from "../../shared/policy/worker-calls.ts";
import { RingSigners } from "../../shared/rotation/ring-signers.ts";
import { Authority, svidSlot } from "./authority.ts";
import type { Env } from "./env.ts";
import { releaseSlot, Signer } from "./signer.ts";

const clock = (): number => Date.now();
const random = (byteCount: number): Uint8Array<ArrayBuffer> => crypto.getRandomValues(new Uint8Array(byteCount));
const decide = workerCalls(await loadPolicy(policyModule));

export const releaseRingParts = (env: Env): KeyRingParts => ({
  clock,
  random,
  name: releaseSlot,
  secret: env.KEY_RING_SECRET,
  slots: [{ name: releaseSlot, algorithm: "P-256", uses: ["release"], firstKey: env.RELEASE_KEY }],
});

/** For no published use: the bundle has its keys. */
export const workerAuthorityParts = (env: Env): KeyRingParts => ({
  clock,
  random,
  name: svidSlot,
  secret: env.KEY_RING_SECRET,
  slots: [{ name: svidSlot, algorithm: "P-256", uses: [], firstKey: env.SVID_KEY }],
});

export interface Parts {
  readonly signer: Signer;
  readonly signerDoor: WorkerDoor;
  readonly authority: Authority;
  readonly authorityDoor: WorkerDoor;
  readonly issue: (attestation: unknown) => Promise<Issued>;
  readonly bundle: () => Promise<AuthorityBundle>;
}

const perIsolate = new WeakMap<object, Parts>();

export function partsOf(env: Env): Parts {
  const made = perIsolate.get(env) ?? makeParts(env);
  perIsolate.set(env, made);
  return made;
}

function makeParts(env: Env): Parts {
  const releaseRing = ringAt(env.RELEASE_RING, releaseRingParts(env));
  const svidRing: RingApi = ringAt(env.WORKER_AUTHORITY, workerAuthorityParts(env));
  const trustDomain = env.PLATFORM_TRUST_DOMAIN;
  const svidSigners = new RingSigners(() => svidRing);
  const bundle = async (): Promise<AuthorityBundle> => bundleOfKeys(await svidRing.slotKeys(svidSlot));
  const held = new HeldBundle({ trustDomain, clock, ask: bundle, later: waitUntil });
  const authorityParts = {
    clock,
    trustDomain,
    workerKeys: remembered(() => readWorkerKeys(env.WORKER_KEYS)),
    signed: <T>(
      at: number,
      work: (signer: ReturnType<Parameters<Parameters<RingSigners["sign"]>[1]>[0]>) => Promise<T>,
    ) => svidSigners.sign(at, (signerOf) => work(signerOf(svidSlot))),
  };
  const door = (self: "signer" | "authority"): WorkerDoor =>
    new WorkerDoor({
      self,
      trustDomain,
      clock,
      held,
      decide,
      ownSvid: async (audience) => (await mintFor(authorityParts, { self, audience })).svid,
    });
  return {
    signer: new Signer({
      clock,
      ring: releaseRing,
      signers: new RingSigners(() => releaseRing),
      tufSecrets: { targets: env.TUF_TARGETS_KEY, snapshot: env.TUF_SNAPSHOT_KEY, timestamp: env.TUF_TIMESTAMP_KEY },
    }),
    signerDoor: door("signer"),
    authority: new Authority(svidRing),
    authorityDoor: door("authority"),
    issue: (attestation) => issueToWorker(authorityParts, attestation),
    bundle,
  };
}
