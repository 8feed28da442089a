// `npm run bench -- edge`: the edge as the plan measures it. What serving a cached bundle costs beside a bare answer at both
// providers, how long a fetcher takes to activate one, and how soon a publish is active on twenty fetchers.

import { policyWorld } from "../drill/policy-world.ts";
import { changedEdgeConfigs } from "./bench-api.ts";
import type { Benchmark } from "./benchmark.ts";
import { deltaSetting, measureDelta } from "./edge-delta.ts";
import { activateSizes, fleetSetting, measureActivate, measureFleet } from "./edge-fetching.ts";
import { measureServing, servingSetting } from "./edge-serving.ts";

const servedBytes = 4_000;

/** What the plan asks for: at least, or less than. */
const goals = { ratio_a: 0.8, ratio_b: 0.8, publish_to_active_p95_ms: 5_000 } as const;

export const edge: Benchmark = {
  about:
    "edge policy: serving beside a bare answer at both providers, activating by size, publish to active on 20 fetchers",
  settings: {
    serving: { ...servingSetting, data_bytes: servedBytes },
    activate_mb: activateSizes,
    fleet: fleetSetting,
    delta: deltaSetting,
    goals,
  },
  workerConfigs: (folder) => changedEdgeConfigs(folder, { entry: "test/workerd/hello-edge.ts" }),
  edgeBEntry: "scripts/bench/hello-bunny.ts",

  async run(bench) {
    const world = await policyWorld(bench.stack, "edge", bench.signal);
    const served = await world.publish("served", servedBytes);
    return {
      serving_a: await measureServing(bench, "a", world.trust, served),
      serving_b: await measureServing(bench, "b", world.trust, served),
      fleet: await measureFleet(bench, world),
      activate: await measureActivate(bench, world),
      delta: await measureDelta(),
    };
  },

  headline: (parts) => ({
    ratio_a: parts["serving_a"]!["ratio"]!.median,
    ratio_b: parts["serving_b"]!["ratio"]!.median,
    delta_bytes_ratio: parts["delta"]!["delta_bytes_ratio"]!.median,
    ...Object.fromEntries(
      activateSizes.map((size) => [`activate_ms_${size}_mb`, parts["activate"]![`activate_${size}_mb_ms`]!.median]),
    ),
    publish_to_active_p95_ms: parts["fleet"]!["publish_to_active_p95_ms"]!.median,
  }),

  faults: () => [],
};
