// Follows a fetcher's own SVID while `maestro edge serve` runs: tells and counts what becomes of it, writes it down for `maestro edge
// status`, and says when there is none that holds, so that nobody asks providers again and again with one that has ended.

import type { EdgeCounters } from "../../shared/edge/edge-counters.ts";
import { healthWords, type FetcherSvid, type SvidHealth } from "./fetcher-svid.ts";
import { writeHeldSvid } from "./svid-file.ts";

/** While there is no SVID that holds the providers are asked so often; its file is looked at as often as ever. */
export const lapsedAskMs = 10_000;

export interface SvidWatchParts {
  /** Null: the fetcher comes with a key. */
  readonly svid: FetcherSvid | null;
  /** Where what is held stands. */
  readonly folder: string;
  readonly counters: EdgeCounters;
  readonly now: () => number;
  /** A line for the person; once for each change. */
  readonly note: (line: string) => void;
}

export class SvidWatch {
  readonly #parts: SvidWatchParts;
  #told = "";
  #written = "";
  #isLapsed = false;

  constructor(parts: SvidWatchParts) {
    this.#parts = parts;
  }

  /** Before each refresh: whether there is no SVID that holds; false for a fetcher with a key. */
  async lapsed(): Promise<boolean> {
    const { svid, counters, now } = this.#parts;
    await this.#write();
    if (svid === null) return false;
    const health = svid.health(now());
    const isLapsed = health.state === "expired" || health.state === "absent";
    if (isLapsed && !this.#isLapsed) counters.add("svid_lapses");
    this.#isLapsed = isLapsed;
    this.#tell(health);
    return isLapsed;
  }

  #tell(health: SvidHealth): void {
    const { state, svid, trouble } = health;
    const mark = JSON.stringify([state, svid, trouble]);
    if (mark === this.#told) return;
    this.#told = mark;
    const goesOn = `. What is held is served on; providers are asked each ${lapsedAskMs / 1_000} s until another one is here`;
    this.#parts.note(`the SVID: ${healthWords(health)}${this.#isLapsed ? goesOn : ""}`);
  }

  async #write(): Promise<void> {
    const { svid, folder, note } = this.#parts;
    const held = svid?.reported() ?? null;
    const text = JSON.stringify(held);
    if (text === this.#written) return;
    this.#written = text;
    const why = await writeHeldSvid(folder, held);
    if (why !== null) note(`which SVID is held could not be written to ${folder} (${why})`);
  }
}
