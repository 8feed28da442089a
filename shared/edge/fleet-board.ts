// The board of a tenant's fleet: the newest report of each instance, and counters that only go up, also over an instance's
// restarts. Held in memory by durable-objects/edge-health.ts, which keeps it as one value.

import {
  countNames,
  reportEveryMs,
  silentMs,
  type EdgeReport,
  type FetcherCounts,
  type ReportedProvider,
} from "../contract/http-edge.ts";

export const boardBounds = {
  instancesMax: 500,
  /**
   * Of all reports, and what was counted beside them, as JSON, which is ASCII: with the rest it stays below the 2 MB that an object's
   * one value may have.
   */
  bytesMax: 1_536 * 1_024,
  /** Providers that counters are kept of; more than a fetcher may have. */
  providersMax: 64,
  /** An instance may report so often at once, and then once in `reportEveryMs / burst` ms. */
  burst: 10,
} as const;

export interface ProviderCounts {
  readonly cache_hits: number;
  readonly cache_misses: number;
  readonly mismatches: number;
}
const providerCountNames = ["cache_hits", "cache_misses", "mismatches"] as const;

export interface Totals {
  readonly counts: FetcherCounts;
  /** By the provider's name. */
  readonly providers: Readonly<Record<string, ProviderCounts>>;
}

export interface HeldInstance {
  /** Whose key reported it first: no other may report under its id. */
  readonly principal: string;
  readonly first_seen_ms: number;
  readonly reported_ms: number;
  readonly report: EdgeReport;
  /** By name, what this boot has reported of providers that `report` leaves out; absent from boards of before that was kept. */
  readonly left_out?: Totals["providers"];
  /** Of boots before this one. */
  readonly before: Totals;
}

/** What is kept: plain data. */
export interface BoardState {
  instances: Record<string, HeldInstance>;
  /** Of instances that have left. */
  gone: Totals;
}

export interface BoardView {
  /** By id, in order. */
  readonly instances: readonly (HeldInstance & { readonly totals: Totals })[];
  readonly gone: Totals;
}

export type Noted =
  /** `left`: ids of silent instances that made room. */
  | { readonly outcome: "noted"; readonly isNew: boolean; readonly totals: Totals; readonly left: readonly string[] }
  /** This one, or a newer one of the same boot, is there. */
  | { readonly outcome: "repeated" }
  /** Another fetcher reports under this id, or did so later. */
  | { readonly outcome: "taken" }
  | { readonly outcome: "limited"; readonly retry_ms: number }
  | { readonly outcome: "full" };

/** The tenant's EdgeHealth object. */
export interface FleetPort {
  /** When it has resolved, `view` has it; it is durable 5 s later, since the next report says everything anew. */
  report(principal: string, report: EdgeReport): Promise<Noted>;
  view(): Promise<BoardView>;
  /**
   * Durable when it has resolved, and an event. False where there is no instance of that id. `intent`: hex digest of the
   * Idempotency-Key's claim, or null; with one that was answered before, true.
   */
  forget(principal: string, instance: string, intent: string | null): Promise<boolean>;
}

const noCounts = (): FetcherCounts => Object.fromEntries(countNames.map((name) => [name, 0])) as FetcherCounts;
export const noTotals = (): Totals => ({ counts: noCounts(), providers: {} });
export const emptyBoard = (): BoardState => ({ instances: {}, gone: noTotals() });

export class FleetBoard {
  readonly #state: BoardState;
  readonly #buckets = new Map<string, { tokens: number; at: number }>();
  /** Bytes of each, measured once. */
  readonly #sizes = new WeakMap<HeldInstance, number>();

  /** `state` is read anew with each call, and changed in place. */
  constructor(state: BoardState) {
    this.#state = state;
  }

  /** `principal`: of the key that the report came with. */
  note(principal: string, report: EdgeReport, now: number): Noted {
    const held = this.#find(report.instance);
    if (held !== null && isTaken(held, principal, report)) return { outcome: "taken" };
    const retry_ms = this.#take(report.instance, now);
    if (retry_ms > 0) return { outcome: "limited", retry_ms };
    const isSameBoot = held !== null && held.report.boot_id === report.boot_id;
    if (isSameBoot && report.sequence <= held.report.sequence) return { outcome: "repeated" };
    const next: HeldInstance = {
      principal,
      first_seen_ms: held?.first_seen_ms ?? now,
      reported_ms: now,
      ...(isSameBoot ? neverDown(held, report) : { report }),
      before: held === null ? noTotals() : isSameBoot ? held.before : totalsOf(held),
    };
    const left = this.#makeRoom(next, now);
    if (left === null) return { outcome: "full" };
    this.#state.instances[report.instance] = next;
    return { outcome: "noted", isNew: held === null, totals: totalsOf(next), left };
  }

  /** False where there is none of that id. Its counts stay in the fleet's. */
  forget(instance: string): boolean {
    const held = this.#find(instance);
    if (held === null) return false;
    this.#state.gone = sum(this.#state.gone, totalsOf(held));
    delete this.#state.instances[instance];
    this.#buckets.delete(instance);
    return true;
  }

  view(): BoardView {
    const ids = Object.keys(this.#state.instances).toSorted();
    const instances = ids.map((id) => this.#state.instances[id]!);
    return {
      instances: instances.map((held) => ({ ...held, totals: totalsOf(held) })),
      gone: this.#state.gone,
    };
  }

  #find(instance: string): HeldInstance | null {
    return Object.hasOwn(this.#state.instances, instance) ? this.#state.instances[instance]! : null;
  }

  /** 0, or in how many ms there is room for one more. */
  #take(instance: string, now: number): number {
    const everyMs = reportEveryMs / boardBounds.burst;
    const known = this.#buckets.get(instance) ?? { tokens: boardBounds.burst, at: now };
    const tokens = Math.min(boardBounds.burst, known.tokens + Math.max(0, now - known.at) / everyMs);
    if (tokens < 1) return Math.ceil((1 - tokens) * everyMs);
    this.#buckets.delete(instance);
    this.#buckets.set(instance, { tokens: tokens - 1, at: now });
    for (const oldest of this.#buckets.keys()) {
      if (this.#buckets.size <= boardBounds.instancesMax) break;
      this.#buckets.delete(oldest);
    }
    return 0;
  }

  /** The silent ones leave, the longest silent first, until `next` fits; null where it does not. */
  #makeRoom(next: HeldInstance, now: number): string[] | null {
    const { instance } = next.report;
    const others = Object.values(this.#state.instances).filter((held) => held.report.instance !== instance);
    let bytes = others.reduce((all, held) => all + this.#bytesOf(held), this.#bytesOf(next));
    let count = others.length + 1;
    const isFull = (): boolean => count > boardBounds.instancesMax || bytes > boardBounds.bytesMax;
    if (!isFull()) return [];
    const left: string[] = [];
    const silent = others.filter((held) => now - held.reported_ms > silentMs);
    for (const theirs of silent.toSorted((one, other) => one.reported_ms - other.reported_ms)) {
      left.push(theirs.report.instance);
      bytes -= this.#bytesOf(theirs);
      count -= 1;
      if (!isFull()) break;
    }
    if (isFull()) return null;
    for (const gone of left) this.forget(gone);
    return left;
  }

  #bytesOf(held: HeldInstance): number {
    const { report, before, left_out } = held;
    const bytes = this.#sizes.get(held) ?? JSON.stringify([report, before, left_out]).length;
    this.#sizes.set(held, bytes);
    return bytes;
  }
}

function isTaken(held: HeldInstance, principal: string, { boot, boot_id }: EdgeReport): boolean {
  if (held.principal !== principal) return true;
  return boot_id !== held.report.boot_id && boot <= held.report.boot;
}

type Boot = Pick<HeldInstance, "report" | "left_out">;

/** A boot's own counters only go up: where one has, it stays, also while its provider is not asked (the flag edge_multicdn). */
function neverDown(held: Boot, after: EdgeReport): Boot {
  const earlier = providersOf(held);
  const report = {
    ...after,
    counts: counted(countNames, (name) => Math.max(held.report.counts[name], after.counts[name])),
    providers: after.providers.map((one): ReportedProvider => {
      const known = earlier.get(one.name);
      if (known === undefined) return one;
      return { ...one, ...counted(providerCountNames, (name) => Math.max(known[name], one[name])) };
    }),
  };
  for (const { name } of after.providers) earlier.delete(name);
  const room = boardBounds.providersMax - after.providers.length;
  return { report, left_out: Object.fromEntries([...earlier].slice(0, room)) };
}

/** What a boot has counted, by provider. */
const providersOf = ({ report, left_out = {} }: Boot): Map<string, ProviderCounts> =>
  new Map([
    ...report.providers.map((one) => [one.name, counted(providerCountNames, (name) => one[name])] as const),
    ...Object.entries(left_out),
  ]);

const totalsOf = (held: Pick<HeldInstance, "before"> & Boot): Totals =>
  sum(held.before, { counts: held.report.counts, providers: Object.fromEntries(providersOf(held)) });

export function sum(one: Totals, other: Totals): Totals {
  const names = [...new Set([...Object.keys(one.providers), ...Object.keys(other.providers)])];
  return {
    counts: counted(countNames, (name) => one.counts[name] + other.counts[name]),
    providers: Object.fromEntries(
      names.slice(0, boardBounds.providersMax).map((name) => {
        const [left, right] = [one, other].map(({ providers }) =>
          Object.hasOwn(providers, name) ? providers[name] : undefined,
        );
        return [name, counted(providerCountNames, (count) => (left?.[count] ?? 0) + (right?.[count] ?? 0))];
      }),
    ),
  };
}

const counted = <K extends string>(names: readonly K[], of: (name: K) => number): Record<K, number> =>
  Object.fromEntries(names.map((name) => [name, Math.min(Number.MAX_SAFE_INTEGER, of(name))])) as Record<K, number>;
