// A fetcher's own SVIDs, as it holds them: tokens for the edges and for the API in a folder that somebody else renews beneath it
// (spiffe-helper, `maestro svid mint`). Held by `maestro edge fetch|serve`. What is read here is not verified: whoever gets it does.

import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { base64Bytes, utf8Text } from "../../shared/contract/bytes.ts";
import type { ReportedSvid } from "../../shared/contract/http-edge.ts";
import { claimedIdOfToken } from "../../shared/identity/claimed-id.ts";
import { membersOf } from "../../shared/identity/strict-json.ts";
import { errorCode } from "../failure.ts";

/** Audiences: of both providers' edges, and of the API, which reports go to. */
const audiences = ["maestro-edge", "maestro-api"] as const;
export type SvidAudience = (typeof audiences)[number];
const tokenBytesMax = 16_384;
/** A date's last millisecond. */
const msMax = 8_640_000_000_000_000;

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
    const path = join(this.#folder, `jwt-${audience}.txt`);
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
  const isLow = leftMs * 3 <= held.expiresAtMs - held.issuedAtMs;
  return {
    state: leftMs <= 0 ? "expired" : isLow ? "alarm" : "good",
    svid: reportedOf(held),
    ends_in_ms: Math.max(0, leftMs),
    trouble,
  };
}

/** What a JWT-SVID says of itself; where it does not say when it was issued, its file does. Null: it is none. */
function tokenIn(text: string, writtenMs: number): HeldToken | null {
  const id = claimedIdOfToken(text);
  const [head, claims] = text.split(".").map(partOf);
  const { kid } = head ?? {};
  const { iat, exp } = claims ?? {};
  if (id === null || !id.ok || typeof kid !== "string" || kid === "" || kid.length > 256) return null;
  if (typeof exp !== "number" || Math.abs(exp) * 1_000 > msMax) return null;
  const issuedAtMs = typeof iat === "number" && Math.abs(iat) * 1_000 <= msMax ? iat * 1_000 : Math.floor(writtenMs);
  return { spiffe_id: id.value.uri, authority: kid, text, issuedAtMs, expiresAtMs: exp * 1_000 };
}

function partOf(part: string): Readonly<Record<string, unknown>> | null {
  try {
    const padded = part.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (part.length % 4)) % 4);
    return membersOf(JSON.parse(utf8Text(base64Bytes(padded))));
  } catch {
    return null;
  }
}

/** For a person: `good, rotated 2026-…, ends 2026-… (in 212 s)`. */
export function healthWords({ state, svid, ends_in_ms, trouble }: SvidHealth): string {
  const words =
    svid === null
      ? state
      : `${state}, rotated ${svid.issued_at}, ends ${svid.expires_at} (in ${Math.round((ends_in_ms ?? 0) / 1_000)} s)`;
  return trouble === null ? words : `${words}: ${trouble}`;
}
