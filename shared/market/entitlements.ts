// The serial queue and cache of one tenant's entitlements; Postgres holds the truth. Called by
// durable-objects/entitlements.ts, one instance a tenant.
//
// What stands where after a crash or a lost answer in `put`:
//   before the batch        nothing changed; the cache still tells the truth
//   in the batch            unknown: the cache is dropped before the batch starts, so the next check reloads
//   after the batch         committed with version, history, answer and events; the next check reloads
// No row means no. Once a put has answered, no check sees the old answer: both go through the one queue.

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

export class EntitlementQueue implements EntitlementsPort {
  readonly #store: EntitlementStore;
  readonly #clock: () => number;
  readonly #random: Random;
  #cached: Cached | null = null;
  #tail: Promise<unknown> = Promise.resolve();

  constructor(store: EntitlementStore, clock: () => number, random: Random) {
    this.#store = store;
    this.#clock = clock;
    this.#random = random;
  }

  check(packageName: string): Promise<EntitlementCheck | Unavailable> {
    return this.#inTurn(async () => {
      const { version, rows } = await this.#load();
      return { state: "known", version, entitlement: rows.get(packageName) ?? null };
    });
  }

  list(): Promise<{ state: "known"; set: EntitlementSet } | Unavailable> {
    return this.#inTurn(async () => ({ state: "known", set: setOf(await this.#load()) }));
  }

  put(request: EntitlementPut): Promise<EntitlementPutResult> {
    return this.#inTurn(async () => {
      for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
        const before = await this.#load();
        if (request.if_version !== null && request.if_version !== before.version) {
          return { state: "version_conflict", version: before.version };
        }
        const after = changed(before, request.upsert);
        this.#cached = null;
        const written = await this.#write(before, after, request);
        if (written === "lost_to_same_key") return { state: "lost_to_same_key" };
        if (written === "changed") {
          this.#cached = after;
          return { state: "changed", set: setOf(after) };
        }
      }
      return { state: "version_conflict", version: (await this.#load()).version };
    });
  }

  async #write(
    before: Cached,
    after: Cached,
    request: EntitlementPut,
  ): Promise<"changed" | "stale" | "lost_to_same_key"> {
    try {
      const done = await this.#store.write({
        ...request,
        from_version: before.version,
        answer: setOf(after),
        now: this.#clock(),
        random: this.#random,
      });
      return done ? "changed" : "stale";
    } catch (error) {
      if (lostToSameKey(error)) return "lost_to_same_key";
      throw error;
    }
  }

  async #load(): Promise<Cached> {
    if (this.#cached === null) {
      const set = await this.#store.read();
      this.#cached = {
        version: set.version,
        rows: new Map(set.entitlements.map(({ package: name, channel, allowed }) => [name, { channel, allowed }])),
      };
    }
    return this.#cached;
  }

  /** One at a time, in the order of the calls. */
  #inTurn<T>(work: () => Promise<T>): Promise<T | Unavailable> {
    const turn = this.#tail.then(async () => {
      try {
        return await work();
      } catch (error) {
        if (isUnavailable(error)) return { state: "unavailable" as const };
        throw error;
      }
    });
    // The caller gets the failure from `turn`; the queue itself must go on.
    this.#tail = turn.catch(() => undefined);
    return turn;
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
