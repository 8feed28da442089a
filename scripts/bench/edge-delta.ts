// How many bytes a delta of a policy has beside the whole bundle, where a few rules of many have changed. Called by edge.ts.

import { gzipSync } from "node:zlib";
import { makeDelta } from "../../cli/edge/zstd-delta.ts";
import { bundleManifest } from "../../test/support/bundles.ts";
import { tarOf } from "../../test/support/tar-bytes.ts";
import type { Figures } from "./benchmark.ts";
import { rounded } from "./statistics.ts";

export const deltaSetting = { rules: 12_000, changed: 5 } as const;

const rule = (number: number, limit: number): string =>
  `allow if {\n\tinput.path == "/v1/resource-${number}"\n\tinput.user.level >= ${limit}\n\tinput.method in {"GET", "HEAD"}\n}\n\n`;

const tarWith = (revision: string, changed: ReadonlySet<number>) =>
  tarOf(
    { name: ".manifest", body: bundleManifest({ revision }) },
    {
      name: "app/authz.rego",
      body: `package app.authz\n\n${Array.from({ length: deltaSetting.rules }, (_, at) => rule(at, changed.has(at) ? 9 : at % 7)).join("")}`,
    },
  );

export async function measureDelta(): Promise<Figures> {
  const { rules, changed } = deltaSetting;
  const from = tarWith("r1", new Set());
  const to = tarWith(
    "r2",
    new Set(Array.from({ length: changed }, (_, at) => Math.floor(((at + 0.5) * rules) / changed))),
  );
  const delta = await makeDelta(from, to);
  if (delta === null) throw new Error("no delta was made");
  const whole = gzipSync(to).length;
  return {
    tar_bytes: to.length,
    bundle_bytes: whole,
    delta_bytes: delta.length,
    delta_bytes_ratio: rounded(delta.length / whole),
  };
}
