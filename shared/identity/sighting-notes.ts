// By which authority the SVIDs of workloads were signed, as an isolate of the API sees it: what is worth a row is noted behind the answer, so
// that a rotation of the authority knows who still presents the old one. Made once an isolate by compose.ts; called by authenticate-svid.ts.

import type { AuthorityName } from "./authorities.ts";

export interface Sighting extends AuthorityName {
  readonly tenant_id: string;
  readonly spiffe_id: string;
}

/** A pair of workload and authority is noted again after so long, by one isolate. */
export const noteEveryMs = 600_000;
/** A row that is younger is not written again by another isolate. */
const rowEveryMs = 300_000;
const pairsMax = 10_000;
/** Notes on their way to the database; what finds no room is noted by the next request. */
const underWayMax = 8;

export interface SightingNotesParts {
  /** Durable when it resolves; a row that has been seen at `floorMs` or later stays as it is. */
  readonly keep: (sighting: Sighting, seenMs: number, floorMs: number) => Promise<void>;
  /** Runs it behind the answer. */
  readonly later: (work: () => Promise<void>) => void;
  readonly onLost: (error: unknown) => void;
}

export class SightingNotes {
  readonly #parts: SightingNotesParts;
  /** When each pair was noted last; the longest not noted first. */
  readonly #noted = new Map<string, number>();
  #underWay = 0;

  constructor(parts: SightingNotesParts) {
    this.#parts = parts;
  }

  /** `watchedFromMs`: what was not noted since then is noted now, however lately it was. */
  note(sighting: Sighting, watchedFromMs: number | null, now: number): void {
    const pair = `${sighting.slot} ${sighting.kid} ${sighting.spiffe_id}`;
    const watched = watchedFromMs ?? -Infinity;
    const last = this.#noted.get(pair);
    if (last !== undefined && last > now - noteEveryMs && last >= watched) return;
    if (this.#underWay >= underWayMax) return;
    this.#noted.delete(pair);
    this.#noted.set(pair, now);
    for (const oldest of this.#noted.keys()) {
      if (this.#noted.size <= pairsMax) break;
      this.#noted.delete(oldest);
    }
    this.#underWay += 1;
    this.#parts.later(async () => {
      try {
        await this.#parts.keep(sighting, now, Math.max(watched, now - rowEveryMs));
      } catch (error) {
        if (this.#noted.get(pair) === now) this.#noted.delete(pair);
        this.#parts.onLost(error);
      } finally {
        this.#underWay -= 1;
      }
    });
  }
}
