import { expect, test } from "vitest";
import { whyBackwards, type BundleOrder, type BundleVersion } from "./bundle-order.ts";

/** What stands after a bundle that was the first one. */
const after = (version: BundleVersion): BundleOrder => {
  const { sequence, distrusts } = version;
  return { newest: sequence === null ? null : { ...version, sequence }, distrusts };
};
const few = [0, 1, 2, 3];
const versions: BundleVersion[] = few.flatMap((sequence) =>
  few.flatMap((distrusts) => ["a", "b"].map((digest) => ({ sequence, distrusts, digest }))),
);

test("of two documents with sequences at most one follows the other, and a document follows itself", () => {
  for (const one of versions) {
    expect(whyBackwards(after(one), one)).toBeNull();
    for (const other of versions) {
      if (one.digest === other.digest) continue;
      const both = whyBackwards(after(one), other) === null && whyBackwards(after(other), one) === null;
      expect(both, JSON.stringify([one, other])).toBe(false);
    }
  }
});

test("neither the sequence nor the distrusts fall, and under one sequence only a distrust changes the document", () => {
  const order = after({ sequence: 2, distrusts: 1, digest: "a" });
  const why = (sequence: number | null, distrusts: number, digest: string) =>
    whyBackwards(order, { sequence, distrusts, digest });
  expect(why(3, 0, "b")).toBe("distrusts");
  expect(why(null, 0, "b")).toBe("distrusts");
  expect(why(1, 2, "b")).toBe("sequence");
  expect(why(2, 1, "b")).toBe("changed");
  for (const may of [why(3, 1, "b"), why(2, 2, "b"), why(null, 1, "b"), why(2, 1, "a")]) expect(may).toBeNull();
});

test("a document without a sequence makes no lower one good again", () => {
  const order: BundleOrder = { newest: { sequence: 2, distrusts: 0, digest: "a" }, distrusts: 1 };
  expect(whyBackwards(order, { sequence: 1, distrusts: 1, digest: "b" })).toBe("sequence");
  // The newest that had one, as of after a distrust.
  expect(whyBackwards(order, { sequence: 2, distrusts: 1, digest: "b" })).toBeNull();
});
