// Routing between two providers over a virtual clock: the real routing, races and probes of shared/edge, against providers that
// freeze, die, lie and lag as a seeded chance says. Four hundred fetches a second for a minute are over in a few seconds.

import { describe, expect, test } from "vitest";
import { utf8 } from "../../shared/contract/bytes.ts";
import { askProviders } from "../../shared/edge/ask-providers.ts";
import { refusal, refusedRead, type Read } from "../../shared/edge/refusal.ts";
import { routeObject, type Attempt, type Timer } from "../../shared/edge/route-object.ts";
import { Routing } from "../../shared/edge/routing.ts";
import { isDeep, sampled } from "../support/sampled.ts";

const fetchesPerSecond = 400;
/** Where what is held does not depend on how many come. */
const fewPerSecond = isDeep ? fetchesPerSecond : 100;
const runMs = 60_000;
const publishEveryMs = 5_000;
const probeEveryMs = 250;
/** As readBounds of cli/edge/http-provider.ts: no head within so long. */
const headMsMax = 3_000;
/** The seed's measure: behind the newest for longer is stale. */
const staleMs = 5_000;

/** https://en.wikipedia.org/wiki/Linear_congruential_generator, of Numerical Recipes: 0 to 1, the same for a seed. */
function chanceOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

class VirtualTime {
  now = 0;
  #count = 0;
  readonly #events = new Map<number, { readonly at: number; readonly run: () => void }>();
  readonly #heap: { readonly at: number; readonly id: number }[] = [];

  readonly timer: Timer = (ms, run) => {
    const id = (this.#count += 1);
    this.#events.set(id, { at: this.now + ms, run });
    this.#push({ at: this.now + ms, id });
    return () => void this.#events.delete(id);
  };

  sleep(ms: number): Promise<void> {
    return new Promise((resolve) => void this.timer(ms, resolve));
  }

  async runUntil(end: number): Promise<void> {
    for (let next = this.#pop(); next !== null && next.at <= end; next = this.#pop()) {
      const event = this.#events.get(next.id);
      if (event === undefined) continue;
      this.#events.delete(next.id);
      this.now = event.at;
      event.run();
      await new Promise(setImmediate);
    }
    this.now = end;
  }

  #push(entry: { readonly at: number; readonly id: number }): void {
    const heap = this.#heap;
    let low = 0;
    let high = heap.length;
    // The soonest last, and of those at one time the first put in.
    while (low < high) {
      const middle = (low + high) >> 1;
      if (heap[middle]!.at > entry.at) low = middle + 1;
      else high = middle;
    }
    heap.splice(low, 0, entry);
  }

  #pop(): { readonly at: number; readonly id: number } | null {
    return this.#heap.pop() ?? null;
  }
}

type Mood = "well" | "frozen" | "dead" | "lying";

class Provider {
  readonly name: string;
  readonly #time: VirtualTime;
  readonly #chance: () => number;
  readonly #baseMs: number;
  mood: Mood = "well";
  reads = 0;

  constructor(name: string, time: VirtualTime, chance: () => number, baseMs: number) {
    this.name = name;
    this.#time = time;
    this.#chance = chance;
    this.#baseMs = baseMs;
  }

  /** `answer`: what it holds when it gets to it. */
  read(answer: () => string): Attempt {
    this.reads += 1;
    let settle: (read: Read) => void = () => undefined;
    const coming = new Promise<Read>((resolve) => {
      settle = resolve;
    });
    // Mostly near its base, now and then three times that.
    const ms = this.#baseMs * (0.7 + this.#chance() * 0.6) * (this.#chance() < 0.02 ? 3 : 1);
    const { mood } = this;
    if (mood === "dead") this.#time.timer(1, () => settle(refusedRead("unreachable", "nothing listens there")));
    else if (mood === "frozen") this.#time.timer(headMsMax, () => settle(refusedRead("late", "no head came")));
    else
      this.#time.timer(ms, () => {
        if (this.mood === "frozen")
          return void this.#time.timer(headMsMax, () => settle(refusedRead("late", "no head")));
        if (this.mood === "dead") return settle(refusedRead("unreachable", "the connection was cut"));
        settle({ ok: true, bytes: utf8(mood === "lying" ? "a lie" : answer()) });
      });
    return { answer: coming, abandon: () => settle(refusedRead("late", "abandoned")) };
  }
}

interface World {
  readonly time: VirtualTime;
  readonly routing: Routing;
  readonly a: Provider;
  readonly b: Provider;
}

interface Result {
  fetches: number;
  attempts: number;
  hedges: number;
  failed: number;
  stale: number;
  wrong: number;
  readonly latencies: number[];
}

/** `schedule`: what happens, by ms. */
async function run(
  seed: number,
  baseMs: readonly [number, number],
  schedule: Readonly<Record<number, (world: World) => void>>,
  perSecond: number,
): Promise<World & { readonly result: Result }> {
  const time = new VirtualTime();
  const chance = chanceOf(seed);
  const [a, b] = [new Provider("a", time, chance, baseMs[0]), new Provider("b", time, chance, baseMs[1])];
  const of = (name: string): Provider => (name === "a" ? a : b);
  const routing = new Routing(["a", "b"]);
  const world: World = { time, routing, a, b };
  const clock = (): number => time.now;
  const result: Result = { fetches: 0, attempts: 0, hedges: 0, failed: 0, stale: 0, wrong: 0, latencies: [] };
  const published = (): number => Math.floor(time.now / publishEveryMs);
  let known = 0;

  /** As EdgeFetcher does: all that are not left alone, and the newest answer counts. */
  async function probe(): Promise<void> {
    while (time.now < runMs) {
      const names = routing.order(time.now);
      const reachable = names.filter((name) => routing.breaker(name, time.now) !== "open");
      const { answers } = await askProviders(routing, clock, time.timer, {
        providers: reachable.length > 0 ? reachable : names,
        start: (name) => of(name).read(() => String(published())),
        ask: async ({ read }) => await read("timestamp.json", 1_024),
        isUseful: ({ ok }) => ok,
        refusalOf: (read) => (read.ok ? null : read.refusal),
      });
      for (const { value } of answers)
        if (value.ok) known = Math.max(known, Number(Buffer.from(value.bytes).toString()) || 0);
      await time.sleep(probeEveryMs);
    }
  }

  async function fetchOnce(): Promise<void> {
    const startedAt = time.now;
    const wanted = `bundle ${known}`;
    const age = time.now - (known + 1) * publishEveryMs;
    if (age > staleMs) result.stale += 1;
    const routed = await routeObject(routing, clock, time.timer, {
      providers: ["a", "b"],
      start: (name) => of(name).read(() => wanted),
      accept: async (bytes) =>
        Buffer.from(bytes).toString() === wanted ? null : refusal("wrong_digest", "it has another digest"),
      bytes: 2_000,
    });
    result.fetches += 1;
    result.attempts += routed.attempts.length;
    result.hedges += routed.attempts.filter((reason) => reason === "hedge").length;
    result.latencies.push(time.now - startedAt);
    if (!routed.ok) result.failed += 1;
    else if (Buffer.from(routed.bytes).toString() !== wanted) result.wrong += 1;
  }

  for (const [at, change] of Object.entries(schedule)) time.timer(Number(at), () => change(world));
  for (let count = 0; count < (runMs / 1_000) * perSecond; count += 1)
    time.timer((count * 1_000) / perSecond, () => void fetchOnce());
  void probe();
  await time.runUntil(runMs + 10_000);
  result.latencies.sort((left, right) => left - right);
  return { ...world, result };
}

const atShare = (sorted: readonly number[], share: number): number => sorted[Math.ceil(sorted.length * share) - 1]!;

describe("one provider freezes, thaws, and then the other one dies, at 400 fetches a second", () => {
  const latencies = [
    [1, [3, 5]],
    [2, [3, 40]],
    [3, [40, 3]],
    [4, [10, 10]],
  ] as const;
  test.each(sampled(latencies, 4))(
    "seed %i, latencies of %j ms: none fails, none is stale, fewer than one in twenty are hedged",
    async (seed, baseMs) => {
      const schedule = {
        15_000: ({ a }: World) => void (a.mood = "frozen"),
        30_000: ({ a }: World) => void (a.mood = "well"),
        40_000: ({ b }: World) => void (b.mood = "dead"),
      };
      const { result } = await run(seed, baseMs, schedule, fetchesPerSecond);
      const { fetches, failed, stale, wrong, hedges, attempts, latencies } = result;
      expect({ fetches, failed, stale, wrong }).toEqual({ fetches: 24_000, failed: 0, stale: 0, wrong: 0 });
      expect(hedges / fetches).toBeLessThan(0.05);
      expect(attempts / fetches).toBeLessThan(1.06);
      // The slowest answer of a healthy provider takes 3.9 times its base.
      expect(atShare(latencies, 0.999)).toBeLessThan(4 * Math.max(...baseMs) + 50);
    },
  );
});

test("one provider lies about every bundle: nobody takes a lie, and it is hardly asked any more", async () => {
  const { result, a } = await run(7, [3, 5], { 10_000: ({ a: one }) => void (one.mood = "lying") }, fewPerSecond);
  expect(result).toMatchObject({ fetches: 60 * fewPerSecond, failed: 0, wrong: 0 });
  expect(a.reads).toBeLessThan(60 * fewPerSecond);
});

test("a healthy provider whose answers lose to hedges keeps its breaker closed", async () => {
  const { routing, time } = await run(8, [4, 4], {}, fewPerSecond);
  expect(routing.standings(time.now).map(({ breaker }) => breaker)).toEqual(["closed", "closed"]);
});

test("a provider that is back is asked again", async () => {
  let before = 0;
  const schedule = {
    10_000: ({ a: one }: World) => void (one.mood = "dead"),
    20_000: ({ a: one }: World) => {
      one.mood = "well";
      before = one.reads;
    },
  };
  const { a, result } = await run(9, [3, 30], schedule, fewPerSecond);
  expect(result.failed).toBe(0);
  expect(a.reads - before).toBeGreaterThan(25 * fewPerSecond);
});
