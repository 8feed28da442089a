// The steps of a rotation of the authority of the platform's workers, for the API's KeyRotation. Called through the door of
// AuthorityService (index.ts), which asks for an SVID.

import type { RotatedKeys, SlotKey } from "../../shared/rotation/service.ts";
import type { RingApi } from "../../durable-objects/key-ring.ts";

export const svidSlot = "svid";

/** RotatingKeysApi without the set of published keys: nobody trusts these keys but the platform's workers, by the bundle. */
export class Authority {
  readonly #ring: RingApi;

  constructor(ring: RingApi) {
    this.#ring = ring;
  }

  prepareKeys(rotation: string): Promise<RotatedKeys> {
    return this.#ring.prepareKeys(rotation, [svidSlot]);
  }

  publishKeys(rotation: string): Promise<void> {
    return this.#ring.publishKeys(rotation);
  }

  activateKeys(rotation: string): Promise<void> {
    return this.#ring.activateKeys(rotation);
  }

  taintKeys(rotation: string): Promise<void> {
    return this.#ring.taintKeys(rotation);
  }

  /** Out of the bundle, in a planned rotation as in an emergency: an SVID is of minutes, and there is a newer one. */
  revokeKeys(rotation: string): Promise<void> {
    return this.#ring.revokeKeys(rotation, true);
  }

  withdrawKeys(rotation: string): Promise<RotatedKeys> {
    return this.#ring.withdrawKeys(rotation);
  }

  authorityKeys(): Promise<SlotKey[]> {
    return this.#ring.slotKeys(svidSlot);
  }
}
