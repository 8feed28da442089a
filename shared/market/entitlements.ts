// The serial queue and cache of one tenant's entitlements; Postgres holds the truth. Called by
// durable-objects/entitlements.ts, one instance a tenant.
//
// What stands where after a crash or a lost answer in `put`, `putFlag` and `stepChange`:
//   before the batch        nothing changed; the cache still tells the truth
//   in the batch            unknown, for as long as the batch may still commit: nothing is cached until it no longer can
//   after the batch         committed with version, history, answer and events; the next check reloads
// No row means no. Once a put has answered, no check that starts later sees the old answer.

import { decidedFlags, type FlagChange, type FlagFacts, type FlagList } from "../contract/http-flags.ts";
import type { EntitlementFact } from "../policy/actions.ts";
import type {
  Entitlement,
  EntitlementChange,
  EntitlementSet,
  EntitlementUpsert,
} from "../contract/http-entitlements.ts";
import type { Random } from "../contract/ports.ts";
import { lostToSameKey, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { isUnavailable } from "../tenancy/database.ts";
import { entitlementOf, planStep } from "./entitlement-change.ts";
import type { EntitlementStore, EntitlementWrite } from "./entitlement-store.ts";

export interface EntitlementCheck {
  readonly state: "known";
  readonly version: number;
  /** Null: there is no row, and no row means no. */
  readonly entitlement: EntitlementFact | null;
  readonly flags: FlagFacts;
}

interface Asked {
  readonly principal_id: string;
  readonly claim: IdempotencyClaim | null;
}

export interface EntitlementPut extends Asked {
  readonly upsert: EntitlementUpsert;
  /** Versions that the caller would change (If-Match), or null where any will do. */
  readonly if_versions: readonly number[] | null;
}

export interface FlagPut extends Asked {
  readonly change: FlagChange;
}

/** Applies an approved change, or reverts an applied one. */
export interface ChangeStep extends Asked {
  readonly change_id: string;
  readonly step: "apply" | "revert";
}

export type EntitlementPutResult =
  | { readonly state: "changed"; readonly set: EntitlementSet }
  | { readonly state: "version_conflict"; readonly version: number }
  | { readonly state: "lost_to_same_key" }
  | Unavailable;

export type FlagPutResult =
  | { readonly state: "changed"; readonly flags: FlagList }
  | { readonly state: "lost_to_same_key" }
  | Unavailable;

export type ChangeStepResult =
  | { readonly state: "changed"; readonly change: EntitlementChange }
  | { readonly state: "missing" }
  | { readonly state: "wrong_state"; readonly state_now: EntitlementChange["state"] }
  | { readonly state: "superseded"; readonly packages: readonly string[] }
  | { readonly state: "lost_to_same_key" }
  | Unavailable;

export interface Unavailable {
  readonly state: "unavailable";
}

/** What callers of the object may ask; errors that matter are values, since classes do not cross RPC. */
export interface EntitlementsPort {
  check(packageName: string): Promise<EntitlementCheck | Unavailable>;
  list(): Promise<({ readonly state: "known" } & { readonly set: EntitlementSet }) | Unavailable>;
  flags(): Promise<({ readonly state: "known" } & { readonly flags: FlagList }) | Unavailable>;
  put(request: EntitlementPut): Promise<EntitlementPutResult>;
  putFlag(request: FlagPut): Promise<FlagPutResult>;
  stepChange(request: ChangeStep): Promise<ChangeStepResult>;
}

interface Cached {
  readonly version: number;
  readonly rows: ReadonlyMap<string, EntitlementFact>;
  readonly flags: FlagList;
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
      const { version, rows, flags } = await this.#read();
      return { state: "known", version, entitlement: rows.get(packageName) ?? null, flags: flagFacts(flags) };
    });
  }

  list(): Promise<{ state: "known"; set: EntitlementSet } | Unavailable> {
    return orUnavailable(async () => ({ state: "known", set: setOf(await this.#read()) }));
  }

  flags(): Promise<{ state: "known"; flags: FlagList } | Unavailable> {
    return orUnavailable(async () => ({ state: "known", flags: (await this.#read()).flags }));
  }

  put(request: EntitlementPut): Promise<EntitlementPutResult> {
    const { upsert, if_versions: wanted } = request;
    return this.#inTurn(async () => {
      const done = await this.#change(request, (before): Planned<EntitlementPutResult> => {
        if (wanted !== null && !wanted.includes(before.version)) {
          return { refused: { state: "version_conflict", version: before.version } };
        }
        const after = changed(before, upsert.entitlements, []);
        const set = setOf(after);
        return {
          after,
          write: { upserts: upsert.entitlements, reason: upsert.reason, answer: { status: 200, response: set } },
          result: { state: "changed", set },
        };
      });
      return done ?? { state: "version_conflict", version: (await this.#read()).version };
    });
  }

  putFlag(request: FlagPut): Promise<FlagPutResult> {
    return this.#inTurn(async () => {
      const done = await this.#change(request, (before): Planned<FlagPutResult> => {
        const flags = withFlag(before.flags, request, new Date(this.#clock()).toISOString());
        return {
          after: { ...before, version: before.version + 1, flags },
          write: { flag: request.change, answer: { status: 200, response: flags } },
          result: { state: "changed", flags },
        };
      });
      return done ?? { state: "unavailable" };
    });
  }

  stepChange(request: ChangeStep): Promise<ChangeStepResult> {
    return this.#inTurn(async () => {
      const done = await this.#change(request, async (before): Promise<Planned<ChangeStepResult>> => {
        const change = await this.#store.readChange(request.change_id);
        if (change === null) return { refused: { state: "missing" } };
        const at = new Date(this.#clock()).toISOString();
        const planned = planStep(before.rows, change, request.step, {
          principal_id: request.principal_id,
          at,
          version: before.version + 1,
        });
        if (planned.state !== "planned") return { refused: planned };
        return {
          after: changed(before, planned.upserts, planned.removals),
          write: {
            upserts: planned.upserts,
            removals: planned.removals,
            reason: change.reason,
            change: { before: change, after: planned.change },
            answer: { status: 200, response: planned.change },
          },
          result: { state: "changed", change: planned.change },
        };
      });
      return done ?? { state: "unavailable" };
    });
  }

  /** Null: another writer was faster each time. */
  async #change<R>(
    { principal_id, claim }: Asked,
    plan: (before: Cached) => Planned<R> | Promise<Planned<R>>,
  ): Promise<R | { readonly state: "lost_to_same_key" } | null> {
    for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
      const before = await this.#read();
      const planned = await plan(before);
      if ("refused" in planned) return planned.refused;
      const write = { ...planned.write, principal_id, claim, from_version: before.version };
      const written = await this.#write(planned.after, write);
      if (written === "lost_to_same_key") return { state: "lost_to_same_key" };
      if (written === "changed") return planned.result;
    }
    return null;
  }

  async #write(
    after: Cached,
    write: Omit<EntitlementWrite, "now" | "admit_until_ms" | "random">,
  ): Promise<"changed" | "stale" | "lost_to_same_key"> {
    const now = this.#clock();
    this.#forget();
    let known = false;
    try {
      const done = await this.#store.write({
        ...write,
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
    const { set, flags } = await this.#store.read();
    const rows = new Map(set.entitlements.map(({ package: name, ...fact }) => [name, fact]));
    return { version: set.version, rows, flags };
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

/** What a change makes of what stands there now, or why it makes nothing. */
type Planned<R> =
  | { readonly refused: R }
  | {
      readonly after: Cached;
      readonly write: Omit<
        EntitlementWrite,
        "now" | "admit_until_ms" | "random" | "principal_id" | "claim" | "from_version"
      >;
      readonly result: R;
    };

function changed(before: Cached, upserts: readonly Entitlement[], removals: readonly string[]): Cached {
  const rows = new Map(before.rows);
  for (const { package: name, ...fact } of upserts) rows.set(name, fact);
  for (const name of removals) rows.delete(name);
  return { ...before, version: before.version + 1, rows };
}

function setOf({ version, rows }: Cached): EntitlementSet {
  const entitlements = Array.from(rows, ([name, fact]) => entitlementOf(name, fact));
  entitlements.sort((left, right) => (left.package < right.package ? -1 : 1));
  return { version, entitlements };
}

const flagFacts = ({ flags }: FlagList): FlagFacts =>
  Object.fromEntries(
    decidedFlags.map((name) => [name, flags.find(({ flag }) => flag === name)?.enabled ?? true]),
  ) as FlagFacts;

const withFlag = ({ flags }: FlagList, { change, principal_id: by }: FlagPut, at: string): FlagList => ({
  flags: flags.map((state) =>
    state.flag === change.flag ? { ...state, enabled: change.enabled, changed_at: at, changed_by: by } : state,
  ),
});
