// What a key ring offers the worker that it signs for, and what such a worker offers the API worker's KeyRotation over its
// service binding. Types only.

import type { SignedBundle } from "../contract/events.ts";
import type { PublishedKey } from "../contract/http-audit.ts";
import type { KeyAlgorithmName } from "../signing/keys.ts";

/** A key by its place in the ring. */
export interface KeyReference {
  readonly slot: string;
  readonly kid: string;
}

/** What a ring answers over RPC: the public half of the one key that signs in a slot. */
export interface CurrentKey extends KeyReference {
  readonly algorithm: KeyAlgorithmName;
  readonly spki: Uint8Array<ArrayBuffer>;
}

/** `rotated`: another key signs in that slot now, and nothing was signed. */
export type RingSignatures =
  | { readonly state: "signed"; readonly signatures: readonly Uint8Array<ArrayBuffer>[] }
  | { readonly state: "rotated" };

export interface RingKeys {
  readonly keys: readonly PublishedKey[];
  readonly endorsements: readonly SignedBundle[];
}

/** The keys that a rotation takes out of use, and those that it puts in their place. */
export interface RotatedKeys {
  readonly old: readonly KeyReference[];
  readonly new: readonly KeyReference[];
}

export interface RingSignerApi {
  current(): Promise<CurrentKey[]>;
  /**
   * Signs each of `messages` (at most `messagesMax`) by the key `kid`, if it is the one that signs. `at`: the time that the
   * messages say they are of, in ms; a key signs nothing of before its `not_before`, and is retired no earlier than at the
   * latest time that it signed.
   */
  sign(slot: string, kid: string, at: number, messages: readonly Uint8Array<ArrayBuffer>[]): Promise<RingSignatures>;
}

/** A key of a slot that was published, for whoever writes its own set of them. */
export interface SlotKey {
  readonly kid: string;
  /** SPKI DER in base64. */
  readonly spki: string;
  readonly active: boolean;
  /** Since when it signs, RFC 3339; null: not yet. */
  readonly since: string | null;
  readonly revoked: boolean;
}

export interface SlotKeysApi {
  /** In the order in which they were made. */
  slotKeys(slot: string): Promise<SlotKey[]>;
}

/** The steps of a rotation, each idempotent: `rotation` is its id. Durable when they resolve. */
export interface RotatingKeysApi {
  /** Makes a key for each slot, endorsed by the one that signs there. */
  prepareKeys(rotation: string, slots: readonly string[]): Promise<RotatedKeys>;
  /** The new keys are in `publishedKeys()` from now on. */
  publishKeys(rotation: string): Promise<void>;
  /** When it resolves, the new keys sign, and nothing will be signed by the old ones any more. */
  activateKeys(rotation: string): Promise<void>;
  taintKeys(rotation: string): Promise<void>;
  /** Destroys the old keys' private halves; `compromised`: their signatures are not believed any more either. */
  revokeKeys(rotation: string, compromised: boolean): Promise<void>;
  /**
   * Takes back keys that sign nothing yet: their private halves are destroyed, and those that were published stay so, revoked and never in
   * force; the slots are free. Answers what was published of them. Rejects where they sign, or have signed; no step of this rotation makes keys any more.
   */
  withdrawKeys(rotation: string): Promise<RotatedKeys>;
  publishedKeys(): Promise<RingKeys>;
}

export const messagesMax = 256;
