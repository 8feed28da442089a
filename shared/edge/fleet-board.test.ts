// The board of the fleet: reports in any order, restarts, copies of a folder, and its bounds.

import { serialize } from "node:v8";
import { expect, test } from "vitest";
import { fetcherIdOf, policyOf, reportOf, start } from "../../test/support/fleet.ts";
import { edgeReport, silentMs } from "../contract/http-edge.ts";
import { boardBounds, emptyBoard, FleetBoard } from "./fleet-board.ts";

const principal = "pri_01k9x6f6c8a0b1c2d3e4f5g6h7";
const only = (board: FleetBoard) => {
  const [instance, ...others] = board.view().instances;
  expect(others).toEqual([]);
  return instance!;
};

test("a report that comes twice, or after a newer one of its boot, changes nothing", () => {
  const board = new FleetBoard(emptyBoard());
  expect(board.note(principal, reportOf({ sequence: 2 }), start)).toMatchObject({ outcome: "noted", isNew: true });
  const before = board.view();
  for (const sequence of [2, 1])
    expect(board.note(principal, reportOf({ sequence, counts: { fetches: 9 } }), start + 1)).toEqual({
      outcome: "repeated",
    });
  expect(board.view()).toEqual(before);
  expect(board.note(principal, reportOf({ sequence: 3 }), start + 2)).toMatchObject({ outcome: "noted", isNew: false });
});

test("counters go on over restarts, and never down", () => {
  const board = new FleetBoard(emptyBoard());
  board.note(principal, reportOf({ sequence: 1, counts: { fetches: 5 }, mismatches: { a: 2 } }), start);
  board.note(principal, reportOf({ sequence: 2, counts: { fetches: 4 }, mismatches: { a: 1 } }), start);
  expect(only(board).totals).toMatchObject({ counts: { fetches: 5 }, providers: { a: { mismatches: 2 } } });
  board.note(principal, reportOf({ boot: 2, counts: { fetches: 3 }, mismatches: { a: 1, c: 1 } }), start);
  expect(only(board).totals).toMatchObject({
    counts: { fetches: 8 },
    providers: { a: { mismatches: 3, cache_hits: 18 }, c: { mismatches: 1, cache_hits: 9 } },
  });
  board.forget(fetcherIdOf(1));
  expect(board.view()).toMatchObject({
    instances: [],
    gone: { counts: { fetches: 8 }, providers: { a: { mismatches: 3 } } },
  });
  expect(board.forget(fetcherIdOf(1))).toBe(false);
});

test("nobody takes another's id: not another key, not a copy of the folder, not an older one that was put back", () => {
  const board = new FleetBoard(emptyBoard());
  board.note(principal, reportOf({ boot: 3 }), start);
  const before = board.view();
  expect(board.note("pri_other", reportOf({ boot: 4 }), start)).toEqual({ outcome: "taken" });
  expect(board.note(principal, reportOf({ boot: 3, boot_id: "f".repeat(32), sequence: 9 }), start)).toEqual({
    outcome: "taken",
  });
  expect(board.note(principal, reportOf({ boot: 2, sequence: 9 }), start)).toEqual({ outcome: "taken" });
  expect(board.view()).toEqual(before);
});

test("an instance that reports in a loop is held back, and the others are not", () => {
  const board = new FleetBoard(emptyBoard());
  const send = (instance: number, sequence: number, at: number) =>
    board.note(principal, reportOf({ instance, sequence }), at).outcome;
  const outcomes = Array.from({ length: 20 }, (_, at) => send(1, at + 1, start));
  expect(outcomes.filter((outcome) => outcome === "noted")).toHaveLength(boardBounds.burst);
  expect(board.note(principal, reportOf({ sequence: 30 }), start)).toEqual({ outcome: "limited", retry_ms: 1_000 });
  expect(send(2, 1, start)).toBe("noted");
  expect(send(1, 30, start + 1_000)).toBe("noted");
});

test("with the board full the longest silent leaves; where none is silent, a newcomer does not get on", () => {
  const board = new FleetBoard(emptyBoard());
  for (let instance = 1; instance <= boardBounds.instancesMax; instance += 1)
    board.note(principal, reportOf({ instance, counts: { fetches: 1 } }), start + instance);
  const newcomer = reportOf({ instance: 9_999 });
  expect(board.note(principal, newcomer, start + silentMs)).toEqual({ outcome: "full" });
  const later = start + silentMs + 3;
  expect(board.note(principal, newcomer, later)).toMatchObject({ outcome: "noted", left: [fetcherIdOf(1)] });
  const { instances, gone } = board.view();
  expect([instances.length, gone.counts.fetches]).toEqual([boardBounds.instancesMax, 1]);
});

test("a board of large reports is full by its bytes", () => {
  const board = new FleetBoard(emptyBoard());
  const policies = Array.from({ length: 200 }, (_, at) => policyOf(1, { policy: `policy-${at}` }));
  const noted: number[] = [];
  for (let instance = 1; instance <= 60; instance += 1)
    if (board.note(principal, reportOf({ instance, policies }), start).outcome === "noted") noted.push(instance);
  expect(noted.length).toBeGreaterThan(20);
  expect(noted.length).toBeLessThan(60);
  expect(JSON.stringify(board.view().instances.map(({ report }) => report)).length).toBeLessThan(boardBounds.bytesMax);
});

test("a board full of instances that named other providers at each boot still fits into the object's one value", () => {
  const state = emptyBoard();
  const board = new FleetBoard(state);
  const most = 2 ** 40;
  let at = start;
  for (let boot = 1; boot <= 5; boot += 1)
    for (let instance = 1; instance <= boardBounds.instancesMax; instance += 1) {
      const names = Array.from({ length: 16 }, (_, index) => `provider-of-a-long-name-${boot}-${index}`);
      const mismatches = Object.fromEntries(names.map((name) => [name, most]));
      at += 10;
      board.note(principal, reportOf({ instance, boot, mismatches, counts: { fetches: most } }), at);
    }
  expect(Object.keys(state.instances).length).toBeGreaterThan(100);
  expect(serialize(state).length).toBeLessThan(2_000_000);
});

test("a provider that a later report of the same boot leaves out keeps its counts, and once it is back they go on", () => {
  const board = new FleetBoard(emptyBoard());
  const totals = (options: Parameters<typeof reportOf>[0]) => {
    const noted = board.note(principal, reportOf(options), start);
    return noted.outcome === "noted" ? noted.totals.providers : noted;
  };
  totals({ sequence: 1, mismatches: { a: 1, b: 5 } });
  expect(totals({ sequence: 2, mismatches: { a: 2 } })).toMatchObject({ a: { mismatches: 2 }, b: { mismatches: 5 } });
  expect(totals({ sequence: 3, mismatches: { a: 2 } })).toMatchObject({ a: { mismatches: 2 }, b: { mismatches: 5 } });
  expect(totals({ sequence: 4, mismatches: { a: 2, b: 6 } })).toMatchObject({ b: { mismatches: 6, cache_hits: 9 } });
  totals({ sequence: 5, mismatches: { a: 2 } });
  expect(totals({ boot: 2, mismatches: { a: 1 } })).toMatchObject({ a: { mismatches: 3 }, b: { mismatches: 6 } });
});

test.each([
  ["an id that is no fetcher's", { instance: "fet_1" }],
  ["a policy that stands twice", { policies: [policyOf(1), policyOf(1)] }],
  ["no policy", { policies: [] }],
  [
    "more policies than a fetcher may follow",
    { policies: Array.from({ length: 201 }, (_, at) => policyOf(1, { policy: `p${at}` })) },
  ],
  ["a field that is not known", { more: 1 }],
  ["free text", { providers: [{ ...reportOf().providers[0]!, name: 'say "hi"' }] }],
])("%s is no report", (_, bent) => {
  expect(edgeReport.safeParse(reportOf()).success).toBe(true);
  expect(edgeReport.safeParse({ ...reportOf(), ...bent }).success).toBe(false);
});
