import fc from "fast-check";
import semver from "semver";
import { expect, test } from "vitest";
import { versionOrder } from "./version-order.ts";

const bytes = (left: string, right: string): number => Math.sign(Buffer.compare(Buffer.from(left), Buffer.from(right)));

test("the specification's own example is in its order", () => {
  const inOrder = [
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
    "1.0.0",
    "1.0.1",
    "1.10.0",
    "2.0.0",
  ];
  expect(inOrder.map(versionOrder).toSorted(bytes)).toEqual(inOrder.map(versionOrder));
});

test("byte order is semver's precedence for any two versions", () => {
  const number = fc.oneof(fc.nat(12), fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }));
  // Beyond 2^53, like a time to the millisecond in digits. Of 15 of them, since node-semver compares such numbers as doubles.
  const long = fc
    .tuple(fc.integer({ min: 1e14, max: 1e15 - 1 }), fc.integer({ min: 1, max: 9 }))
    .map(([head, zeros]) => `${head}${"0".repeat(zeros)}`);
  const identifier = fc.oneof(number.map(String), long, fc.stringMatching(/^[0-9A-Za-z-]{0,3}[A-Za-z-]$/));
  const version = fc
    .tuple(number, number, number, fc.array(identifier, { maxLength: 3 }))
    .map(([major, minor, patch, pre]) => `${major}.${minor}.${patch}${pre.length === 0 ? "" : `-${pre.join(".")}`}`)
    .filter((text) => semver.valid(text) === text);
  fc.assert(
    fc.property(version, version, (left, right) => {
      expect(bytes(versionOrder(left), versionOrder(right))).toBe(semver.compare(left, right));
    }),
    { numRuns: 5_000 },
  );
});

test("numbers of a pre-release that no double holds are in their order, before every word", () => {
  const inOrder = [
    "9007199254740990",
    "9007199254740991",
    "9007199254740993",
    "20261126223646123",
    "100000000000000000",
    "0a",
    "a",
  ];
  const orders = inOrder.map((identifier) => versionOrder(`1.0.0-${identifier}`));
  expect(orders.toSorted(bytes)).toEqual(orders);
});
