// How long a fetcher takes: from nothing to an active bundle by its size, and from a publish to the last of twenty fetchers. Real
// fetchers, over HTTP, with folders of their own on the disk. Called by edge.ts.

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openHeldFolder } from "../../cli/edge/held-folder.ts";
import { httpProviders } from "../../cli/edge/http-provider.ts";
import { edgeTools, nodeTimer } from "../../cli/edge/node-parts.ts";
import { EdgeCounters } from "../../shared/edge/edge-counters.ts";
import { openEdgeFetcher, type EdgeFetcher } from "../../shared/edge/edge-fetcher.ts";
import { pathOf, type PolicyWorld, type Trust } from "../drill/policy-world.ts";
import type { Bench, Figures } from "./benchmark.ts";
import { median, percentile, rounded } from "./statistics.ts";

/** MB of tar.gz. */
export const activateSizes = [1, 10, 50] as const;
const activateTurns = 3;
export const fleetSetting = { fetchers: 20, publishes: 20, probe_every_ms: 250, bundle_bytes: 20_000 } as const;
const activeMsMax = 20_000;
const lookEveryMs = 100;

interface Opened {
  readonly fetcher: EdgeFetcher;
  close(): void;
}

async function open({ stack }: Bench, trust: Trust): Promise<Opened> {
  const folder = mkdtempSync(join(stack.folder, "fetcher-"));
  const store = await openHeldFolder(folder);
  const providers = (["a", "b"] as const).map((name) => ({ name, baseUrl: stack.edge[name] }));
  const http = httpProviders(providers, () => trust.key);
  const parts = {
    tenant: trust.tenant,
    providers: providers.map(({ name }) => name),
    publishers: [trust.publisher],
    start: http.start,
    store,
    tools: edgeTools,
    clock: () => Date.now(),
    timer: nodeTimer,
    counters: new EdgeCounters(),
  };
  const opened = await openEdgeFetcher(parts, trust.pin, await store.load());
  if (!opened.ok) throw new Error(opened.reason);
  return {
    fetcher: opened.fetcher,
    close() {
      http.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A fetcher that holds nothing: metadata, bundle, all checks, on the disk. */
export async function measureActivate(bench: Bench, world: PolicyWorld): Promise<Figures> {
  const figures: Record<string, number> = {};
  for (const size of activateSizes) {
    bench.progress(`activating ${size} MB`);
    const policy = `of-${size}-mb`;
    const { bytes } = await world.publish(policy, size * 1_000_000);
    await untilActive(bench, world, policy);
    const times: number[] = [];
    for (let turn = 0; turn < activateTurns; turn += 1) {
      bench.signal.throwIfAborted();
      const opened = await open(bench, world.trust);
      try {
        const startedAt = performance.now();
        const { verdicts } = await opened.fetcher.refresh([pathOf(policy)]);
        times.push(performance.now() - startedAt);
        const verdict = verdicts.get(pathOf(policy));
        if (verdict?.verdict !== "activated") throw new Error(`${policy}: ${JSON.stringify(verdict)}`);
      } finally {
        opened.close();
      }
    }
    figures[`bytes_${size}_mb`] = bytes;
    figures[`activate_${size}_mb_ms`] = rounded(median(times), 3);
    figures[`activate_${size}_mb_max_ms`] = rounded(Math.max(...times), 3);
  }
  return figures;
}

/** An edge keeps the timestamp of before for a second. */
async function untilActive(bench: Bench, world: PolicyWorld, policy: string): Promise<void> {
  const opened = await open(bench, world.trust);
  try {
    const end = performance.now() + activeMsMax;
    for (;;) {
      bench.signal.throwIfAborted();
      const verdict = (await opened.fetcher.refresh([pathOf(policy)])).verdicts.get(pathOf(policy));
      if (verdict?.verdict === "activated") return;
      if (performance.now() > end) throw new Error(`${policy}: ${JSON.stringify(verdict)}`);
      await sleep(lookEveryMs);
    }
  } finally {
    opened.close();
  }
}

/** From before the upload of a bundle to when each of the fetchers serves it. */
export async function measureFleet(bench: Bench, world: PolicyWorld): Promise<Figures> {
  const { signal, progress } = bench;
  const path = pathOf("followed");
  const fleet = await Promise.all(Array.from({ length: fleetSetting.fetchers }, () => open(bench, world.trust)));
  const ending = new AbortController();
  const activeAt = fleet.map(() => new Map<number, number>());
  const follow = async ({ fetcher }: Opened, number: number): Promise<void> => {
    // Not all at once: fetchers of a fleet were not started together.
    await sleep((number * fleetSetting.probe_every_ms) / fleet.length);
    while (!ending.signal.aborted) {
      const { verdicts } = await fetcher.refresh([path]);
      const verdict = verdicts.get(path);
      if (verdict?.verdict === "activated") activeAt[number]!.set(verdict.active.revision, performance.now());
      await sleep(fleetSetting.probe_every_ms);
    }
  };
  await world.publish("followed", fleetSetting.bundle_bytes);
  const following = Promise.all(fleet.map(follow));
  try {
    const times: number[] = [];
    for (let at = 0; at < fleetSetting.publishes; at += 1) {
      progress(`publish ${at + 1} of ${fleetSetting.publishes} to ${fleet.length} fetchers`);
      const startedAt = performance.now();
      const { revision } = await world.publish("followed", fleetSetting.bundle_bytes);
      while (activeAt.some((seen) => !seen.has(revision))) {
        signal.throwIfAborted();
        if (performance.now() - startedAt > activeMsMax)
          throw new Error(`revision ${revision} was not active on all fetchers within ${activeMsMax} ms`);
        await Promise.race([sleep(10), following]);
      }
      for (const seen of activeAt) times.push(seen.get(revision)! - startedAt);
    }
    return {
      activations: times.length,
      publish_to_active_p50_ms: Math.round(percentile(times, 0.5)),
      publish_to_active_p95_ms: Math.round(percentile(times, 0.95)),
      publish_to_active_max_ms: Math.round(percentile(times, 1)),
    };
  } finally {
    ending.abort();
    await following;
    for (const one of fleet) one.close();
  }
}
