import { expect, test } from "vitest";
import { NoiseGate, noiseLinesMax, noiseLinesPerSecond } from "./noise.ts";
import { logVisit, openVisit, type Visit } from "./visit.ts";

const start = Date.parse("2026-11-26T12:00:00.000Z");

test("strangers' requests have a line each up to the rate, and are counted by their code beyond it", () => {
  const gate = new NoiseGate();
  const admitted = Array.from({ length: noiseLinesMax + 30 }, (_, at) =>
    gate.admit(start, at % 2 === 0 ? "unauthenticated" : "not_found"),
  );
  expect(admitted.filter(Boolean)).toHaveLength(noiseLinesMax);
  expect(gate.takeUnlogged()).toEqual({ since: start, counts: { unauthenticated: 15, not_found: 15 } });
  expect(gate.takeUnlogged()).toBeNull();
  const later = Array.from({ length: noiseLinesMax }, () => gate.admit(start + 1_000, null));
  expect(later.filter(Boolean)).toHaveLength(noiseLinesPerSecond);
});

test("a clock that goes back holds lines back no longer than until it runs on", () => {
  const gate = new NoiseGate();
  for (let at = 0; at < noiseLinesMax; at += 1) gate.admit(start, null);
  expect(gate.admit(start - 3_600_000, null)).toBe(false);
  expect(gate.admit(start, null)).toBe(true);
});

const visits = (count: number, change: Partial<Visit>, status: number): string[] => {
  const lines: string[] = [];
  const parts = {
    clock: () => start,
    random: (byteCount: number) => new Uint8Array(byteCount),
    log: (level: string, message: string, fields: Readonly<Record<string, unknown>> = {}) =>
      void lines.push(`${level} ${message} ${message === "request" ? "" : JSON.stringify(fields)}`.trim()),
    noise: new NoiseGate(),
  };
  for (let at = 0; at < count; at += 1) logVisit(parts, { ...openVisit(parts, null), ...change }, "GET", status);
  logVisit(parts, { ...openVisit(parts, null), tenant_id: "t", principal_id: "p" }, "GET", 200);
  return lines;
};

test("what strangers did beyond the rate is one line, with the next line of anybody", () => {
  const lines = visits(noiseLinesMax + 7, { code: "unauthenticated" }, 401);
  expect(lines).toHaveLength(noiseLinesMax + 2);
  expect(lines.at(-2)).toBe(
    `warn requests of nobody known were counted instead of logged {"since":"2026-11-26T12:00:00.000Z","unauthenticated":7}`,
  );
});

test("strangers whose SVIDs were shed are counted as others are, and are no fault of the service's", () => {
  const lines = visits(noiseLinesMax + 7, { code: "identity_busy" }, 503);
  expect(lines).toHaveLength(noiseLinesMax + 2);
  expect(lines[0]).toBe("info request");
  expect(lines.at(-2)).toContain('"identity_busy":7');
});

test.each([
  ["of a tenant", { tenant_id: "t", principal_id: "p", code: "role_too_low" }, 403],
  ["that failed on our side", { code: "internal" }, 500],
  ["that found the database away", { code: "database_unavailable" }, 503],
  ["that was answered well", {}, 200],
] as const)("a request %s always has its line", (_, change, status) => {
  expect(visits(noiseLinesMax * 2, change, status)).toHaveLength(noiseLinesMax * 2 + 1);
});
