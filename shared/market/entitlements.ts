// The serial queue and cache of one tenant's entitlements; Postgres holds the truth. Called by
// durable-objects/entitlements.ts, one instance a tenant.
//
// What stands where after a crash or a lost answer in `put`:
//   before the batch        nothing changed; the cache still tells the truth
//   in the batch            unknown, for as long as the batch may still commit: nothing is cached until it no longer can
//   after the batch         committed with version, history, answer and events; the next check reloads
// No row means no. Once a put has answered, no check that starts later sees the old answer.

import type { Channel } from "../contract/names.ts";
import type { EntitlementSet, EntitlementUpsert } from "../contract/http-market.ts";
import type { Random } from "../contract/ports.ts";
import { lostToSameKey, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { isUnavailable } from "../tenancy/database.ts";
import type { EntitlementStore } from "./entitlement-store.ts";

export interface EntitlementFact {
  readonly channel: Channel;
  readonly allowed: boolean;
}

export interface EntitlementCheck {
  readonly state: "known";
  readonly version: number;
  /** Null: there is no row, and no row means no. */
  readonly entitlement: EntitlementFact | null;
}

export interface EntitlementPut {
  readonly upsert: EntitlementUpsert;
  readonly principal_id: string;
  readonly claim: IdempotencyClaim | null;
  /** Version that the caller saw (If-Match), or null where any will do. */
  readonly if_version: number | null;
}

export type EntitlementPutResult =
  | { readonly state: "changed"; readonly set: EntitlementSet }
  | { readonly state: "version_conflict"; readonly version: number }
  | { readonly state: "lost_to_same_key" }
  | Unavailable;

export interface Unavailable {
  readonly state: "unavailable";
}

/** What callers of the object may ask; errors that matter are values, since classes do not cross RPC. */
export interface EntitlementsPort {
  check(packageName: string): Promise<EntitlementCheck | Unavailable>;
  list(): Promise<({ readonly state: "known" } & { readonly set: EntitlementSet }) | Unavailable>;
  put(request: EntitlementPut): Promise<EntitlementPutResult>;
}

interface Cached {
  readonly version: number;
  readonly rows: ReadonlyMap<string, EntitlementFact>;
}

/** Attempts to win the compare-and-set against another writer (an object that was thought dead) before giving up. */
const attemptsMax = 3;
/** Changes that may wait for their turn; one more is told that the set is not available now. */
const waitingMax = 64;
/** Postgres' clock must be before `now + writeAdmitMs` for a write to count: a write that got stuck is none later. */
export const writeAdmitMs = 10_000;
/**
 * After a write whose answer was lost, nothing is cached for this long: admission, the role's statement_timeout of 5 s, and
 * as much again for two clocks that disagree.
 */
export const doubtMs = 30_000;

export class EntitlementQueue implements EntitlementsPort {
  readonly #store: EntitlementStore;
  readonly #clock: () => number;
  readonly #random: Random;
  #cached: Cached | null = null;
  /** One load serves every check that comes while it runs; a write that starts or ends makes the next check load anew. */
  #loading: Promise<Cached> | null = null;
  #doubtUntil = 0;
  #tail: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  #outages = 0;

  constructor(store: EntitlementStore, clock: () => number, random: Random) {
    this.#store = store;
    this.#clock = clock;
    this.#random = random;
  }

  check(packageName: string): Promise<EntitlementCheck | Unavailable> {
    return orUnavailable(async () => {
      const { version, rows } = await this.#read();
      return { state: "known", version, entitlement: rows.get(packageName) ?? null };
    });
  }

  list(): Promise<{ state: "known"; set: EntitlementSet } | Unavailable> {
    return orUnavailable(async () => ({ state: "known", set: setOf(await this.#read()) }));
  }

  put(request: EntitlementPut): Promise<EntitlementPutResult> {
    return this.#inTurn(async () => {
      for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
        const before = await this.#read();
        if (request.if_version !== null && request.if_version !== before.version) {
          return { state: "version_conflict", version: before.version };
        }
        const after = changed(before, request.upsert);
        const written = await this.#write(before, after, request);
        if (written === "lost_to_same_key") return { state: "lost_to_same_key" };
        if (written === "changed") return { state: "changed", set: setOf(after) };
      }
      return { state: "version_conflict", version: (await this.#read()).version };
    });
  }

  async #write(
    before: Cached,
    after: Cached,
    request: EntitlementPut,
  ): Promise<"changed" | "stale" | "lost_to_same_key"> {
    const now = this.#clock();
    this.#forget();
    let known = false;
    try {
      const done = await this.#store.write({
        ...request,
        from_version: before.version,
        answer: setOf(after),
        now,
        admit_until_ms: now + writeAdmitMs,
        random: this.#random,
      });
      known = true;
      this.#forget();
      if (done && this.#clock() >= this.#doubtUntil) this.#cached = after;
      return done ? "changed" : "stale";
    } catch (error) {
      known = lostToSameKey(error);
      if (known) return "lost_to_same_key";
      throw error;
    } finally {
      if (!known) {
        this.#doubtUntil = this.#clock() + doubtMs;
        this.#forget();
      }
    }
  }

  #forget(): void {
    this.#cached = null;
    this.#loading = null;
  }

  #read(): Promise<Cached> {
    if (this.#cached !== null) return Promise.resolve(this.#cached);
    if (this.#loading !== null) return this.#loading;
    const loading = this.#loadRows();
    this.#loading = loading;
    // Only the load that is still the current one may fill the cache: a write in between has forgotten it.
    const end = (loaded: Cached | null): void => {
      if (this.#loading !== loading) return;
      this.#loading = null;
      if (this.#clock() >= this.#doubtUntil) this.#cached = loaded;
    };
    loading.then(end, () => end(null));
    return loading;
  }

  async #loadRows(): Promise<Cached> {
    const set = await this.#store.read();
    return {
      version: set.version,
      rows: new Map(set.entitlements.map(({ package: name, channel, allowed }) => [name, { channel, allowed }])),
    };
  }

  /** Changes one at a time, in the order of the calls. An outage answers all who waited through it, not each in turn. */
  async #inTurn<T>(work: () => Promise<T>): Promise<T | Unavailable> {
    if (this.#waiting >= waitingMax) return { state: "unavailable" };
    this.#waiting += 1;
    const outagesBefore = this.#outages;
    const turn = this.#tail.then(async (): Promise<T | Unavailable> => {
      if (this.#outages !== outagesBefore) return { state: "unavailable" };
      const result = await orUnavailable(work);
      if (isUnavailableAnswer(result)) this.#outages += 1;
      return result;
    });
    // The caller gets the failure from `turn`; the queue itself must go on.
    this.#tail = turn.catch(() => undefined);
    try {
      return await turn;
    } finally {
      this.#waiting -= 1;
    }
  }
}

const isUnavailableAnswer = (result: unknown): boolean =>
  typeof result === "object" && result !== null && "state" in result && result.state === "unavailable";

async function orUnavailable<T>(work: () => Promise<T>): Promise<T | Unavailable> {
  try {
    return await work();
  } catch (error) {
    if (isUnavailable(error)) return { state: "unavailable" };
    throw error;
  }
}

function changed(before: Cached, upsert: EntitlementUpsert): Cached {
  const rows = new Map(before.rows);
  for (const { package: name, channel, allowed } of upsert.entitlements) rows.set(name, { channel, allowed });
  return { version: before.version + 1, rows };
}

function setOf({ version, rows }: Cached): EntitlementSet {
  const entitlements = Array.from(rows, ([name, fact]) => ({ package: name, ...fact }));
  entitlements.sort((left, right) => (left.package < right.package ? -1 : 1));
  return { version, entitlements };
}
