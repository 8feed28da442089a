// Fetchers that come with an SVID: a JWT-SVID as bearer, or a client certificate where the platform tells of one. Called by
// fetchers.ts. Which SPIFFE ID is which tenant's fetcher, and the bundle that its SVIDs are verified with, stand in the
// provider's own store; both count for 5 s after they were read.

import { concat, sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import { membersOf } from "../../shared/edge/mirrored-file.ts";
import { isTenantSlug, workloadKey } from "../../shared/edge/serving-path.ts";
import { claimedIdOfLeaf, claimedIdOfToken } from "../../shared/identity/claimed-id.ts";
import { skewSeconds, verifyJwtSvid } from "../../shared/identity/jwt-svid.ts";
import type { Checked, Refusal } from "../../shared/identity/refusal.ts";
import type { SpiffeId } from "../../shared/identity/spiffe-id.ts";
import type { TrustBundle } from "../../shared/identity/trust-bundle.ts";
import { verifyX509Svid } from "../../shared/identity/x509-svid.ts";
import type { CacheRule, EdgeCache, Entry, Source } from "./cache.ts";
import { GoodLately } from "./good-lately.ts";
import type { TrustBundles } from "./trust.ts";
import { Verdicts, type Verdict } from "./verdicts.ts";
import { WorkBudget } from "./work-budget.ts";

/** What an edge is called in a JWT-SVID's `aud`. */
export const edgeAudience = "maestro-edge";
/** So long a workload that was taken out may still be taken, and one that was put in be refused that was tried before. */
export const workloadMsMax = 5_000;
const unknownMsMax = 1_000;
const verdictsMax = 4_096;
/** What one verification is counted as. */
const jwtMicros = 60;
const certificateMicros = 600;

export type Svid =
  | { readonly kind: "jwt_svid"; readonly token: string }
  /** DER, the leaf first. */
  | { readonly kind: "x509_svid"; readonly chain: readonly Uint8Array[] };

interface Workload {
  readonly fetcher_id: string;
  /** The tenant's slug. */
  readonly tenant: string;
  readonly spiffe_id: string;
  readonly trust_domain: string;
}

/** `source`: how what was needed of the store came; null where nothing was. */
export type WhoseSvid = { readonly source: Source | null } & (
  | { readonly state: "known"; readonly fetcher: Pick<Workload, "fetcher_id" | "tenant"> }
  /** Nobody that is known here. */
  | { readonly state: "unknown" }
  /** It says that it is one who is known, and does not hold. */
  | { readonly state: "refused"; readonly refusal: Refusal }
  | { readonly state: "unavailable" }
  /** Too many are being verified that were not verified before. */
  | { readonly state: "busy" }
);

const goodRule: CacheRule = { digest: null, freshMs: workloadMsMax, missingMs: unknownMsMax };
const doubtfulRule: CacheRule = { ...goodRule, isDoubtful: true };

export interface WorkloadParts {
  readonly cache: EdgeCache;
  readonly bundles: TrustBundles;
  /** Told of each file that is no workload's; its SPIFFE ID opens nothing. */
  readonly onBroken: () => void;
  /** Told of each signature that was looked at. */
  readonly onVerified: (kind: Svid["kind"], held: boolean) => void;
}

export class Workloads {
  readonly #parts: WorkloadParts;
  readonly #parsed = new WeakMap<Entry, { readonly workload: Workload | null }>();
  readonly #good = new GoodLately();
  readonly #verdicts = new Verdicts(verdictsMax);
  readonly #budget = new WorkBudget();

  constructor(parts: WorkloadParts) {
    this.#parts = parts;
  }

  async find(svid: Svid, now: number): Promise<WhoseSvid> {
    const digest = await digestOf(svid);
    const id = this.#verdicts.idOf(digest) ?? claimedIdOf(svid);
    if (id === null) return { state: "unknown", source: null };
    // An ID has up to 2,048 characters: what is remembered of thousands is digests.
    const name = await sha256Hex(utf8(id.uri));
    const found = await this.#workload(id, name, now);
    if (found.state !== "known") return found;
    const { workload } = found;
    const trust = await this.#parts.bundles.find(workload.tenant, id.trustDomain, now);
    const source = worse(found.source, trust.source);
    if (trust.state === "missing") return { state: "unknown", source };
    if (trust.state === "unavailable") return { state: "unavailable", source };
    const known: WhoseSvid = { state: "known", fetcher: workload, source };
    if (this.#verdicts.holds(digest, trust.bundle.digest, now)) return known;
    const micros = svid.kind === "jwt_svid" ? jwtMicros : certificateMicros;
    if (!this.#budget.take(name, micros, now)) return { state: "busy", source };
    const verified = await verify(svid, trust.bundle, now);
    this.#parts.onVerified(svid.kind, verified.ok);
    if (!verified.ok) return { state: "refused", refusal: verified.refusal, source };
    // The claim that its bundle was found by is the one that held.
    if (verified.value.id.uri !== id.uri) return { state: "unknown", source };
    this.#verdicts.keep(digest, verified.value);
    return known;
  }

  /** Whether that SPIFFE ID is a fetcher's, as the store says. `name`: its digest. */
  async #workload(
    id: SpiffeId,
    name: string,
    now: number,
  ): Promise<
    | { readonly state: "known"; readonly workload: Workload; readonly source: Source }
    | { readonly state: "unknown" | "unavailable"; readonly source: Source }
  > {
    const isGood = this.#good.has(name, now);
    const read = await this.#parts.cache.read(workloadKey(name), isGood ? goodRule : doubtfulRule);
    const { source } = read;
    if (read.state !== "missing" && read.state !== "found") return { state: "unavailable", source };
    const workload = read.state === "found" ? this.#workloadIn(read.entry) : null;
    if (workload === null || workload.spiffe_id !== id.uri || workload.trust_domain !== id.trustDomain) {
      this.#good.forget(name);
      return { state: "unknown", source };
    }
    if (!isGood || source !== "hit") this.#good.note(name, now);
    return { state: "known", workload, source };
  }

  #workloadIn(entry: Entry): Workload | null {
    const known = this.#parsed.get(entry);
    if (known !== undefined) return known.workload;
    const workload = parseWorkload(entry.bytes);
    if (workload === null) this.#parts.onBroken();
    this.#parsed.set(entry, { workload });
    return workload;
  }
}

/** What it says of itself; null where it is no SVID at all. */
function claimedIdOf(svid: Svid): SpiffeId | null {
  const claimed = svid.kind === "jwt_svid" ? claimedIdOfToken(svid.token) : claimedIdOfLeaf(svid.chain[0]!);
  return claimed?.ok === true ? claimed.value : null;
}

async function verify(svid: Svid, bundle: TrustBundle, now: number): Promise<Checked<Verdict>> {
  const bundleDigest = bundle.digest;
  if (svid.kind === "x509_svid") {
    const verified = await verifyX509Svid(svid.chain, bundle, now);
    if (!verified.ok) return verified;
    const { id, fromMs, untilMs } = verified.value;
    return { ok: true, value: { id, bundleDigest, fromMs, untilMs: untilMs + 1 } };
  }
  const verified = await verifyJwtSvid(svid.token, bundle, { audience: edgeAudience, now });
  if (!verified.ok) return verified;
  const { id, untilMs } = verified.value;
  // What lay ahead within the skew is asked anew by a clock that was put back.
  return { ok: true, value: { id, bundleDigest, fromMs: now, untilMs: untilMs + skewSeconds * 1_000 } };
}

/** Each length goes before its bytes, so that no two are one. */
async function digestOf(svid: Svid): Promise<string> {
  if (svid.kind === "jwt_svid") return `t${await sha256Hex(utf8(svid.token))}`;
  return `c${await sha256Hex(concat(...svid.chain.flatMap((der) => [utf8(`${der.length}:`), der])))}`;
}

const sources = ["hit", "collapsed", "miss"] as const;
const worse = (one: Source, other: Source): Source => (sources.indexOf(one) > sources.indexOf(other) ? one : other);

/** `{"fetcher_id", "tenant", "spiffe_id", "trust_domain"}`; null for anything else. */
export function parseWorkload(bytes: Uint8Array): Workload | null {
  const members = membersOf(bytes);
  if (members === null) return null;
  const { fetcher_id, tenant, spiffe_id, trust_domain } = members;
  if (typeof fetcher_id !== "string" || fetcher_id === "" || fetcher_id.length > 100) return null;
  if (typeof tenant !== "string" || !isTenantSlug(tenant)) return null;
  if (typeof spiffe_id !== "string" || typeof trust_domain !== "string") return null;
  return { fetcher_id, tenant, spiffe_id, trust_domain };
}
