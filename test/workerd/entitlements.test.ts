import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import type { EntitlementsPort } from "../../shared/market/entitlements.ts";

const namespace = (env as unknown as { ENTITLEMENTS: DurableObjectNamespace }).ENTITLEMENTS;

test("without Postgres the object says that it cannot know, and never answers from nothing", async () => {
  const entitlements = namespace.getByName("00000000-0000-4000-8000-000000000001") as unknown as EntitlementsPort;
  expect(await entitlements.check("tools/any")).toEqual({ state: "unavailable" });
  expect(await entitlements.list()).toEqual({ state: "unavailable" });
  const put = await entitlements.put({
    upsert: {
      entitlements: [
        {
          package: "tools/any",
          channel: "stable",
          allowed: true,
          version_range: null,
          run_windows: null,
          runs_per_day_max: null,
        },
      ],
      reason: "",
    },
    principal_id: `pri_${"0".repeat(26)}`,
    claim: null,
    if_versions: null,
  });
  expect(put).toEqual({ state: "unavailable" });
});
