// The arithmetic of routing: breaker, peak-EWMA, hedges. What it leads to under load is test/simulation/edge-routing.test.ts.

import { describe, expect, test } from "vitest";
import { Routing, routingBounds } from "./routing.ts";

const answered = (routing: Routing, name: string, ms: number, now: number, bytes = 100): void => {
  routing.started(name);
  routing.succeeded(name, ms, now, bytes);
};
const failed = (routing: Routing, name: string, now: number): void => {
  routing.started(name);
  routing.failed(name, 1, now);
};

describe("the breaker", () => {
  test("opens after three failures in a row, and not after two with a success between", () => {
    const routing = new Routing(["a", "b"]);
    failed(routing, "a", 0);
    failed(routing, "a", 0);
    answered(routing, "a", 1, 0);
    failed(routing, "a", 0);
    failed(routing, "a", 0);
    expect(routing.breaker("a", 0)).toBe("closed");
    failed(routing, "a", 0);
    expect(routing.breaker("a", 0)).toBe("open");
    expect(routing.order(0)).toEqual(["b", "a"]);
  });

  test("is half open after a second; a success closes it then and not before, a failure opens it for another second", () => {
    const routing = new Routing(["a"]);
    for (let count = 0; count < 3; count += 1) failed(routing, "a", 0);
    answered(routing, "a", 1, 999);
    expect(routing.breaker("a", 999)).toBe("open");
    expect(routing.breaker("a", 1_000)).toBe("half_open");
    for (let count = 0; count < 3; count += 1) failed(routing, "a", 1_000);
    expect(routing.breaker("a", 1_999)).toBe("open");
    answered(routing, "a", 1, 2_000);
    expect(routing.breaker("a", 2_000)).toBe("closed");
  });

  test("is held open no longer by what fails while it is open: each second it may be tried", () => {
    const routing = new Routing(["a"]);
    for (let count = 0; count < 3; count += 1) failed(routing, "a", 0);
    failed(routing, "a", 900);
    expect(routing.breaker("a", 1_000)).toBe("half_open");
  });

  test("a provider is suspect to who waits for it while others have trouble there, until one has success", () => {
    const routing = new Routing(["a"]);
    failed(routing, "a", 10);
    expect([routing.isSuspect("a", 9), routing.isSuspect("a", 10)]).toEqual([true, false]);
    answered(routing, "a", 1, 11);
    expect([routing.isSuspect("a", 9), routing.isSuspect("a", 11)]).toEqual([false, false]);
  });

  test("takes no notice of hedges that lost, nor of what a provider has not got", () => {
    const routing = new Routing(["a"]);
    for (let count = 0; count < 100; count += 1) {
      routing.started("a");
      routing.abandoned("a", 50, count);
      routing.started("a");
      routing.passed("a");
    }
    expect(routing.breaker("a", 100)).toBe("closed");
  });
});

describe("the order", () => {
  test("is that of the file before anything is known, then that of latency", () => {
    const routing = new Routing(["a", "b"]);
    expect(routing.order(0)).toEqual(["a", "b"]);
    answered(routing, "a", 20, 0);
    answered(routing, "b", 10, 0);
    expect(routing.order(0)).toEqual(["b", "a"]);
  });

  test("a peak counts at once, and is forgotten over ten seconds", () => {
    const routing = new Routing(["a", "b"]);
    answered(routing, "a", 5, 0);
    answered(routing, "b", 10, 0);
    answered(routing, "a", 500, 100);
    expect(routing.order(100)).toEqual(["b", "a"]);
    for (let at = 1; at <= 12; at += 1) answered(routing, "a", 5, 100 + at * 5_000);
    expect(routing.order(60_100)).toEqual(["a", "b"]);
  });

  test("what is under way counts as load", () => {
    const routing = new Routing(["a", "b"]);
    answered(routing, "a", 10, 0);
    answered(routing, "b", 15, 0);
    routing.started("a");
    expect(routing.order(0)).toEqual(["b", "a"]);
  });
});

describe("hedges", () => {
  test("come after the provider's 95th percentile, five milliseconds at the least, and give a large object its time", () => {
    const routing = new Routing(["a"]);
    expect(routing.hedgeAfterMs("a", null)).toBe(routingBounds.hedgeMsFirst);
    for (let ms = 1; ms <= 100; ms += 1) answered(routing, "a", ms, 0);
    expect(routing.hedgeAfterMs("a", 1_000)).toBe(95);
    expect(routing.hedgeAfterMs("a", 10 * 1024 * 1024)).toBeCloseTo(95 + 1_000, -1);
    for (let count = 0; count < routingBounds.latenciesMax; count += 1) answered(routing, "a", 1, 0);
    expect(routing.hedgeAfterMs("a", 1_000)).toBe(routingBounds.hedgeMsMin);
  });

  test("are no more than their budget, however slow everything is", () => {
    const routing = new Routing(["a"]);
    let taken = 0;
    for (let count = 0; count < 10_000; count += 1) {
      routing.fetching();
      if (routing.takeHedge()) taken += 1;
    }
    expect(taken / 10_000).toBeLessThan(0.05);
    expect(taken).toBeGreaterThan(350);
  });

  test("a large object says nothing about latency", () => {
    const routing = new Routing(["a"]);
    answered(routing, "a", 10, 0);
    answered(routing, "a", 9_000, 0, 50 * 1024 * 1024);
    expect(routing.standings(0)).toEqual([{ name: "a", breaker: "closed", latency_ms: 10, p95_ms: 10 }]);
  });
});

test("where another one has answered, a provider is waited for a second, and after a failure by its own measure", () => {
  const routing = new Routing(["a", "b"]);
  const answers = (ms: number): void => {
    routing.started("a");
    routing.succeeded("a", ms, 0, 100);
  };
  const fails = (): void => {
    routing.started("a");
    routing.failed("a", 1_000, 0);
  };
  answers(3);
  expect(routing.patienceMs("a")).toBe(1_000);
  fails();
  expect(routing.patienceMs("a")).toBe(100);
  answers(60);
  expect(routing.patienceMs("a")).toBe(1_000);
  fails();
  expect(routing.patienceMs("a")).toBe(240);
  fails();
  expect(routing.patienceMs("b")).toBe(1_000);
});
