// A fetcher for tests: the real one, over real HTTP and a real folder, with a clock that the test sets and bounds that let a
// test end soon.

import { onTestFinished } from "vitest";
import { openEdgeFetcher, type EdgeFetcher } from "../../shared/edge/edge-fetcher.ts";
import type { Verdict } from "../../shared/edge/fetcher-parts.ts";
import { heldSha256 } from "../../shared/edge/held-state.ts";
import { EdgeCounters } from "../../shared/edge/edge-counters.ts";
import { fetcherSecret, policyPath, tenant, type EdgeWorld, type TestProvider } from "./edge-world.ts";
import { openHeldFolder, type BeforeStep } from "../../cli/edge/held-folder.ts";
import { httpProviders, type ReadBounds } from "../../cli/edge/http-provider.ts";
import { edgeTools, nodeTimer } from "../../cli/edge/node-parts.ts";

export const quickBounds: ReadBounds = { headMsMax: 300, idleMsMax: 300, totalMs: 600, bytesPerMs: 1_000 };

export interface TestFetcher {
  readonly fetcher: EdgeFetcher;
  readonly counters: EdgeCounters;
  /** What a refresh means for the policy of the world. */
  verdict(path?: string): Promise<Verdict>;
  /** Of the last refresh: `provider code`, in order. */
  readonly objections: string[];
  /** The bytes that are served now; null for none. */
  served(): Promise<Uint8Array | null>;
}

export interface TestFetcherOptions {
  readonly folder: string;
  readonly clock?: () => number;
  readonly beforeStep?: BeforeStep;
  readonly publishers?: readonly string[];
  readonly bounds?: ReadBounds;
}

/** Throws where it cannot be opened: with the reason. */
export async function testFetcher(
  world: Pick<EdgeWorld, "pin" | "publisherKey">,
  providers: readonly TestProvider[],
  options: TestFetcherOptions,
): Promise<TestFetcher> {
  const { folder, clock = Date.now, beforeStep, publishers = [world.publisherKey], bounds = quickBounds } = options;
  const store = await openHeldFolder(folder, beforeStep);
  const counters = new EdgeCounters();
  const http = httpProviders(providers, () => fetcherSecret, bounds);
  onTestFinished(() => http.close());
  const parts = {
    tenant,
    providers: providers.map(({ name }) => name),
    publishers,
    start: http.start,
    store,
    tools: edgeTools,
    clock,
    timer: nodeTimer,
    counters,
  };
  const opened = await openEdgeFetcher(parts, world.pin, await store.load());
  if (!opened.ok) throw new Error(opened.reason);
  const { fetcher } = opened;
  const objections: string[] = [];
  return {
    fetcher,
    counters,
    objections,
    async verdict(path = policyPath) {
      const refresh = await fetcher.refresh([path]);
      objections.splice(
        0,
        Infinity,
        ...refresh.objections.map(({ provider, refusal }) => `${provider} ${refusal.code}`),
      );
      return refresh.verdicts.get(path)!;
    },
    async served() {
      const serving = fetcher.serving(policyPath, clock());
      return serving.state === "ready" ? await fetcher.bytes(heldSha256(serving.active)) : null;
    },
  };
}
