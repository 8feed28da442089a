// The signer worker: holds the marketplace's release keys in a ring, and countersigns releases that it has checked itself; holds the
// secrets of the online TUF keys, and signs tenants' targets, snapshots and timestamps; is the authority of the platform's own
// workers. It has no route: others reach it by service binding, and no method of it without an SVID of a worker that may call it.

import { WorkerEntrypoint } from "cloudflare:workers";
import { keyRingObject } from "../../durable-objects/key-ring.ts";
import type {
  AuthorityBundle,
  AuthorityServiceApi,
  GuardedService,
  Issued,
  WorkerAnswer,
} from "../../shared/identity/platform/service.ts";
import { partsOf, releaseRingParts, workerAuthorityParts } from "./compose.ts";
import type { Env } from "./env.ts";

export const ReleaseRing = keyRingObject<Env>(releaseRingParts);
export const WorkerAuthority = keyRingObject<Env>(workerAuthorityParts);

/** signer.ts, behind the door. */
export class SignerService extends WorkerEntrypoint<Env> implements GuardedService {
  call(svid: string, method: string, given: readonly unknown[]): Promise<WorkerAnswer> {
    const { signer, signerDoor } = partsOf(this.env);
    return signerDoor.call(svid, method, given, signer);
  }
}

/** authority.ts, behind the door; and what comes before any SVID: to prove who one is, and the bundle, which is public. */
export class AuthorityService extends WorkerEntrypoint<Env> implements AuthorityServiceApi {
  issue(attestation: string): Promise<Issued> {
    return partsOf(this.env).issue(attestation);
  }

  bundle(): Promise<AuthorityBundle> {
    return partsOf(this.env).bundle();
  }

  call(svid: string, method: string, given: readonly unknown[]): Promise<WorkerAnswer> {
    const { authority, authorityDoor } = partsOf(this.env);
    return authorityDoor.call(svid, method, given, authority);
  }
}

export default {
  fetch: () => new Response(null, { status: 404 }),
} satisfies ExportedHandler<Env>;
