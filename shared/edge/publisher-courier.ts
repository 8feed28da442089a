// Brings what is signed to every provider's own store, one runner a provider: bundles and statements first, then metadata, and
// last the timestamp; and takes away what nothing names any more. Called by publisher.ts, which decides what is signed.
//
// What stands where after a crash at each await:
//   bundle, statement, delta put          it is there or not; no metadata names it at that provider. Put again, same bytes
//   …read back                            `placed` says so, or not: then it is put and read again
//   n.root, n.targets, n.snapshot put     as above: versioned by name, and no timestamp names them at that provider yet
//   the wait for the other providers      nothing was changed; it is waited anew, `barrierMs` at most from the decision
//   timestamp put                         the provider serves the change; it is put again (the same bytes) and read back
//   …read back                            `provider` says so: done. A newer decision meanwhile begins at the top
//   what nothing names removed            it is there or not; `placed` has it no more, `unnamed` has it still: it is removed
//                                         again, or put again where it is named by then
//   …found gone                           as above, or neither has it: done
// Nothing is collected from a provider while its runner is at work, so that no removal meets a put of the same key. Roots are named
// for ever: whoever trusts an old one comes to the newest over each in between.
// A key that is rewritten is rewritten by the one runner of its provider; an older write that comes late is seen by the
// sweep, which reads each timestamp, and puts everything anew where it is another one.
//
// A provider that is down: its runner fails, is told (`behind_since`, `reason`), and tries again by alarm, after a second
// first and a minute at most. The others wait for it for `barrierMs` once, and from then on no more until it is back.

import { sha256Hex, utf8 } from "../contract/bytes.ts";
import type { Clock, Log } from "../contract/ports.ts";
import { errorName } from "../outbox/drain.ts";
import { jsonContent, putAndRead, reasonOf, removeAndRead } from "./publisher-puts.ts";
import type { PublisherState } from "./publisher-state.ts";
import { deltaKey, metadataKey, policyKey, statementKey, timestampName } from "./serving-path.ts";
import type { Content, ProviderStore, Vault } from "./stores.ts";
import { lifeMs } from "./tuf.ts";

/** How long a provider that has everything waits, from the decision on, for the others before its timestamp is put. */
export const barrierMs = 10_000;
/** What nothing has named for so long is collected: longer than any metadata lives that the signer's keys sign. */
export const keptMs = lifeMs.targets + 10 * 24 * 3_600_000;
/** Of one provider, in one run of the cron. */
export const collectedMax = 32;

export interface CourierParts {
  readonly tenantId: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly providers: readonly ProviderStore[];
  readonly vault: Vault;
  /** Resolves after so many milliseconds. */
  readonly pause: (ms: number) => Promise<void>;
}

/** What one provider should have, and does not. */
interface Plan {
  readonly versions: { readonly root: number; readonly targets: number; readonly timestamp: number };
  readonly decidedMs: number;
  /** In the order in which they are put. */
  readonly contents: readonly (readonly [key: string, content: Content])[];
  readonly timestamp: Content;
}

export class Courier {
  readonly #parts: CourierParts;
  readonly #state: PublisherState;
  readonly #runners = new Map<string, Promise<void>>();
  /** The timestamp's version whose contents a provider has; not durable: after a restart it is found out again. */
  readonly #ready = new Map<string, number>();
  readonly #waiters = new Set<() => void>();
  readonly #collecting = new Map<string, Promise<void>>();

  constructor(parts: CourierParts, state: PublisherState) {
    this.#parts = parts;
    this.#state = state;
  }

  /** Every provider that is behind and whose time has come gets what it lacks. What failed has its next time. */
  async bringOut(): Promise<void> {
    const now = this.#parts.clock();
    const behind = this.#parts.providers.filter(
      ({ name }) => !this.#state.isCurrent(name) && (this.#state.provider(name).retry_ms ?? 0) <= now,
    );
    await Promise.all(behind.map((store) => this.#run(store)));
  }

  /** Looks at each provider's timestamp: one that lost something, or got an older one late, is filled anew. */
  async look(): Promise<void> {
    await Promise.all(this.#parts.providers.map((store) => this.#look(store)));
  }

  /** When a provider that is behind is tried next; Infinity where none is. */
  nextDue(now: number): number {
    const behind = this.#parts.providers.filter(({ name }) => !this.#state.isCurrent(name));
    return Math.min(...behind.map(({ name }) => this.#state.provider(name).retry_ms ?? now));
  }

  /** One runner a provider: one that runs already takes up what was decided meanwhile. */
  #run(store: ProviderStore): Promise<void> {
    const running =
      this.#runners.get(store.name) ?? this.#bringOut(store).finally(() => this.#runners.delete(store.name));
    this.#runners.set(store.name, running);
    return running;
  }

  async #bringOut(store: ProviderStore): Promise<void> {
    const { clock, log, tenantId } = this.#parts;
    try {
      // One that is being collected from stops at its next key.
      await this.#collecting.get(store.name);
      while (!this.#state.isCurrent(store.name)) {
        const plan = await this.#plan();
        if (plan === null) return;
        await this.#place(store, plan.contents);
        this.#ready.set(store.name, plan.versions.timestamp);
        this.#wake();
        await this.#othersAreReady(store.name, plan);
        const { tenant } = this.#state;
        await putAndRead(store, metadataKey(tenant!, timestampName), plan.timestamp);
        const named = plan.contents.map(([key]) => key);
        this.#state.noteFlipped(store.name, plan.versions, named, clock());
      }
    } catch (error) {
      this.#state.noteFailed(store.name, reasonOf(error), clock());
      log("warn", "a provider's store is behind, will try again", {
        tenant_id: tenantId,
        provider: store.name,
        error: errorName(error),
      });
    } finally {
      this.#wake();
    }
  }

  /** As the state is now: what names something comes after it. */
  async #plan(): Promise<Plan | null> {
    const documents = this.#state.documents();
    const { tenant, targets } = this.#state;
    if (documents === null || tenant === null) return null;
    const roots = this.#state.rootTexts;
    const { vault } = this.#parts;
    const contents = new Map<string, Content>();
    const keep = (key: string, sha256: string, contentType: string): void =>
      void contents.set(key, { sha256, contentType, immutable: true, open: () => vault.open(key) });
    for (const { hashes, custom } of Object.values(targets)) {
      keep(policyKey(tenant, hashes.sha256), hashes.sha256, "application/gzip");
      keep(statementKey(tenant, custom.statement_sha256), custom.statement_sha256, "application/json");
      for (const { from, sha256 } of custom.deltas ?? [])
        keep(deltaKey(tenant, from, custom.tar_sha256), sha256, "application/zstd");
    }
    const add = async (name: string, text: string): Promise<void> =>
      void contents.set(metadataKey(tenant, name), await jsonContent(text, true));
    await add(`${documents.targets.version}.targets.json`, documents.targets.text);
    await add(`${documents.snapshot.version}.snapshot.json`, documents.snapshot.text);
    // Last, since a reader that follows a new root believes the old keys no more.
    for (const { version, body } of roots) await add(`${version}.root.json`, body);
    return {
      versions: {
        root: roots.at(-1)?.version ?? 0,
        targets: documents.targets.version,
        timestamp: documents.timestamp.version,
      },
      decidedMs: documents.timestamp.decided_ms,
      contents: [...contents],
      timestamp: await jsonContent(documents.timestamp.text, false),
    };
  }

  async #place(store: ProviderStore, contents: Plan["contents"]): Promise<void> {
    const placed = this.#state.placed(store.name);
    for (const [key, content] of contents) {
      if (placed.get(key) === content.sha256) continue;
      // Noted before it is put: what may be there is known, so that it can be collected.
      this.#state.notePlaced(store.name, key, "");
      await putAndRead(store, key, content);
      this.#state.notePlaced(store.name, key, content.sha256);
    }
  }

  /** Until every other provider has what the timestamp names, or has failed, or `barrierMs` have passed. */
  async #othersAreReady(name: string, { versions, decidedMs }: Plan): Promise<void> {
    const others = this.#parts.providers.filter((store) => store.name !== name);
    const isReady = (): boolean =>
      others.every(
        (store) =>
          Math.max(this.#ready.get(store.name) ?? 0, this.#state.provider(store.name).timestamp_version) >=
            versions.timestamp || this.#state.provider(store.name).behind_since_ms !== null,
      );
    const leftMs = decidedMs + barrierMs - this.#parts.clock();
    if (isReady() || leftMs <= 0) return;
    let waiter = (): void => undefined;
    const ready = new Promise<void>((resolve) => {
      waiter = () => isReady() && resolve();
      this.#waiters.add(waiter);
    });
    await Promise.race([ready, this.#parts.pause(Math.min(leftMs, barrierMs))]);
    this.#waiters.delete(waiter);
  }

  #wake(): void {
    for (const waiter of this.#waiters) waiter();
  }

  /** Takes from each provider that is up to date what nothing has named for `keptMs`, at most `collectedMax` keys of each. */
  async collect(): Promise<void> {
    await Promise.all(
      this.#parts.providers.map((store) => {
        const { name } = store;
        const collecting =
          this.#collecting.get(name) ?? this.#collectFrom(store).finally(() => this.#collecting.delete(name));
        this.#collecting.set(name, collecting);
        return collecting;
      }),
    );
  }

  async #collectFrom(store: ProviderStore): Promise<void> {
    const { clock, log, tenantId } = this.#parts;
    const { name } = store;
    const keys = this.#state.unnamed(name, clock() - keptMs, collectedMax);
    if (keys.length === 0) return;
    try {
      const plan = await this.#plan();
      if (plan === null) return;
      const named = new Set(plan.contents.map(([key]) => key));
      for (const key of keys) {
        // What was decided since may name it: it is looked at anew, once the provider has that.
        const isSame = this.#state.signed("timestamp")?.version === plan.versions.timestamp;
        if (!isSame || !this.#state.isCurrent(name) || this.#runners.has(name)) return;
        if (named.has(key)) continue;
        // From here on it counts as not there: a decision that names it puts it again.
        this.#state.noteRemoved(name, key);
        await removeAndRead(store, key);
        this.#state.noteCollected(name, key);
      }
    } catch (error) {
      log("warn", "what nothing names was not collected from a provider's store, will try again", {
        tenant_id: tenantId,
        provider: name,
        error: errorName(error),
      });
    }
  }

  /** A provider whose timestamp is not the one that was read back has lost something, or a late write came to it. */
  async #look(store: ProviderStore): Promise<void> {
    const { tenant } = this.#state;
    const timestamp = this.#state.signed("timestamp");
    if (tenant === null || timestamp === null || !this.#state.isCurrent(store.name) || this.#runners.has(store.name))
      return;
    try {
      const found = await store.digest(metadataKey(tenant, timestampName));
      const isSame = found === (await sha256Hex(utf8(timestamp.text)));
      const isNewest = this.#state.signed("timestamp")?.version === timestamp.version;
      if (!isSame && isNewest && !this.#runners.has(store.name)) {
        this.#parts.log("error", "a provider's store lost what it had: all of it is put anew", {
          provider: store.name,
        });
        this.#state.forgetPlaced(store.name);
        await this.#run(store);
      }
    } catch (error) {
      // Down for the moment: what it has is not known, and what it serves is not ours to change now.
      this.#parts.log("warn", "a provider's store does not answer", { provider: store.name, error: errorName(error) });
    }
  }
}
