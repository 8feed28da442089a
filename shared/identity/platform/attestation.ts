// How a worker proves to the authority who it is: a short JWT, signed with a private key that it alone has. Written by callers
// (worker-caller.ts), checked by the authority (authority.ts), which knows the public halves. A platform without agents can attest
// no process; what it can attest is that who asks holds a secret of that worker.
//
// One that is sent again within its minute gives a token for the same ID and the same audience, and nothing else. Its `aud` is the
// authority, so no worker takes it for an SVID; its key is in no bundle.

import { z } from "@hono/zod-openapi";
import { errors, jwtVerify } from "jose";
import { base64Bytes } from "../../contract/bytes.ts";
import { p1363FromDer } from "../../signing/ecdsa-der.ts";
import { importVerifyKey, kidOf, type Signer } from "../../signing/keys.ts";
import { compactJws } from "../issue/jws.ts";
import { platformId, platformWorkers, type PlatformWorker } from "./names.ts";

const lifeSeconds = 60;
/** As far as two clocks may be apart. */
const skewSeconds = 60;
const charactersMax = 2_048;

/** For an SVID of `self` that `audience` takes. */
export function writeAttestation(
  signer: Signer,
  trustDomain: string,
  { self, audience }: Attested,
  now: number,
): Promise<string> {
  const iat = Math.floor(now / 1_000);
  const claims = {
    sub: platformId(trustDomain, self).uri,
    aud: platformId(trustDomain, "authority").uri,
    svid_aud: platformId(trustDomain, audience).uri,
    iat,
    exp: iat + lifeSeconds,
  };
  return compactJws(signer.kid, claims, async (bytes) => rawSignature(await signer.sign(bytes)));
}

/** As JOSE has it (RFC 7518 3.4), of the DER that our signers make. */
export function rawSignature(der: Uint8Array): Uint8Array {
  const raw = p1363FromDer(der);
  if (raw === null) throw new TypeError("a signer made no ECDSA signature");
  return raw;
}

export interface Attested {
  readonly self: PlatformWorker;
  readonly audience: PlatformWorker;
}

/** kid → whose key it is, and the public half. */
export type WorkerKeys = ReadonlyMap<string, { readonly worker: PlatformWorker; readonly key: CryptoKey }>;

const keysShape = z.partialRecord(z.enum(platformWorkers), z.array(z.base64()).max(4));

/**
 * Of the variable WORKER_KEYS: JSON, each worker's public keys (SPKI DER in base64): more than one while a key is being replaced.
 * Throws where it is something else, or one key stands for two workers.
 */
export async function readWorkerKeys(text: string): Promise<WorkerKeys> {
  const keys = new Map<string, { worker: PlatformWorker; key: CryptoKey }>();
  for (const [worker, spkis] of Object.entries(keysShape.parse(JSON.parse(text)))) {
    for (const spki of spkis) {
      const key = await importVerifyKey(base64Bytes(spki), "P-256");
      if (key === null) throw new TypeError(`WORKER_KEYS: a key of ${worker} is no P-256 key in SPKI`);
      const kid = await kidOf(base64Bytes(spki));
      if (keys.has(kid)) throw new TypeError(`WORKER_KEYS: the key ${kid} stands there twice`);
      keys.set(kid, { worker: worker as PlatformWorker, key });
    }
  }
  return keys;
}

const claimsShape = z.object({ sub: z.string(), svid_aud: z.string() });

export type Attestation = ({ readonly ok: true } & Attested) | { readonly ok: false; readonly reason: string };

/** Whoever it was that signed it; or why that is not known. */
export async function checkAttestation(
  keys: WorkerKeys,
  trustDomain: string,
  token: unknown,
  now: number,
): Promise<Attestation> {
  const no = (reason: string): Attestation => ({ ok: false, reason });
  if (typeof token !== "string" || token.length > charactersMax) return no("the attestation is no short text");
  let worker: PlatformWorker | null = null;
  try {
    const { payload } = await jwtVerify(
      token,
      ({ kid = "" }) => {
        const known = keys.get(kid);
        if (known === undefined) throw new errors.JWKSNoMatchingKey();
        worker = known.worker;
        return known.key;
      },
      {
        algorithms: ["ES256"],
        audience: platformId(trustDomain, "authority").uri,
        requiredClaims: ["sub", "exp", "iat", "svid_aud"],
        maxTokenAge: lifeSeconds,
        clockTolerance: skewSeconds,
        currentDate: new Date(now),
      },
    );
    const { sub, svid_aud } = claimsShape.parse(payload);
    const audience = platformWorkers.find((name) => platformId(trustDomain, name).uri === svid_aud);
    if (worker === null || sub !== platformId(trustDomain, worker).uri)
      return no("the attestation's key is another worker's than its sub");
    return audience === undefined
      ? no("the attestation asks for an audience that is no worker")
      : { ok: true, self: worker, audience };
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey) return no("no worker is known by the attestation's key");
    if (error instanceof errors.JWTExpired) return no("the attestation is stale");
    if (error instanceof errors.JOSEError) return no(`the attestation does not hold (${error.code})`);
    if (error instanceof z.ZodError) return no("the attestation's claims are not texts");
    throw error;
  }
}
