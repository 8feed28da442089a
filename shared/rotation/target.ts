// What a kind of keys must be able to do to be rotated: the hands of rotations.ts. Each kind that the API rotates has one
// (workers/api/rotations). Every call may come again after a crash, and does nothing more then; durable when it resolves.

import type { RotationState } from "../contract/http-rotations.ts";
import type { KeyReference, RotatedKeys } from "./service.ts";

/** One who must hold the new keys before they sign, and who can be looked at. */
export interface BuiltInConsumer {
  readonly name: string;
  readonly holds: boolean;
}

/** Why a step that others have to take is not taken yet, as a sentence; null or nothing: it is. */
export type Obstacle = string | null | void;

/** The new keys are not there yet. `found`: which ones are the old; null: not even that is known. Kept, and told again at the next look. */
export interface Unprepared {
  readonly found: RotatedKeys | null;
  readonly obstacle: string;
}

/** The keys that an emergency is about, or why it cannot be about those that were asked for. */
export type EmergencyKeys =
  | { readonly ok: true; readonly keys: readonly KeyReference[] }
  | { readonly ok: false; readonly code: "rotation_state" | "rotation_distrusts_max"; readonly detail: string };

/** `compromised`: an emergency was approved. */
export interface RotationTarget {
  /** In which states a rotation can be taken back: those in which its new keys sign nothing, and nobody was asked to have them sign. */
  readonly cancellable: readonly RotationState[];
  /** Makes the new keys, or finds them. The same rotation gets the same ones. `found`: what was found when it was looked last. */
  prepare(rotation: string, found: RotatedKeys | null, compromised: boolean): Promise<RotatedKeys | Unprepared>;
  /** Whoever asks for the keys gets the new ones too from now on. */
  publish(rotation: string, keys: RotatedKeys): Promise<Obstacle>;
  /** Looks whether they hold the new keys. */
  consumers(keys: RotatedKeys, compromised: boolean): Promise<readonly BuiltInConsumer[]>;
  /** When it resolves, nothing is signed by the old keys any more. */
  activate(rotation: string, keys: RotatedKeys, compromised: boolean): Promise<Obstacle>;
  /** What the old keys signed is to be signed by the new ones, where it must be. */
  taint(rotation: string, keys: RotatedKeys): Promise<Obstacle>;
  /** Null: all that must be signed by the new keys is, and was verified. Else what is missing, as a sentence. */
  verify(rotation: string, keys: RotatedKeys, compromised: boolean): Promise<string | null>;
  /** Destroys the old keys; `compromised`: nobody who asks for the keys believes their signatures any more. */
  revoke(rotation: string, keys: RotatedKeys, compromised: boolean): Promise<Obstacle>;
  /**
   * Takes the new keys back, however far the last step before came: they never sign. Answers what was published of them; null: this kind
   * makes none.
   */
  withdraw(rotation: string): Promise<RotatedKeys | null>;
  /** What an emergency about those keys would break, a sentence each. `keys`: none where `emergencyKeys` is not there. */
  breaks(keys: readonly KeyReference[]): Promise<readonly string[]>;
  /**
   * Where it is there, an emergency is about the keys that its proposal names, and a rotation of its own beside the one that runs;
   * elsewhere it is about those that sign, and hastens what runs. `wanted` null: nobody named any.
   */
  emergencyKeys?(wanted: readonly KeyReference[] | null): Promise<EmergencyKeys>;
  /** In how many ms an obstacle is looked at again that has stood for `waitedMs`; without it, in 2 s each time. */
  lookAgainMs?(waitedMs: number): number;
}
