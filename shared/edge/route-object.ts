// One fetch of one object from whichever provider has it first: asks in the order of routing.ts, hedges within its budget,
// goes on to the next where one fails, and takes no answer that is not what was asked for. Called by edge-fetcher.ts.

import type { Bytes } from "../contract/bytes.ts";
import type { Clock } from "../contract/ports.ts";
import type { Read, Refusal } from "./refusal.ts";
import type { Routing } from "./routing.ts";

/** One reading of one key at one provider, under way. */
export interface Attempt {
  /** Comes in bounded time, with bounded bytes. Rejects for a defect alone. */
  readonly answer: Promise<Read>;
  /** Nobody waits for it any more: the connection is ended. */
  abandon(): void;
}

/** Runs `run` after `ms`; answers what calls that off. */
export type Timer = (ms: number, run: () => void) => () => void;

export interface ObjectFetch {
  /** Which may be asked: by name. */
  readonly providers: readonly string[];
  readonly start: (provider: string) => Attempt;
  /** Why these bytes are not what was asked for; null: they are. */
  readonly accept: (bytes: Bytes) => Promise<Refusal | null>;
  /** Of the object, where the metadata tells it. */
  readonly bytes: number | null;
}

export interface Objection {
  readonly provider: string;
  readonly refusal: Refusal;
}

export type AttemptReason = "first" | "hedge" | "failover";

export type Routed = {
  /** What was said against each provider that was asked in vain. */
  readonly objections: readonly Objection[];
  readonly attempts: readonly AttemptReason[];
} & ({ readonly ok: true; readonly bytes: Bytes; readonly from: string } | { readonly ok: false });

interface Pending {
  readonly provider: string;
  readonly startedAt: number;
  readonly attempt: Attempt;
}

/** Rejects where an attempt rejects. Otherwise it ends when one answer is taken, or each provider was asked once in vain. */
export function routeObject(routing: Routing, clock: Clock, timer: Timer, fetch: ObjectFetch): Promise<Routed> {
  routing.fetching();
  const queue = routing.order(clock()).filter((name) => fetch.providers.includes(name));
  const pending = new Set<Pending>();
  const objections: Objection[] = [];
  const attempts: AttemptReason[] = [];
  return new Promise((resolve, reject) => {
    let cancelHedge = (): void => undefined;
    let isOver = false;

    const end = (settle: () => void): void => {
      if (isOver) return;
      isOver = true;
      cancelHedge();
      const now = clock();
      for (const { provider, startedAt, attempt } of pending) {
        attempt.abandon();
        routing.abandoned(provider, now - startedAt, now);
      }
      settle();
    };

    const begin = (reason: AttemptReason): void => {
      const provider = queue.shift();
      if (provider === undefined) {
        if (pending.size === 0) end(() => resolve({ ok: false, objections, attempts }));
        return;
      }
      attempts.push(reason);
      routing.started(provider);
      const one: Pending = { provider, startedAt: clock(), attempt: fetch.start(provider) };
      pending.add(one);
      void take(one).catch((error: unknown) => end(() => reject(error)));
      waitToHedge(one);
    };

    const waitToHedge = (one: Pending): void => {
      cancelHedge();
      if (queue.length === 0) return;
      cancelHedge = timer(routing.hedgeAfterMs(one.provider, fetch.bytes), () => {
        if (isOver || !pending.has(one)) return;
        if (routing.isSuspect(one.provider, one.startedAt)) begin("failover");
        else if (routing.takeHedge()) begin("hedge");
        else waitToHedge(one);
      });
    };

    const take = async (one: Pending): Promise<void> => {
      const { provider, startedAt, attempt } = one;
      const read = await attempt.answer;
      if (isOver) return;
      const refused = read.ok ? await fetch.accept(read.bytes) : read.refusal;
      // While the digest was taken, another one may have been faster; end() has settled this one then.
      if (isOver) return;
      pending.delete(one);
      const now = clock();
      if (refused === null && read.ok) {
        routing.succeeded(provider, now - startedAt, now, read.bytes.length);
        end(() => resolve({ ok: true, bytes: read.bytes, from: provider, objections, attempts }));
        return;
      }
      if (refused === null) return;
      if (isNeutral(refused)) routing.passed(provider);
      else routing.failed(provider, now - startedAt, now);
      objections.push({ provider, refusal: refused });
      begin("failover");
    };

    begin("first");
  });
}

/** What a provider says that works, and has not got it for us. */
export const isNeutral = ({ code }: Refusal): boolean => code === "missing" || code === "denied";
