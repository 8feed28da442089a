// What a board means beside what is published: which state, since when, and whether every instance is current.

import { describe, expect, test } from "vitest";
import { fetcherIdOf, hourMs, policyOf, reportOf, start, tarOf, type ReportOptions } from "../../test/support/fleet.ts";
import { edgeFleet, edgeReport, silentMs, type ReportedPolicy } from "../contract/http-edge.ts";
import { emptyBoard, FleetBoard } from "./fleet-board.ts";
import { fleetMetricsText, instanceSeriesMax } from "./fleet-metrics.ts";
import { fleetOf, laggingPolicies, type KnownRevision } from "./fleet.ts";

const principal = "pri_01k9x6f6c8a0b1c2d3e4f5g6h7";
const revision = (number: number, at: number): KnownRevision => ({
  policy: "gateway",
  channel: "stable",
  revision: number,
  tar_sha256: tarOf(number),
  published_at: new Date(at).toISOString(),
});

const boardOf = (...reports: ReportOptions[]) => {
  const board = new FleetBoard(emptyBoard());
  for (const [at, options] of reports.entries())
    board.note(principal, reportOf({ instance: at + 1, ...options }), options.now ?? start);
  return board.view();
};

const refusal = { code: "wrong_digest", provider: "b", since: new Date(start).toISOString() };

describe("a policy at an instance", () => {
  const stateOf = (one: ReportedPolicy, now = start + 1_000, reported = start) => {
    const heads = [revision(3, start)];
    const fleet = fleetOf(
      boardOf({ policies: [one], now: reported }),
      { heads, earlier: [revision(2, start - 9_000)] },
      now,
    );
    return fleet.instances[0]!.policies[0]!;
  };

  test.each([
    ["current, with the published revision and tar", policyOf(3), "current"],
    ["current although the last refresh failed: it runs what is published", policyOf(3, { refusal }), "current"],
    ["behind, with an older one", policyOf(2), "behind"],
    ["behind, with none", policyOf(null), "behind"],
    ["refusing, where it has told why not the newest", policyOf(2, { refusal }), "refusing"],
    ["unknown, with a revision that was never published", policyOf(4), "unknown"],
    [
      "unknown, with other bytes under the published number",
      { ...policyOf(3), active: { ...policyOf(3).active!, tar_sha256: tarOf(9) } },
      "unknown",
    ],
    ["unknown, with a policy that is not published", policyOf(1, { policy: "other" }), "unknown"],
    [
      "expired, past the end of its metadata",
      { ...policyOf(3), active: { ...policyOf(3).active!, expires_at: new Date(start).toISOString() } },
      "expired",
    ],
  ] as const)("is %s", (_, one, state) => {
    expect(stateOf(one).state).toBe(state);
  });

  test("is silent once three reports have not come, whatever it ran", () => {
    expect(stateOf(policyOf(3), start + silentMs).state).toBe("current");
    expect(stateOf(policyOf(3), start + silentMs + 1).state).toBe("silent");
  });

  test("lags since the first revision that it lacks, not since the newest", () => {
    expect(stateOf(policyOf(1))).toMatchObject({ behind_revisions: 2, behind_ms: 10_000, head_revision: 3 });
    expect(stateOf(policyOf(2))).toMatchObject({ behind_revisions: 1, behind_ms: 1_000 });
  });

  test("is proven by what it verified, by either clock", () => {
    const now = start + 2_000;
    const ahead = { ...reportOf({ now: start + hourMs, policies: [policyOf(3)] }) };
    const board = new FleetBoard(emptyBoard());
    board.note(principal, ahead, start);
    const [instance] = fleetOf(board.view(), { heads: [revision(3, start)], earlier: [] }, now).instances;
    expect(instance).toMatchObject({
      clock_ahead_ms: hourMs,
      metadata: { timestamp_version: 1, verified_ms_ago: 2_250 },
    });
    expect(instance!.policies[0]!.proof).toMatchObject({ revision: 3, tar_sha256: tarOf(3), verified_ms_ago: 2_250 });
  });
});

describe("a fleet", () => {
  test.each(["1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"])(
    "is told in the contract's shapes also where a fetcher's times are all %s",
    (at) => {
      const { metadata, policies, ...report } = reportOf();
      const bent = edgeReport.parse({
        ...report,
        sent_at: at,
        metadata: { ...metadata, timestamp_expires_at: at, verified_at: at },
        policies: policies.map((one) => ({ ...one, active: { ...one.active, activated_at: at, expires_at: at } })),
      });
      const board = new FleetBoard(emptyBoard());
      board.note(principal, bent, start);
      const { summary, instances } = fleetOf(board.view(), { heads: [revision(3, start)], earlier: [] }, start);
      const answer = { as_of: new Date(start).toISOString(), summary, instances, next_cursor: null };
      expect(edgeFleet.safeParse(answer).error).toBeUndefined();
    },
  );

  const heads = [revision(2, start - 6_000)];

  test("is current when every policy of every instance is, and not when there is none", () => {
    const at = (...reports: ReportOptions[]) => fleetOf(boardOf(...reports), { heads, earlier: [] }, start).summary;
    expect(at({ policies: [policyOf(2)] }, { policies: [policyOf(2)] })).toMatchObject({
      all_current: true,
      stale_rate: 0,
    });
    expect(at({ policies: [policyOf(2)] }, { policies: [policyOf(1)] })).toMatchObject({
      all_current: false,
      stale_rate: 0.5,
      instances: { total: 2, current: 1, behind: 1 },
    });
    expect(at()).toMatchObject({ all_current: false, stale_rate: null, instances: { total: 0 } });
  });

  test("has the worst first; its silent ones are told, and are not in the stale rate", () => {
    const board = boardOf({ policies: [policyOf(2)], now: start + silentMs }, { policies: [policyOf(1)] });
    const { summary, instances } = fleetOf(board, { heads, earlier: [] }, start + silentMs + 1);
    expect(instances.map(({ instance, state }) => [instance, state])).toEqual([
      [fetcherIdOf(2), "silent"],
      [fetcherIdOf(1), "current"],
    ]);
    expect(summary).toMatchObject({ all_current: false, stale_rate: 0, policies: { total: 2, silent: 1, current: 1 } });
  });

  test("asks for the history of what lags, and of nothing else", () => {
    const board = boardOf({
      policies: [policyOf(2), policyOf(1, { policy: "other" }), policyOf(null, { policy: "third" })],
    });
    const other = { ...revision(2, start), policy: "other" };
    expect(laggingPolicies(board, [...heads, other, { ...other, policy: "third" }])).toEqual(["other", "third"]);
  });

  test("a revision that is a moment old makes nobody stale", () => {
    const board = boardOf({ policies: [policyOf(1)] });
    const rate = (now: number) => fleetOf(board, { heads: [revision(2, start)], earlier: [] }, now).summary.stale_rate;
    expect([rate(start + 5_000), rate(start + 5_001)]).toEqual([0, 1]);
  });

  test("as metrics: one series an instance up to a bound, ratios where something was counted", () => {
    const reports = Array.from({ length: instanceSeriesMax + 9 }, (_, at) => ({
      policies: [policyOf(at === 0 ? 1 : 2)],
      mismatches: { a: 1 },
    }));
    const fleet = fleetOf(boardOf(...reports), { heads, earlier: [] }, start);
    const text = fleetMetricsText(fleet, start);
    expect(text).toContain(`mc_edge_stale_rate ${1 / 59}\n`);
    expect(text).toContain('mc_edge_hit_ratio{provider="a"} 0.9\n');
    expect(text).toContain('mc_edge_mismatches_total{provider="a"} 59\n');
    expect(text).toContain('mc_edge_instances{state="behind"} 1\n');
    expect(text).toContain("mc_edge_manifest_age_seconds_max 3600\n");
    expect(text.match(/^mc_edge_manifest_age_seconds\{/gm)).toHaveLength(instanceSeriesMax);
    const empty = fleetMetricsText(fleetOf(boardOf(), { heads: [], earlier: [] }, start), start);
    expect(empty).not.toMatch(/^mc_edge_(stale_rate|hit_ratio|manifest)/m);
    expect(empty).toContain("mc_edge_failovers_total 0\n");
  });
});
