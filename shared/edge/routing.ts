// Which provider is asked first, when a second one is asked as well, and which is left alone: a breaker, a peak-EWMA of
// latency and a budget of hedges, over times that are handed in. Held by edge-fetcher.ts; route-object.ts acts on it.

export const routingBounds = {
  /** A peak of latency is forgotten by 1/e in so long. */
  decayMs: 10_000,
  /** Consecutive failures that open a breaker. */
  failuresMax: 3,
  /** So long an open breaker takes no success for its recovery. */
  openMs: 1_000,
  /** Latencies of which the 95th percentile is taken. */
  latenciesMax: 128,
  hedgeMsMin: 5,
  /** Before anything was measured. */
  hedgeMsFirst: 50,
  /** Hedges for each fetch, and how many may be saved up: together under one in twenty from the thousandth fetch on. */
  hedgeShare: 0.04,
  hedgeTokensMax: 10,
  /** Objects up to this size tell a provider's latency; larger ones tell its bandwidth. */
  measuredBytesMax: 64 * 1024,
  /** Once another one has answered, a provider is waited for so long; after a failure so many times its 95th percentile. */
  patienceMsMax: 1_000,
  patienceFactor: 4,
  patienceMsMin: 100,
  /** A large object is given its time, at so many bytes in a ms, before it is hedged: 10 MiB/s. */
  hedgeBytesPerMs: 10_486,
} as const;

export type BreakerState = "closed" | "half_open" | "open";

export interface ProviderStanding {
  readonly name: string;
  readonly breaker: BreakerState;
  readonly latency_ms: number;
  readonly p95_ms: number | null;
}

class Health {
  readonly name: string;
  #latencies: number[] = [];
  #at = 0;
  #p95: number | null = null;
  #ewma = 0;
  #measuredAt: number | null = null;
  #failures = 0;
  #openedAt: number | null = null;
  #troubleAt = -Infinity;
  #successAt = -Infinity;
  pending = 0;

  constructor(name: string) {
    this.name = name;
  }

  breaker(now: number): BreakerState {
    if (this.#openedAt === null) return "closed";
    return now - this.#openedAt >= routingBounds.openMs ? "half_open" : "open";
  }

  /** https://github.com/twitter/finagle (PeakEwma): a worse latency counts at once, a better one by and by. */
  observe(ms: number, now: number): void {
    const since = this.#measuredAt === null ? Infinity : Math.max(0, now - this.#measuredAt);
    const kept = Math.exp(-since / routingBounds.decayMs);
    this.#ewma = ms > this.#ewma ? ms : this.#ewma * kept + ms * (1 - kept);
    this.#measuredAt = now;
  }

  succeeded(ms: number | null, now: number): void {
    this.#successAt = now;
    this.#failures = 0;
    if (this.breaker(now) === "half_open") this.#openedAt = null;
    if (ms === null) return;
    this.observe(ms, now);
    this.#latencies[this.#at] = ms;
    this.#at = (this.#at + 1) % routingBounds.latenciesMax;
    this.#p95 = null;
  }

  failed(ms: number, now: number): void {
    this.#troubleAt = now;
    this.observe(ms, now);
    this.#failures += 1;
    if (this.#failures >= routingBounds.failuresMax && this.breaker(now) !== "open") this.#openedAt = now;
  }

  abandoned(ms: number, now: number): void {
    this.#troubleAt = now;
    if (ms > this.#ewma) this.observe(ms, now);
  }

  isSuspect(since: number): boolean {
    return this.#troubleAt > since && this.#successAt <= since;
  }

  cost(): number {
    return this.#ewma * (this.pending + 1);
  }

  /** Since its last success. */
  get failures(): number {
    return this.#failures;
  }

  get latencyMs(): number {
    return this.#ewma;
  }

  get p95Ms(): number | null {
    if (this.#latencies.length === 0) return null;
    if (this.#p95 === null) {
      // Numbers sort by themselves: without a comparison that is called a thousand times for each fetch.
      const sorted = Float64Array.from(this.#latencies).sort();
      this.#p95 = sorted[Math.ceil(sorted.length * 0.95) - 1]!;
    }
    return this.#p95;
  }
}

const rank: Readonly<Record<BreakerState, number>> = { closed: 0, half_open: 1, open: 2 };

/** All times are ms since 1970, all latencies ms. */
export class Routing {
  readonly #healths: readonly Health[];
  #tokens: number = routingBounds.hedgeTokensMax;

  /** `names`: in the order of the providers' file, which decides where nothing else does. */
  constructor(names: readonly string[]) {
    this.#healths = names.map((name) => new Health(name));
  }

  /** All of them: an open breaker is the last resort, and no wall. */
  order(now: number): string[] {
    return [...this.#healths]
      .sort((left, right) => rank[left.breaker(now)] - rank[right.breaker(now)] || left.cost() - right.cost())
      .map(({ name }) => name);
  }

  breaker(name: string, now: number): BreakerState {
    return this.#of(name).breaker(now);
  }

  /** A new fetch: what it adds to the budget of hedges. */
  fetching(): void {
    this.#tokens = Math.min(routingBounds.hedgeTokensMax, this.#tokens + routingBounds.hedgeShare);
  }

  /** Whether the budget has a hedge left; takes it. */
  takeHedge(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }

  /** How long that provider is waited for alone. `bytes`: of the object, null where that is not known. */
  hedgeAfterMs(name: string, bytes: number | null): number {
    const p95 = this.#of(name).p95Ms ?? routingBounds.hedgeMsFirst;
    const size = bytes === null || bytes <= routingBounds.measuredBytesMax ? 0 : bytes;
    return Math.max(routingBounds.hedgeMsMin, p95) + size / routingBounds.hedgeBytesPerMs;
  }

  /** How long it is still waited for where another one has answered the same question. */
  patienceMs(name: string): number {
    const { patienceFactor, patienceMsMin, patienceMsMax } = routingBounds;
    const { p95Ms: p95, failures } = this.#of(name);
    if (failures === 0 || p95 === null) return patienceMsMax;
    return Math.min(patienceMsMax, Math.max(patienceMsMin, p95 * patienceFactor));
  }

  /** Whether others have had trouble with it since then, and nobody success: who waits is told to go elsewhere. */
  isSuspect(name: string, since: number): boolean {
    return this.#of(name).isSuspect(since);
  }

  started(name: string): void {
    this.#of(name).pending += 1;
  }

  /** `bytes`: how many came. */
  succeeded(name: string, ms: number, now: number, bytes: number): void {
    const health = this.#ended(name);
    health.succeeded(bytes > routingBounds.measuredBytesMax ? null : ms, now);
  }

  failed(name: string, ms: number, now: number): void {
    this.#ended(name).failed(ms, now);
  }

  /** It answered, and has not got it: neither a failure nor a success. */
  passed(name: string): void {
    this.#ended(name);
  }

  /** A hedge was faster. No failure, or the breaker of a healthy provider would open; but its latency is that long at least. */
  abandoned(name: string, ms: number, now: number): void {
    this.#ended(name).abandoned(ms, now);
  }

  standings(now: number): ProviderStanding[] {
    return this.#healths.map((health) => ({
      name: health.name,
      breaker: health.breaker(now),
      latency_ms: health.latencyMs,
      p95_ms: health.p95Ms,
    }));
  }

  #ended(name: string): Health {
    const health = this.#of(name);
    health.pending = Math.max(0, health.pending - 1);
    return health;
  }

  #of(name: string): Health {
    const health = this.#healths.find((one) => one.name === name);
    if (health === undefined) throw new RangeError(`there is no provider ${name}`);
    return health;
  }
}
