// The drill of swapping CDN providers, cut down to some seconds on the stack of the contract tests: so that it goes on to run.
// What it measures is for `npm run drill -- cdn-swap`, on a machine with nothing else to do.

import { expect, test } from "vitest";
import { cdnSwap, swapProviders, swapSetting } from "../../scripts/drill/cdn-swap.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();

test("MC-EDGE-1931: one provider freezes, the other one dies, and every fetch has bytes that are signed for and current", async () => {
  const putAtA = (key: string, bytes: Uint8Array): Promise<void> => stack.edgeStores.a.put(key, bytes);
  const { headline, parts, faults } = await swapProviders(
    { stack, signal: AbortSignal.timeout(50_000), progress: () => undefined, putAtA },
    {
      ...swapSetting,
      fetches_per_s: 40,
      duration_ms: 3_000,
      policies: 4,
      publish_every_ms: 500,
      a_frozen_ms: 700,
      a_thawed_ms: 1_300,
      a_caught_up_ms: 1_700,
      b_killed_ms: 2_100,
      quiet_ms: [0, 700],
      // A machine that runs other tests takes its time: what is missed for longer is missed.
      fresh_within_ms: 2_000,
    },
  );
  expect(faults).toEqual([]);
  expect(headline).toMatchObject({ fetches: 120, failed: 0, stale_served: 0 });
  expect(Object.keys(headline)).toEqual(expect.arrayContaining(cdnSwap.goals.map(({ figure }) => figure)));
  expect(parts["plain"]).toMatchObject({ fetches: 120 });
});
