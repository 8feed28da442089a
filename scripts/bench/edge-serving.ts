// What serving a cached bundle costs beside a bare answer of the same size behind the same authentication, at one provider: turn by
// turn, in one process of the runtime. Called by edge.ts.

import { policyKey } from "../../shared/edge/serving-path.ts";
import type { Published, Trust } from "../drill/policy-world.ts";
import type { Bench, Figures } from "./benchmark.ts";
import { helloPath } from "./edge-hello.ts";
import { measureRate } from "./http-rate.ts";
import { median, rounded } from "./statistics.ts";

export const servingSetting = { connections: 50, warm_up_ms: 1_500, turn_ms: 1_500, turns: 8 } as const;

/** `bundle` is published, with so many bytes. */
export async function measureServing(
  { stack, signal, progress }: Bench,
  provider: "a" | "b",
  { tenant, key }: Trust,
  bundle: Pick<Published, "sha256" | "bytes">,
): Promise<Figures> {
  const base = stack.edge[provider];
  const headers = { authorization: `Bearer ${key}` };
  const urls = {
    bundle: `${base}/${policyKey(tenant, bundle.sha256)}`,
    hello: `${base}${helloPath}/${bundle.bytes}`,
  } as const;
  const { connections, warm_up_ms: warmUp, turn_ms: turn, turns } = servingSetting;
  const rate = async (name: keyof typeof urls, ms: number): Promise<number> => {
    const order = { url: urls[name], headers, connections, duration_ms: ms, bytes: bundle.bytes };
    return (await measureRate(order, signal)).per_s;
  };
  progress(`serving at provider ${provider}`);
  await rate("hello", warmUp);
  await rate("bundle", warmUp);
  const rates = { bundle: [] as number[], hello: [] as number[] };
  for (let at = 0; at < turns; at += 1) {
    // Each is first as often as it is second.
    for (const name of at % 2 === 0 ? (["hello", "bundle"] as const) : (["bundle", "hello"] as const))
      rates[name].push(await rate(name, turn));
  }
  const ratios = rates.bundle.map((per_s, at) => per_s / rates.hello[at]!);
  return {
    bundle_bytes: bundle.bytes,
    bundle_per_s: Math.round(median(rates.bundle)),
    hello_per_s: Math.round(median(rates.hello)),
    ratio: rounded(median(ratios), 3),
    ratio_min: rounded(Math.min(...ratios), 3),
    ratio_max: rounded(Math.max(...ratios), 3),
  };
}
