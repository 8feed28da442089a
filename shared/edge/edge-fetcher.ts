// A fetcher of edge policy: refreshes what it trusts from every provider, fetches and verifies what is new, and swaps it in as
// a whole, or stays with what it has and says why. Called by `maestro edge fetch` and `maestro edge serve`; everything that
// touches a network, a disk or a clock is handed in.

import { sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import { isoTime } from "../contract/iso-time.ts";
import { isBehind, MetadataAsking, newestOf, type Offer } from "./ask-metadata.ts";
import { believedOf, type Believed } from "./believed.ts";
import { isAbout, isSilence, PolicyFetching, worst, type Changes, type Told } from "./fetch-policy.ts";
import type { EdgeFetcherParts, Refresh, Serving, Verdict } from "./fetcher-parts.ts";
import { HeldPolicies } from "./held-policies.ts";
import { heldSha256, type ActivePolicy, type FailedDelta, type HeldState, type Quarantined } from "./held-state.ts";
import { refusal, type Refusal } from "./refusal.ts";
import type { Objection } from "./route-object.ts";
import { Routing, type ProviderStanding } from "./routing.ts";
import { pinnedRoot, type MetadataView, type TrustedMetadata } from "./trusted-metadata.ts";
import { parseTargetPath } from "./tuf.ts";

export type Opened =
  | { readonly ok: true; readonly fetcher: EdgeFetcher }
  /** `reason`: a sentence for whoever set it up. */
  | { readonly ok: false; readonly reason: string };

/** `pin`: the text of a root that a person has brought here. `kept`: what the store held; null for the first start. */
export async function openEdgeFetcher(parts: EdgeFetcherParts, pin: string, kept: HeldState | null): Promise<Opened> {
  const pinSha256 = await sha256Hex(utf8(pin));
  const believed = await believedOf(parts.publishers);
  if (kept !== null) {
    if (kept.tenant !== parts.tenant)
      return { ok: false, reason: `It holds policies of the tenant ${kept.tenant}, not of ${parts.tenant}` };
    if (kept.pinned_root_sha256 !== pinSha256)
      return { ok: false, reason: "It began with another pinned root, and follows that one" };
    return { ok: true, fetcher: new EdgeFetcher(parts, believed, kept) };
  }
  let trusted: TrustedMetadata;
  try {
    trusted = await pinnedRoot(pin);
  } catch (error) {
    if (error instanceof RangeError) return { ok: false, reason: `The pinned root cannot be used: ${error.message}` };
    throw error;
  }
  const first: HeldState = {
    format: "maestro-edge-held/v1",
    generation: 0,
    tenant: parts.tenant,
    pinned_root_sha256: pinSha256,
    trusted,
    active: {},
    quarantine: [],
    failed_deltas: [],
  };
  return { ok: true, fetcher: new EdgeFetcher(parts, believed, first) };
}

/** One refresh at a time. */
export class EdgeFetcher {
  readonly #parts: EdgeFetcherParts;
  readonly #routing: Routing;
  readonly #held: HeldPolicies;
  readonly #metadata: MetadataAsking;
  readonly #policies: PolicyFetching;

  constructor(parts: EdgeFetcherParts, believed: Believed, state: HeldState) {
    this.#parts = parts;
    this.#routing = parts.routing ?? new Routing(parts.providers);
    this.#held = new HeldPolicies(parts, believed, state);
    this.#metadata = new MetadataAsking(parts, this.#routing);
    this.#policies = new PolicyFetching(parts, believed, this.#routing, this.#held);
  }

  get state(): HeldState {
    return this.#held.state;
  }

  standings(): ProviderStanding[] {
    return this.#routing.standings(this.#parts.clock());
  }

  /** What may be served of that path at `now`. */
  serving(path: string, now: number): Serving {
    const active = this.#held.activeOf(path);
    if (active === null) return { state: this.#held.heldOf(path) === null ? "none" : "unbelieved" };
    return Date.parse(active.expires_at) <= now
      ? { state: "expired", since: active.expires_at }
      : { state: "ready", active };
  }

  /** Ends in the time that single reads are bounded to. Rejects for a defect alone: what may go wrong is in the verdicts. */
  async refresh(paths: readonly string[]): Promise<Refresh> {
    const { clock, counters } = this.#parts;
    const now = clock();
    const { state } = this.#held;
    counters.add("refreshes");
    const objections: Objection[] = [];
    const rooted = await this.#metadata.advanceRoot(state.trusted, objections);
    const offers = await this.#metadata.ask(rooted, objections, now);
    const best = newestOf(offers);
    counters.add("behind", offers.filter((offer) => isBehind(offer.value, best?.view ?? null)).length);
    const changes: Changes = {
      active: { ...state.active },
      quarantine: state.quarantine,
      failed_deltas: state.failed_deltas,
    };
    const failedDeltas: Refusal[] = [];
    const wanted = new Map<string, Verdict>();
    if (best === null) for (const path of paths) wanted.set(path, this.#withoutNews(path, offers, objections));
    else {
      counters.refreshed(now, best.from);
      changes.quarantine = changes.quarantine.filter(
        (entry) => isStillNamed(entry, best.view) && this.#held.isJudgedNow(entry),
      );
      changes.failed_deltas = changes.failed_deltas.filter((entry) => isDeltaNamed(entry, best.view));
      for (const path of paths)
        wanted.set(path, await this.#follow(path, best.view, changes, { objections, failedDeltas }));
    }
    const kept = await this.#held.keep({ ...state, trusted: best?.trusted ?? rooted, ...changes });
    const after = clock();
    const verdicts = new Map(
      [...wanted].map(([path, verdict]) => [path, this.#finally(path, verdict, kept, after)] as const),
    );
    this.#count(verdicts, objections);
    return { verdicts, objections, failedDeltas, from: best?.from ?? null };
  }

  /** As `HeldPolicies.bytes`. */
  bytes(sha256: string): Promise<Bytes | null> {
    return this.#held.bytes(sha256);
  }

  #withoutNews(path: string, offers: readonly Offer[], objections: readonly Objection[]): Verdict {
    const active = this.#held.activeOf(path);
    const isTold = objections.some(({ refusal: { code } }) => !isSilence(code));
    if (!isTold && offers.some(({ value }) => value.state === "behind")) return { verdict: "behind", active };
    return { verdict: "refused", refusal: worst(objections), active };
  }

  /** Fetches, verifies and keeps what the metadata names for `path`, where that is not what is active already. */
  async #follow(path: string, view: MetadataView, changes: Changes, told: Told): Promise<Verdict> {
    const before = this.#held.activeOf(path);
    const policy = parseTargetPath(path)?.policy;
    const target = Object.hasOwn(view.targets, path) ? view.targets[path] : undefined;
    if (policy === undefined || target === undefined)
      return refusedWith(refusal("not_a_target", `targets ${view.targetsVersion} name no ${path}`), before);
    const { sha256 } = target.hashes;
    const expires_at = isoTime(view.expiresAt);
    const same = before !== null && before.sha256 === sha256 && before.tar_sha256 === target.custom.tar_sha256;
    const isSame = same && before.statement_sha256 === target.custom.statement_sha256;
    if (isSame && (await this.#held.isHere(heldSha256(before)))) {
      const { revision, version, published_at } = target.custom;
      const active = { ...before, revision, version, published_at, expires_at };
      changes.active[path] = active;
      return { verdict: "current", active };
    }
    const fetched = await this.#policies.fetch(path, policy, target, changes, told);
    if (!fetched.ok) return refusedWith(fetched.refusal, before);
    const held = fetched.packed ?? sha256;
    const notKept = await this.#held.put(held, fetched.bytes);
    if (notKept !== null) return refusedWith(notKept, before);
    const active: ActivePolicy = {
      sha256,
      bytes: target.length,
      tar_sha256: target.custom.tar_sha256,
      revision: target.custom.revision,
      version: target.custom.version,
      statement_sha256: target.custom.statement_sha256,
      published_at: target.custom.published_at,
      from: fetched.from,
      activated_at: isoTime(this.#parts.clock()),
      expires_at,
      publisher_kid: fetched.kid,
      packed_sha256: fetched.packed,
    };
    changes.active[path] = active;
    return { verdict: "activated", active };
  }

  #finally(path: string, verdict: Verdict, notKeptWhy: Refusal | null, now: number): Verdict {
    const active = this.#held.activeOf(path);
    const after = notKeptWhy !== null && verdict.verdict !== "expired" ? refusedWith(notKeptWhy, active) : verdict;
    if (active === null || after.verdict === "expired" || Date.parse(active.expires_at) > now) return after;
    const why = after.verdict === "refused" ? after.refusal : refusal("metadata_expired", "no provider had news");
    return { verdict: "expired", since: active.expires_at, refusal: why };
  }

  #count(verdicts: ReadonlyMap<string, Verdict>, objections: readonly Objection[]): void {
    const { counters } = this.#parts;
    for (const { provider, refusal: why } of objections) counters.refused(why.code, provider);
    const counted = new Set(objections.map(({ refusal: why }) => why));
    for (const verdict of verdicts.values()) {
      if (verdict.verdict === "activated" || verdict.verdict === "current") counters.add(verdict.verdict);
      if ((verdict.verdict === "refused" || verdict.verdict === "expired") && !counted.has(verdict.refusal))
        counters.refused(verdict.refusal.code, null);
    }
  }
}

const refusedWith = (why: Refusal, active: ActivePolicy | null): Verdict => ({
  verdict: "refused",
  refusal: why,
  active,
});

const isStillNamed = (entry: Quarantined, { targets }: MetadataView): boolean =>
  Object.hasOwn(targets, entry.path) && isAbout(entry, entry.path, targets[entry.path]!);

const isDeltaNamed = ({ path, to, sha256 }: FailedDelta, { targets }: MetadataView): boolean => {
  const custom = Object.hasOwn(targets, path) ? targets[path]!.custom : null;
  return custom?.tar_sha256 === to && custom.deltas?.some((delta) => delta.sha256 === sha256) === true;
};
