// Who a worker of the platform is among the others, and whom it believes: its door, itself as it calls others, and the authority's
// bundle that both check by. Made by the compose.ts of each worker that has the authority bound; the signer, in whose script the
// authority is, mints its own SVIDs.

import type { Clock } from "../../contract/ports.ts";
import { remembered } from "../../contract/remember.ts";
import { importSigner } from "../../signing/keys.ts";
import { HeldBundle } from "./held-bundle.ts";
import type { PlatformWorker } from "./names.ts";
import type { AuthorityServiceApi } from "./service.ts";
import { askAuthority, WorkerCaller } from "./worker-caller.ts";
import { WorkerDoor, type WorkerDoorParts } from "./worker-door.ts";

export interface WorkerIdentityParts {
  readonly self: PlatformWorker;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly authority: Pick<AuthorityServiceApi, "issue" | "bundle">;
  /** The worker's own, as the JSON text of a private JWK of P-256. Read when the first SVID is asked for. */
  readonly workerKey: string;
  readonly decide: WorkerDoorParts["decide"];
  /** Lets work go on after the answer. It never rejects. */
  readonly later: (work: Promise<unknown>) => void;
}

export interface WorkerIdentity {
  readonly door: WorkerDoor;
  readonly caller: WorkerCaller;
  readonly held: HeldBundle;
}

export function workerIdentity({
  authority,
  workerKey,
  decide,
  later,
  ...shared
}: WorkerIdentityParts): WorkerIdentity {
  const held = new HeldBundle({ ...shared, ask: () => authority.bundle(), later });
  const signer = remembered(() => importSigner(workerKey, "P-256"));
  const askForSvid = askAuthority(shared, signer, authority);
  const caller = new WorkerCaller({ ...shared, held, askForSvid, later });
  const door = new WorkerDoor({ ...shared, held, decide, ownSvid: (audience) => caller.svid(audience) });
  return { door, caller, held };
}
