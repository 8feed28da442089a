// Asks all providers the same thing at once, and waits for them no longer than it has to: one that hangs holds nobody up.
// Called by edge-fetcher.ts for metadata, where the newest answer is wanted and not the first.

import type { Clock } from "../contract/ports.ts";
import { refusal, refusedRead, type Read, type Refusal } from "./refusal.ts";
import { isNeutral, type Attempt, type Timer } from "./route-object.ts";
import type { Routing } from "./routing.ts";

/** After the others' time is over: what is here already, and not read yet in a busy process, counts. */
const graceMs = 1;

/** One provider while it is asked: its reads one after the other, until it is given up. */
export class Asked {
  readonly provider: string;
  readonly #start: (provider: string, name: string, bytesMax: number) => Attempt;
  readonly #clock: Clock;
  #attempt: Attempt | null = null;
  #isOver = false;
  /** Of the read that took longest, in ms. */
  slowestMs = 0;

  constructor(provider: string, start: (provider: string, name: string, bytesMax: number) => Attempt, clock: Clock) {
    this.provider = provider;
    this.#start = start;
    this.#clock = clock;
  }

  readonly read = async (name: string, bytesMax: number): Promise<Read> => {
    if (this.#isOver) return refusedRead("late", `${this.provider} was given up`);
    const startedAt = this.#clock();
    this.#attempt = this.#start(this.provider, name, bytesMax);
    const read = await this.#attempt.answer;
    this.slowestMs = Math.max(this.slowestMs, this.#clock() - startedAt);
    return read;
  };

  giveUp(): void {
    this.#isOver = true;
    this.#attempt?.abandon();
  }
}

export interface Answer<T> {
  readonly provider: string;
  readonly value: T;
}

export interface Asking<T> {
  readonly providers: readonly string[];
  readonly start: (provider: string, name: string, bytesMax: number) => Attempt;
  readonly ask: (asked: Asked) => Promise<T>;
  /** Whether it is what one asks for; the others are waited for a little longer then. */
  readonly isUseful: (value: T) => boolean;
  /** Why it is to be held against the provider; null where it is not. */
  readonly refusalOf: (value: T) => Refusal | null;
}

/**
 * The answers in the order of `providers`; one that did not answer in time is not among them, and is in `late`. Breakers
 * are told. Rejects where `ask` rejects.
 */
export async function askProviders<T>(
  routing: Routing,
  clock: Clock,
  timer: Timer,
  { providers, start, ask, isUseful, refusalOf }: Asking<T>,
): Promise<{ readonly answers: readonly Answer<T>[]; readonly late: readonly Answer<Refusal>[] }> {
  const startedAt = clock();
  const answers = new Map<string, T>();
  const open = new Map<string, Asked>();
  await new Promise<void>((resolve, reject) => {
    let cancel = (): void => undefined;
    const end = (): void => {
      cancel();
      resolve();
    };
    for (const provider of providers) {
      const asked = new Asked(provider, start, clock);
      open.set(provider, asked);
      routing.started(provider);
      void ask(asked)
        .then((value) => {
          if (!open.delete(provider)) return;
          answers.set(provider, value);
          settle(routing, clock(), asked, refusalOf(value));
          if (open.size === 0) end();
          else if (isUseful(value)) {
            cancel();
            const patienceMs = Math.max(...[...open.keys()].map((name) => routing.patienceMs(name)));
            cancel = timer(patienceMs, () => {
              cancel = timer(graceMs, end);
            });
          }
        })
        .catch(reject);
    }
    if (providers.length === 0) end();
  });
  const now = clock();
  const late: Answer<Refusal>[] = [];
  for (const [provider, asked] of open) {
    asked.giveUp();
    routing.failed(provider, now - startedAt, now);
    late.push({ provider, value: refusal("late", `${provider} did not answer within ${now - startedAt} ms`) });
  }
  open.clear();
  const inOrder = providers.filter((provider) => answers.has(provider));
  return { answers: inOrder.map((provider) => ({ provider, value: answers.get(provider) as T })), late };
}

function settle(routing: Routing, now: number, asked: Asked, refused: Refusal | null): void {
  if (refused === null) routing.succeeded(asked.provider, asked.slowestMs, now, 0);
  else if (isNeutral(refused)) routing.passed(asked.provider);
  else routing.failed(asked.provider, asked.slowestMs, now);
}
