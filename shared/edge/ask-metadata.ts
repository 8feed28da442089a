// Asks the providers of edge policy for what a fetcher trusts: the roots that follow, then the metadata, at all providers at once.
// Called by edge-fetcher.ts.

import { askProviders } from "./ask-providers.ts";
import { contentTypes, type EdgeFetcherParts } from "./fetcher-parts.ts";
import type { Attempt, Objection } from "./route-object.ts";
import type { Routing } from "./routing.ts";
import { metadataKey } from "./serving-path.ts";
import {
  metadataBytesMax,
  nextRoot,
  refreshMetadata,
  rootRotationsMax,
  rootVersionOf,
  type MetadataView,
  type Refreshed,
  type TrustedMetadata,
} from "./trusted-metadata.ts";

/** What one provider has, by the root that was trusted when it was asked. */
export interface Offer {
  readonly provider: string;
  readonly value: Refreshed;
}

export class MetadataAsking {
  readonly #parts: Pick<EdgeFetcherParts, "tenant" | "start" | "clock" | "timer">;
  readonly #routing: Routing;

  constructor(parts: Pick<EdgeFetcherParts, "tenant" | "start" | "clock" | "timer">, routing: Routing) {
    this.#parts = parts;
    this.#routing = routing;
  }

  /** TUF 5.3, at all providers at once: the first root that may follow is taken. */
  async advanceRoot(known: TrustedMetadata, objections: Objection[]): Promise<TrustedMetadata> {
    const { clock, timer } = this.#parts;
    let trusted = known;
    for (let count = 0; count < rootRotationsMax; count += 1) {
      const from = trusted;
      const name = `${rootVersionOf(from) + 1}.root.json`;
      const { answers, late } = await askProviders(this.#routing, clock, timer, {
        providers: this.#without(objections),
        start: this.#startMetadata,
        ask: async ({ read }) => {
          const answer = await read(name, metadataBytesMax.root);
          return answer.ok ? await nextRoot(from, answer.bytes) : answer;
        },
        isUseful: (next) => next.ok || next.refusal.code === "missing",
        refusalOf: (next) => (next.ok ? null : next.refusal),
      });
      objections.push(...late.map(({ provider, value }) => ({ provider, refusal: value })));
      for (const { provider, value } of answers)
        if (!value.ok && value.refusal.code !== "missing") objections.push({ provider, refusal: value.refusal });
      const next = answers.find(({ value }) => value.ok)?.value;
      if (next === undefined || !next.ok) break;
      trusted = next.trusted;
    }
    return trusted;
  }

  /** What each has, as far as it is good after `trusted`; what is to be said against one goes into `objections`. */
  async ask(trusted: TrustedMetadata, objections: Objection[], now: number): Promise<Offer[]> {
    const { clock, timer } = this.#parts;
    const { answers, late } = await askProviders(this.#routing, clock, timer, {
      providers: this.#without(objections),
      start: this.#startMetadata,
      ask: async ({ read }) => await refreshMetadata(trusted, read, now),
      isUseful: ({ state }) => state === "fresh",
      refusalOf: (refreshed) => (refreshed.state === "refused" ? refreshed.refusal : null),
    });
    objections.push(...late.map(({ provider, value }) => ({ provider, refusal: value })));
    for (const { provider, value } of answers)
      if (value.state === "refused") objections.push({ provider, refusal: value.refusal });
    return [...answers];
  }

  /** Who has not been refused in this refresh, the best first; without those that are left alone, while there are others. */
  #without(objections: readonly Objection[]): string[] {
    const now = this.#parts.clock();
    const refused = new Set(objections.map(({ provider }) => provider));
    const names = this.#routing.order(now).filter((name) => !refused.has(name));
    const reachable = names.filter((name) => this.#routing.breaker(name, now) !== "open");
    return reachable.length > 0 ? reachable : names;
  }

  readonly #startMetadata = (provider: string, name: string, bytesMax: number): Attempt =>
    this.#parts.start(provider, {
      key: metadataKey(this.#parts.tenant, name),
      bytesMax,
      contentType: contentTypes.metadata,
    });
}

/** Null: nobody had fresh metadata. */
export function newestOf(
  offers: readonly Offer[],
): { readonly from: string; readonly trusted: TrustedMetadata; readonly view: MetadataView } | null {
  let best: { from: string; trusted: TrustedMetadata; view: MetadataView } | null = null;
  for (const { provider, value } of offers) {
    if (value.state !== "fresh") continue;
    if (best === null || value.view.timestampVersion > best.view.timestampVersion)
      best = { from: provider, trusted: value.trusted, view: value.view };
  }
  return best;
}

export const isBehind = (value: Refreshed, best: MetadataView | null): boolean =>
  value.state === "behind" ||
  (value.state === "fresh" && best !== null && value.view.timestampVersion < best.timestampVersion);
