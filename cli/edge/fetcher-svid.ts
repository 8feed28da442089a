// A fetcher's own SVIDs, as it holds them: tokens for the edges and for the API in a folder that somebody else renews beneath it
// (spiffe-helper, `maestro svid mint`). Held by `maestro edge fetch|serve`. What is read here is not verified: whoever gets it does.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { ReportedSvid } from "../../shared/contract/http-edge.ts";
import { isNearItsEnd } from "../../shared/identity/near-its-end.ts";
import { errorCode } from "../failure.ts";
import { heldTokenOf, tokenBytesMax, tokenFile } from "../svid/svid-folder.ts";

/** Audiences: of both providers' edges, and of the API, which reports go to. */
const audiences = ["maestro-edge", "maestro-api"] as const;
export type SvidAudience = (typeof audiences)[number];

interface HeldToken extends Omit<ReportedSvid, "issued_at" | "expires_at"> {
  readonly text: string;
  /** Milliseconds since 1970 UTC. */
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

/** `alarm`: a third of its life, or less, is left, and no other one is here. */
export type SvidState = "good" | "alarm" | "expired" | "absent";

export interface SvidHealth {
  readonly state: SvidState;
  /** That was read last; null where none was. */
  readonly svid: ReportedSvid | null;
  readonly ends_in_ms: number | null;
  /** Why the file is not taken as it is now: a sentence without its full stop; null where it is. */
  readonly trouble: string | null;
}

export class FetcherSvid {
  readonly #folder: string;
  readonly #held = new Map<SvidAudience, HeldToken>();
  readonly #marks = new Map<SvidAudience, string>();
  readonly #troubles = new Map<SvidAudience, string>();
  readonly #onRotated: () => void;

  /** `onRotated`: told of each token for the edges that came in place of another. */
  constructor(folder: string, onRotated: () => void = () => undefined) {
    this.#folder = folder;
    this.#onRotated = onRotated;
  }

  /** The token to be sent now: the file is looked at each time, and read where it is another one. Null: there never was one. */
  bearer(audience: SvidAudience): string | null {
    this.#look(audience);
    return this.#held.get(audience)?.text ?? null;
  }

  /** What the edges are told by. */
  health(now: number): SvidHealth {
    this.#look("maestro-edge");
    return healthOf(this.#held.get("maestro-edge") ?? null, this.#troubles.get("maestro-edge") ?? null, now);
  }

  /** Of both tokens the one that was issued first: an authority is in use as long as either is signed by it. */
  reported(): ReportedSvid | null {
    for (const audience of audiences) this.#look(audience);
    const [first] = [...this.#held.values()].toSorted((one, other) => one.issuedAtMs - other.issuedAtMs);
    return first === undefined ? null : reportedOf(first);
  }

  #look(audience: SvidAudience): void {
    const path = join(this.#folder, tokenFile(audience));
    try {
      const { ino, mtimeMs, size } = statSync(path);
      const mark = `${ino} ${mtimeMs} ${size}`;
      if (this.#marks.get(audience) === mark) return;
      const held = size > tokenBytesMax ? null : tokenIn(readFileSync(path, "utf8").trim(), mtimeMs);
      this.#marks.set(audience, mark);
      if (held === null) return void this.#troubles.set(audience, `${path} holds no JWT-SVID`);
      this.#troubles.delete(audience);
      const before = this.#held.get(audience);
      this.#held.set(audience, held);
      if (audience === "maestro-edge" && before !== undefined && before.text !== held.text) this.#onRotated();
    } catch (error) {
      const code = errorCode(error);
      if (code === null) throw error;
      this.#marks.delete(audience);
      this.#troubles.set(audience, code === "ENOENT" ? `there is no ${path}` : `${path} cannot be read (${code})`);
    }
  }
}

const reportedOf = ({ spiffe_id, authority, issuedAtMs, expiresAtMs }: HeldToken): ReportedSvid => ({
  spiffe_id,
  authority,
  issued_at: new Date(issuedAtMs).toISOString(),
  expires_at: new Date(expiresAtMs).toISOString(),
});

/** Of what was written down by whoever held it last. */
export const healthOfReported = (svid: ReportedSvid | null, now: number): SvidHealth => {
  if (svid === null) return healthOf(null, null, now);
  const { issued_at, expires_at, ...rest } = svid;
  const held = { ...rest, text: "", issuedAtMs: Date.parse(issued_at), expiresAtMs: Date.parse(expires_at) };
  return healthOf(held, null, now);
};

function healthOf(held: HeldToken | null, trouble: string | null, now: number): SvidHealth {
  if (held === null) return { state: "absent", svid: null, ends_in_ms: null, trouble };
  const leftMs = held.expiresAtMs - now;
  const isLow = isNearItsEnd(held.issuedAtMs, held.expiresAtMs, now);
  return {
    state: leftMs <= 0 ? "expired" : isLow ? "alarm" : "good",
    svid: reportedOf(held),
    ends_in_ms: Math.max(0, leftMs),
    trouble,
  };
}

/** Null: it is no JWT-SVID, or does not say by which authority. */
function tokenIn(text: string, writtenMs: number): HeldToken | null {
  const held = heldTokenOf(text, Math.floor(writtenMs));
  if (held === null || held.kid === null || held.kid.length > 256) return null;
  const { id, kid, issuedAtMs, expiresAtMs } = held;
  return { spiffe_id: id.uri, authority: kid, text, issuedAtMs, expiresAtMs };
}

/** For a person: `good, rotated 2026-…, ends 2026-… (in 212 s)`. */
export function healthWords({ state, svid, ends_in_ms, trouble }: SvidHealth): string {
  const words =
    svid === null
      ? state
      : `${state}, rotated ${svid.issued_at}, ends ${svid.expires_at} (in ${Math.round((ends_in_ms ?? 0) / 1_000)} s)`;
  return trouble === null ? words : `${words}: ${trouble}`;
}
