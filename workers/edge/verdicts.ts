// SVIDs that held, so that a fetcher's next request costs a digest instead of a signature. Held by workloads.ts, one an instance.
// Only what held is kept; each hit looks at the time and at the bundle again.

import type { SpiffeId } from "../../shared/identity/spiffe-id.ts";

export interface Verdict {
  readonly id: SpiffeId;
  /** Of the bundle that it held under, lower-case hex. */
  readonly bundleDigest: string;
  /** While it holds, `untilMs` itself not; milliseconds since 1970 UTC. */
  readonly fromMs: number;
  readonly untilMs: number;
}

export class Verdicts {
  readonly #entriesMax: number;
  /** The longest unused first. By digest of the SVID. */
  readonly #entries = new Map<string, Verdict>();

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  /** Whose SVID it is, whether it holds now or not; null where it never held here. */
  idOf(digest: string): SpiffeId | null {
    return this.#entries.get(digest)?.id ?? null;
  }

  /** Whether it holds at `now` under that bundle, without asking anew. */
  holds(digest: string, bundleDigest: string, now: number): boolean {
    const verdict = this.#entries.get(digest);
    if (verdict === undefined) return false;
    this.#entries.delete(digest);
    if (verdict.bundleDigest !== bundleDigest || now < verdict.fromMs || !(now < verdict.untilMs)) return false;
    this.#entries.set(digest, verdict);
    return true;
  }

  keep(digest: string, verdict: Verdict): void {
    this.#entries.delete(digest);
    this.#entries.set(digest, verdict);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size <= this.#entriesMax) return;
      this.#entries.delete(oldest);
    }
  }

  get size(): number {
    return this.#entries.size;
  }
}
