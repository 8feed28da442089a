// Fetches one policy's statement and bundle from the providers, whole or by a delta, and verifies both; what is bad is remembered as
// bad. Called by edge-fetcher.ts for what the metadata names and is not held.

import type { Bytes } from "../contract/bytes.ts";
import { isoTime } from "../contract/iso-time.ts";
import type { Believed } from "./believed.ts";
import { deltaFor, fetchByDelta } from "./fetch-delta.ts";
import { contentTypes, type EdgeFetcherParts, type Wanted } from "./fetcher-parts.ts";
import type { HeldPolicies } from "./held-policies.ts";
import {
  failedDeltasMax,
  heldSha256,
  quarantineMax,
  type ActivePolicy,
  type FailedDelta,
  type Quarantined,
} from "./held-state.ts";
import { isMismatch, refusal, type Refusal } from "./refusal.ts";
import { routeObject, type Objection } from "./route-object.ts";
import type { Routing } from "./routing.ts";
import { deltaKey, policyKey, statementKey } from "./serving-path.ts";
import type { PolicyTarget } from "./tuf.ts";
import { checkDigest, checkStatement, checkTar, statementBytesMax } from "./verify-policy.ts";

export interface Changes {
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
export interface Told {
  readonly objections: Objection[];
  readonly failedDeltas: Refusal[];
}

type Fetched =
  | { readonly ok: true; readonly bytes: Bytes; readonly from: string }
  | { readonly ok: false; readonly refusal: Refusal };

/** `kid`: of the publisher who vouches for it. */
export type FetchedPolicy =
  | ({ readonly ok: true; readonly kid: string } & Here)
  | { readonly ok: false; readonly refusal: Refusal };

export class PolicyFetching {
  readonly #parts: EdgeFetcherParts;
  readonly #believed: Believed;
  readonly #routing: Routing;
  readonly #held: HeldPolicies;

  constructor(parts: EdgeFetcherParts, believed: Believed, routing: Routing, held: HeldPolicies) {
    this.#parts = parts;
    this.#believed = believed;
    this.#routing = routing;
    this.#held = held;
  }

  /** `target`: what the metadata names for `path`. What turns out bad goes into `changes`, and what is to be told into `told`. */
  async fetch(
    path: string,
    policy: string,
    target: PolicyTarget,
    changes: Changes,
    told: Told,
  ): Promise<FetchedPolicy> {
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
      const at = isoTime(this.#parts.clock());
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
    const held = this.#held.heldOf(path);
    if (held === null || held.sha256 !== hashes.sha256 || held.tar_sha256 !== custom.tar_sha256) return null;
    const bytes = await this.#held.bytes(heldSha256(held));
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
    const before = this.#held.activeOf(path);
    const delta = deltaFor(before, target, changes.failed_deltas);
    if (before === null || delta === null) return null;
    const { tar_sha256: to } = target.custom;
    const by = await fetchByDelta(
      {
        tools,
        counters,
        held: async (sha256) => await this.#held.bytes(sha256),
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
    const entry = { path, from: delta.from, to, sha256: delta.sha256, code, detail, at: isoTime(clock()) };
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
}

export const isSilence = (code: Refusal["code"]): boolean =>
  code === "unreachable" || code === "late" || code === "bad_status" || code === "missing";

/** Of what was said against several providers, what tells most: of bytes that came, rather than of none that came. */
export function worst(objections: readonly Objection[]): Refusal {
  const told = objections.find(({ refusal: { code } }) => !isSilence(code)) ?? objections[0];
  return told?.refusal ?? refusal("unreachable", "no provider was asked");
}

export const isAbout = (entry: Quarantined, path: string, { hashes, custom }: PolicyTarget): boolean =>
  entry.path === path && entry.sha256 === hashes.sha256 && entry.statement_sha256 === custom.statement_sha256;
