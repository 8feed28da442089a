// A fetcher of edge policy: refreshes what it trusts from every provider, fetches and verifies what is new, and swaps it in as
// a whole, or stays with what it has and says why. Called by `maestro edge fetch` and `maestro edge serve`; everything that
// touches a network, a disk or a clock is handed in.

import { sha256Hex, utf8, type Bytes } from "../contract/bytes.ts";
import { tarBytesMax } from "../contract/http-policies.ts";
import type { Clock } from "../contract/ports.ts";
import type { ArchiveTools } from "../signing/package-archive.ts";
import { askProviders } from "./ask-providers.ts";
import type { EdgeCounters } from "./edge-counters.ts";
import { believedOf, type Believed } from "./believed.ts";
import { deltaFor, fetchByDelta } from "./fetch-delta.ts";
import {
  failedDeltasMax,
  heldSha256,
  quarantineMax,
  type ActivePolicy,
  type FailedDelta,
  type HeldState,
  type HeldStore,
  type Quarantined,
} from "./held-state.ts";
import { tarInside, type DeltaTools } from "./patch-tar.ts";
import { isMismatch, refusal, type Refusal } from "./refusal.ts";
import { routeObject, type Attempt, type Objection, type Timer } from "./route-object.ts";
import { Routing, type ProviderStanding } from "./routing.ts";
import { deltaKey, metadataKey, policyKey, statementKey } from "./serving-path.ts";
import {
  metadataBytesMax,
  nextRoot,
  pinnedRoot,
  refreshMetadata,
  rootRotationsMax,
  rootVersionOf,
  type MetadataView,
  type Refreshed,
  type TrustedMetadata,
} from "./trusted-metadata.ts";
import { parseTargetPath, type PolicyTarget } from "./tuf.ts";
import { checkDigest, checkStatement, checkTar, statementBytesMax } from "./verify-policy.ts";

/** One object of a provider's store. */
export interface Wanted {
  readonly key: string;
  readonly bytesMax: number;
  /** What it must be served as. */
  readonly contentType: string;
}

export const contentTypes = {
  metadata: "application/json",
  policy: "application/gzip",
  delta: "application/zstd",
  statement: "application/json",
} as const;

export interface EdgeFetcherParts {
  /** The tenant's slug. */
  readonly tenant: string;
  /** Names, in the order of the providers' file. */
  readonly providers: readonly string[];
  /** Keys whose statements are believed: SPKI DER in base64. */
  readonly publishers: readonly string[];
  readonly start: (provider: string, wanted: Wanted) => Attempt;
  readonly store: HeldStore;
  readonly tools: ArchiveTools & DeltaTools;
  readonly clock: Clock;
  readonly timer: Timer;
  readonly counters: EdgeCounters;
  /** Of these providers, shared with whoever fetches beside it; one of its own, where it is not given. */
  readonly routing?: Routing;
}

/** What a refresh means for one policy on one channel. `active`: what is served from now on. */
export type Verdict =
  | { readonly verdict: "activated"; readonly active: ActivePolicy }
  | { readonly verdict: "current"; readonly active: ActivePolicy }
  /** Every provider that answered is older than what is held. */
  | { readonly verdict: "behind"; readonly active: ActivePolicy | null }
  | { readonly verdict: "refused"; readonly refusal: Refusal; readonly active: ActivePolicy | null }
  /** The last one is past the end of the metadata that named it: nothing is served. `refusal`: why nothing followed. */
  | { readonly verdict: "expired"; readonly since: string; readonly refusal: Refusal };

export interface Refresh {
  /** By target path, for each that was asked for. */
  readonly verdicts: ReadonlyMap<string, Verdict>;
  /** What was said against single providers, also where another one had it right. */
  readonly objections: readonly Objection[];
  /** Why whole bundles were fetched where a delta was named, a sentence each. */
  readonly failedDeltas: readonly Refusal[];
  /** Whose metadata was taken; null where nobody's was. */
  readonly from: string | null;
}

export type Serving =
  | { readonly state: "ready"; readonly active: ActivePolicy }
  | { readonly state: "expired"; readonly since: string }
  /** There is one, whose publisher is not among those that are believed now. */
  | { readonly state: "unbelieved" }
  | { readonly state: "none" };

export type Opened =
  | { readonly ok: true; readonly fetcher: EdgeFetcher }
  /** `reason`: a sentence for whoever set it up. */
  | { readonly ok: false; readonly reason: string };

const iso = (at: number): string => new Date(at).toISOString();

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
  readonly #believed: Believed;
  readonly #routing: Routing;
  #state: HeldState;
  /** Digests of bundles that this process has kept or read back whole. */
  readonly #whole = new Set<string>();

  constructor(parts: EdgeFetcherParts, believed: Believed, state: HeldState) {
    this.#parts = parts;
    this.#believed = believed;
    this.#routing = parts.routing ?? new Routing(parts.providers);
    this.#state = state;
  }

  get state(): HeldState {
    return this.#state;
  }

  standings(): ProviderStanding[] {
    return this.#routing.standings(this.#parts.clock());
  }

  /** What may be served of that path at `now`. */
  serving(path: string, now: number): Serving {
    const active = this.#activeOf(path);
    if (active === null) return { state: this.#heldOf(path) === null ? "none" : "unbelieved" };
    return Date.parse(active.expires_at) <= now
      ? { state: "expired", since: active.expires_at }
      : { state: "ready", active };
  }

  /** Ends in the time that single reads are bounded to. Rejects for a defect alone: what may go wrong is in the verdicts. */
  async refresh(paths: readonly string[]): Promise<Refresh> {
    const { clock, counters } = this.#parts;
    const now = clock();
    counters.add("refreshes");
    const objections: Objection[] = [];
    const rooted = await this.#advanceRoot(objections);
    const offers = await this.#askMetadata(rooted, objections, now);
    const best = newestOf(offers);
    counters.add("behind", offers.filter((offer) => isBehind(offer.value, best?.view ?? null)).length);
    const changes: Changes = {
      active: { ...this.#state.active },
      quarantine: this.#state.quarantine,
      failed_deltas: this.#state.failed_deltas,
    };
    const failedDeltas: Refusal[] = [];
    const wanted = new Map<string, Verdict>();
    if (best === null) for (const path of paths) wanted.set(path, this.#withoutNews(path, offers, objections));
    else {
      counters.refreshed(now, best.from);
      changes.quarantine = changes.quarantine.filter(
        (entry) => isStillNamed(entry, best.view) && this.#isJudgedNow(entry),
      );
      changes.failed_deltas = changes.failed_deltas.filter((entry) => isDeltaNamed(entry, best.view));
      for (const path of paths)
        wanted.set(path, await this.#follow(path, best.view, changes, { objections, failedDeltas }));
    }
    const kept = await this.#keep({ ...this.#state, trusted: best?.trusted ?? rooted, ...changes });
    const after = clock();
    const verdicts = new Map(
      [...wanted].map(([path, verdict]) => [path, this.#finally(path, verdict, kept, after)] as const),
    );
    this.#count(verdicts, objections);
    return { verdicts, objections, failedDeltas, from: best?.from ?? null };
  }

  /**
   * What is held under that digest (`heldSha256`) and served; null where the disk has lost it: the next refresh fetches it
   * again. What was packed here has no signed digest of its own: before this process takes it, its tar is compared.
   */
  async bytes(sha256: string): Promise<Bytes | null> {
    const bytes = await this.#parts.store.bundle(sha256);
    const packed = this.#whole.has(sha256)
      ? undefined
      : Object.values(this.#state.active).find(({ packed_sha256 }) => packed_sha256 === sha256);
    const isWhole = bytes !== null && (packed === undefined || (await this.#isTarOf(packed, bytes)));
    if (isWhole) this.#whole.add(sha256);
    else this.#whole.delete(sha256);
    return isWhole ? bytes : null;
  }

  async #isTarOf({ tar_sha256 }: ActivePolicy, bytes: Bytes): Promise<boolean> {
    const tar = await tarInside(bytes, tarBytesMax, this.#parts.tools);
    return tar.ok && tar.sha256 === tar_sha256;
  }

  /** Whoever signed it. */
  #heldOf(path: string): ActivePolicy | null {
    return Object.hasOwn(this.#state.active, path) ? this.#state.active[path]! : null;
  }

  /** What is held and signed by a publisher that is believed now: a list that has changed counts at once. */
  #activeOf(path: string): ActivePolicy | null {
    const held = this.#heldOf(path);
    const kid = held?.publisher_kid ?? null;
    return kid !== null && this.#believed.kids.has(kid) ? held : null;
  }

  /** A statement that was judged under another list of publishers may be good under this one. */
  #isJudgedNow({ code, publishers_sha256 }: Quarantined): boolean {
    return code !== "bad_statement" || publishers_sha256 === this.#believed.sha256;
  }

  readonly #startMetadata = (provider: string, name: string, bytesMax: number): Attempt =>
    this.#parts.start(provider, {
      key: metadataKey(this.#parts.tenant, name),
      bytesMax,
      contentType: contentTypes.metadata,
    });

  /** TUF 5.3, at all providers at once: the first root that may follow is taken. */
  async #advanceRoot(objections: Objection[]): Promise<TrustedMetadata> {
    const { clock, timer } = this.#parts;
    let { trusted }: { trusted: TrustedMetadata } = this.#state;
    for (let count = 0; count < rootRotationsMax; count += 1) {
      const from: TrustedMetadata = trusted;
      const name = `${rootVersionOf(from) + 1}.root.json`;
      const { answers, late } = await askProviders(this.#routing, clock, timer, {
        providers: this.#without(objections),
        start: this.#startMetadata,
        ask: async ({ read }) => {
          const answer = await read(name, metadataBytesMax.root);
          return answer.ok ? await nextRoot(from, answer.bytes) : answer;
        },
        isUseful: (next) => next.ok || next.refusal.code === "missing",
        refusalOf: (next) => (next.ok ? null : next.refusal),
      });
      objections.push(...late.map(({ provider, value }) => ({ provider, refusal: value })));
      for (const { provider, value } of answers)
        if (!value.ok && value.refusal.code !== "missing") objections.push({ provider, refusal: value.refusal });
      const next = answers.find(({ value }) => value.ok)?.value;
      if (next === undefined || !next.ok) break;
      trusted = next.trusted;
    }
    return trusted;
  }

  async #askMetadata(trusted: TrustedMetadata, objections: Objection[], now: number): Promise<Offer[]> {
    const { clock, timer } = this.#parts;
    const { answers, late } = await askProviders(this.#routing, clock, timer, {
      providers: this.#without(objections),
      start: this.#startMetadata,
      ask: async ({ read }) => await refreshMetadata(trusted, read, now),
      isUseful: ({ state }) => state === "fresh",
      refusalOf: (refreshed) => (refreshed.state === "refused" ? refreshed.refusal : null),
    });
    objections.push(...late.map(({ provider, value }) => ({ provider, refusal: value })));
    for (const { provider, value } of answers)
      if (value.state === "refused") objections.push({ provider, refusal: value.refusal });
    return [...answers];
  }

  /** Who has not been refused in this refresh, the best first; without those that are left alone, while there are others. */
  #without(objections: readonly Objection[]): string[] {
    const now = this.#parts.clock();
    const refused = new Set(objections.map(({ provider }) => provider));
    const names = this.#routing.order(now).filter((name) => !refused.has(name));
    const reachable = names.filter((name) => this.#routing.breaker(name, now) !== "open");
    return reachable.length > 0 ? reachable : names;
  }

  #withoutNews(path: string, offers: readonly Offer[], objections: readonly Objection[]): Verdict {
    const active = this.#activeOf(path);
    const isTold = objections.some(({ refusal: { code } }) => !isSilence(code));
    if (!isTold && offers.some(({ value }) => value.state === "behind")) return { verdict: "behind", active };
    return { verdict: "refused", refusal: worst(objections), active };
  }

  /** Fetches, verifies and keeps what the metadata names for `path`, where that is not what is active already. */
  async #follow(path: string, view: MetadataView, changes: Changes, told: Told): Promise<Verdict> {
    const before = this.#activeOf(path);
    const policy = parseTargetPath(path)?.policy;
    const target = Object.hasOwn(view.targets, path) ? view.targets[path] : undefined;
    if (policy === undefined || target === undefined)
      return refusedWith(refusal("not_a_target", `targets ${view.targetsVersion} name no ${path}`), before);
    const { sha256 } = target.hashes;
    const expires_at = iso(view.expiresAt);
    const same = before !== null && before.sha256 === sha256 && before.tar_sha256 === target.custom.tar_sha256;
    const isSame = same && before.statement_sha256 === target.custom.statement_sha256;
    if (isSame && (this.#whole.has(heldSha256(before)) || (await this.bytes(heldSha256(before))) !== null)) {
      const { revision, version, published_at } = target.custom;
      const active = { ...before, revision, version, published_at, expires_at };
      changes.active[path] = active;
      return { verdict: "current", active };
    }
    const fetched = await this.#fetch(path, policy, target, changes, told);
    if (!fetched.ok) return refusedWith(fetched.refusal, before);
    const held = fetched.packed ?? sha256;
    const kept = await this.#parts.store.putBundle(held, fetched.bytes);
    if (!kept.ok) return refusedWith(notKept(kept.reason), before);
    this.#whole.add(held);
    const active: ActivePolicy = {
      sha256,
      bytes: target.length,
      tar_sha256: target.custom.tar_sha256,
      revision: target.custom.revision,
      version: target.custom.version,
      statement_sha256: target.custom.statement_sha256,
      published_at: target.custom.published_at,
      from: fetched.from,
      activated_at: iso(this.#parts.clock()),
      expires_at,
      publisher_kid: fetched.kid,
      packed_sha256: fetched.packed,
    };
    changes.active[path] = active;
    return { verdict: "activated", active };
  }

  async #fetch(
    path: string,
    policy: string,
    target: PolicyTarget,
    changes: Changes,
    told: Told,
  ): Promise<
    | {
        readonly ok: true;
        readonly bytes: Bytes;
        readonly from: string;
        readonly packed: string | null;
        readonly kid: string;
      }
    | { readonly ok: false; readonly refusal: Refusal }
  > {
    const { objections } = told;
    const { tenant, tools, publishers } = this.#parts;
    const { sha256 } = target.hashes;
    const { statement_sha256: statementSha256 } = target.custom;
    const entries = changes.quarantine.filter((entry) => isAbout(entry, path, target));
    const bad = entries.find(({ provider }) => provider === null);
    const providers = this.#parts.providers.filter((name) => !entries.some(({ provider }) => provider === name));
    if (bad !== undefined || providers.length === 0) {
      const { code, detail, at } = bad ?? entries[0]!;
      return { ok: false, refusal: refusal("quarantined", `${sha256} was refused at ${at} (${code}: ${detail})`) };
    }
    const isolate = (provider: string | null, { code, detail }: Refusal): void => {
      const at = iso(this.#parts.clock());
      const publishers_sha256 = code === "bad_statement" ? this.#believed.sha256 : null;
      const entry = { path, sha256, statement_sha256: statementSha256, provider, code, detail, at, publishers_sha256 };
      changes.quarantine = [...changes.quarantine, entry].slice(-quarantineMax);
    };
    const one = async (wanted: Wanted, digest: string, length: number | null): Promise<Fetched> => {
      const routed = await this.#route(wanted, providers, digest, length);
      objections.push(...routed.objections);
      for (const { provider, refusal: why } of routed.objections) if (isMismatch(why)) isolate(provider, why);
      if (routed.ok) return routed;
      return { ok: false, refusal: worst(routed.objections) };
    };
    const statement = await one(
      { key: statementKey(tenant, statementSha256), bytesMax: statementBytesMax, contentType: contentTypes.statement },
      statementSha256,
      null,
    );
    if (!statement.ok) return statement;
    const vouched = await checkStatement(policy, target, statement.bytes, publishers);
    if (!vouched.ok) {
      isolate(null, vouched.refusal);
      return vouched;
    }
    const { kid } = vouched;
    const here =
      (await this.#hereAlready(path, target)) ?? (await this.#fetchByDelta(path, target, providers, changes, told));
    if (here !== null) return { ok: true, kid, ...here };
    const bundle = await one(
      { key: policyKey(tenant, sha256), bytesMax: target.length, contentType: contentTypes.policy },
      sha256,
      target.length,
    );
    if (!bundle.ok) return bundle;
    this.#parts.counters.add("whole_bytes", bundle.bytes.length);
    const refused = await checkTar(target.custom, bundle.bytes, tools);
    if (refused === null) return { ...bundle, kid, packed: null };
    isolate(null, refused);
    return { ok: false, refusal: refused };
  }

  /** The same bundle, held whole under another statement or by another publisher: only who vouches for it has changed. */
  async #hereAlready(path: string, { hashes, custom }: PolicyTarget): Promise<Here | null> {
    const held = this.#heldOf(path);
    if (held === null || held.sha256 !== hashes.sha256 || held.tar_sha256 !== custom.tar_sha256) return null;
    const bytes = await this.bytes(heldSha256(held));
    return bytes === null ? null : { bytes, from: held.from, packed: held.packed_sha256 };
  }

  /** Null: there is no delta to ask for, or it failed, which is told and remembered. */
  async #fetchByDelta(
    path: string,
    target: PolicyTarget,
    providers: readonly string[],
    changes: Changes,
    { objections, failedDeltas }: Told,
  ): Promise<Here | null> {
    const { tenant, tools, counters, clock } = this.#parts;
    const before = this.#activeOf(path);
    const delta = deltaFor(before, target, changes.failed_deltas);
    if (before === null || delta === null) return null;
    const { tar_sha256: to } = target.custom;
    const by = await fetchByDelta(
      {
        tools,
        counters,
        held: async (sha256) => await this.bytes(sha256),
        fetch: async ({ from, bytes, sha256 }) => {
          const wanted = { key: deltaKey(tenant, from, to), bytesMax: bytes, contentType: contentTypes.delta };
          return await this.#route(wanted, providers, sha256, bytes);
        },
        worst,
      },
      before,
      delta,
      target,
    );
    if (by.state === "no_base") return null;
    objections.push(...by.objections);
    if (by.state === "made") {
      counters.add("deltas_applied");
      return { bytes: by.bytes, from: by.from, packed: by.sha256 };
    }
    counters.add("deltas_failed");
    const { code, detail } = by.refusal;
    // What was said against providers is counted as that; what was wrong with the delta itself is nobody's there.
    if (code === "bad_delta") counters.refused(code, null);
    failedDeltas.push(by.refusal);
    const entry = { path, from: delta.from, to, sha256: delta.sha256, code, detail, at: iso(clock()) };
    changes.failed_deltas = [...changes.failed_deltas, entry].slice(-failedDeltasMax);
    return null;
  }

  async #route(wanted: Wanted, providers: readonly string[], digest: string, length: number | null) {
    const { clock, timer, start, counters } = this.#parts;
    counters.add("fetches");
    const routed = await routeObject(this.#routing, clock, timer, {
      providers,
      start: (provider) => start(provider, wanted),
      accept: async (bytes) => await checkDigest(bytes, digest, length),
      bytes: length,
    });
    counters.attempts(routed.attempts.length);
    counters.add("hedges", routed.attempts.filter((reason) => reason === "hedge").length);
    counters.add("failovers", routed.attempts.filter((reason) => reason === "failover").length);
    return routed;
  }

  /** Null: it is kept, or there was nothing new. The state in memory is never ahead of the one that a restart would find. */
  async #keep(next: HeldState): Promise<Refusal | null> {
    if (JSON.stringify(next) === JSON.stringify(this.#state) && next.generation > 0) return null;
    const state = { ...next, generation: this.#state.generation + 1 };
    const kept = await this.#parts.store.swap(state);
    if (!kept.ok) return notKept(kept.reason);
    this.#state = state;
    return null;
  }

  #finally(path: string, verdict: Verdict, notKeptWhy: Refusal | null, now: number): Verdict {
    const active = this.#activeOf(path);
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

type Offer = { readonly provider: string; readonly value: Refreshed };
type Fetched =
  | { readonly ok: true; readonly bytes: Bytes; readonly from: string }
  | { readonly ok: false; readonly refusal: Refusal };

interface Changes {
  active: Record<string, ActivePolicy>;
  quarantine: Quarantined[];
  failed_deltas: FailedDelta[];
}

/** Bytes that are a policy's, and from whom they came. `packed`: their digest, where they were packed here. */
interface Here {
  readonly bytes: Bytes;
  readonly from: string;
  readonly packed: string | null;
}

/** What one refresh has to tell beside its verdicts. */
interface Told {
  readonly objections: Objection[];
  readonly failedDeltas: Refusal[];
}

const refusedWith = (why: Refusal, active: ActivePolicy | null): Verdict => ({
  verdict: "refused",
  refusal: why,
  active,
});

const notKept = (reason: string): Refusal => refusal("not_kept", `What came could not be kept: ${reason}`);

const isSilence = (code: Refusal["code"]): boolean =>
  code === "unreachable" || code === "late" || code === "bad_status" || code === "missing";

/** Of what was said against several providers, what tells most: of bytes that came, rather than of none that came. */
function worst(objections: readonly Objection[]): Refusal {
  const told = objections.find(({ refusal: { code } }) => !isSilence(code)) ?? objections[0];
  return told?.refusal ?? refusal("unreachable", "no provider was asked");
}

function newestOf(
  offers: readonly Offer[],
): { readonly from: string; readonly trusted: TrustedMetadata; readonly view: MetadataView } | null {
  let best: { from: string; trusted: TrustedMetadata; view: MetadataView } | null = null;
  for (const { provider, value } of offers) {
    if (value.state !== "fresh") continue;
    if (best === null || value.view.timestampVersion > best.view.timestampVersion)
      best = { from: provider, trusted: value.trusted, view: value.view };
  }
  return best;
}

const isBehind = (value: Refreshed, best: MetadataView | null): boolean =>
  value.state === "behind" ||
  (value.state === "fresh" && best !== null && value.view.timestampVersion < best.timestampVersion);

const isAbout = (entry: Quarantined, path: string, { hashes, custom }: PolicyTarget): boolean =>
  entry.path === path && entry.sha256 === hashes.sha256 && entry.statement_sha256 === custom.statement_sha256;

const isStillNamed = (entry: Quarantined, { targets }: MetadataView): boolean =>
  Object.hasOwn(targets, entry.path) && isAbout(entry, entry.path, targets[entry.path]!);

const isDeltaNamed = ({ path, to, sha256 }: FailedDelta, { targets }: MetadataView): boolean => {
  const custom = Object.hasOwn(targets, path) ? targets[path]!.custom : null;
  return custom?.tar_sha256 === to && custom.deltas?.some((delta) => delta.sha256 === sha256) === true;
};
