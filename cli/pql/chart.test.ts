// What is drawn: never a count as zero, never a zero as a count, never wider than the terminal.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bar, glyphsFor, merged, sparkline } from "./chart.ts";

const utf8 = glyphsFor({ LANG: "en_US.UTF-8" });
const ascii = glyphsFor({ LANG: "C" });
const counts = fc.array(fc.integer({ min: 0, max: 1_000_000 }), { maxLength: 300 });

describe("glyphs", () => {
  test.each<[Record<string, string>, boolean]>([
    [{ LANG: "en_US.UTF-8" }, true],
    [{ LC_ALL: "C.utf8", LANG: "C" }, true],
    [{ LC_ALL: "C", LANG: "en_US.UTF-8" }, false],
    [{ LC_ALL: "", LC_CTYPE: "de_DE.UTF-8" }, true],
    [{ LANG: "en_US.ISO-8859-1" }, false],
    [{ LANG: "en_US.UTF-8", TERM: "dumb" }, false],
    [{ LANG: "en_US.UTF-8", NO_COLOR: "1" }, true],
    [{ WT_SESSION: "x" }, true],
    [{}, false],
  ])("of %j are blocks: %s", (env, blocks) => {
    expect(glyphsFor(env).bar.includes("█")).toBe(blocks);
  });
});

describe("a sparkline", () => {
  test("goes from the smallest mark to the largest, with a mark of its own for zero", () => {
    expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8], utf8)).toBe("·▁▂▃▄▅▆▇█");
    expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8], ascii)).toBe(".12345678");
    expect(sparkline([0, 0], utf8)).toBe("··");
    expect(sparkline([], utf8)).toBe("");
    expect(sparkline([1, 1_000_000], utf8)).toBe("▁█");
  });

  test("has a mark a count, zero where and only where nothing was counted, and keeps the order of sizes", () => {
    fc.assert(
      fc.property(counts, (list) => {
        const marks = sparkline(list, utf8).split("");
        expect(marks.map((mark) => mark === utf8.zero)).toEqual(list.map((count) => count === 0));
        const heights = marks.map((mark) => utf8.levels.indexOf(mark));
        for (const [at, count] of list.entries()) {
          expect(heights.filter((height, other) => list[other]! <= count && height > heights[at]!)).toEqual([]);
        }
      }),
    );
  });
});

describe("neighbours", () => {
  test("are added up to what fits, and nothing is lost", () => {
    expect(merged([1, 2, 3, 4, 5], 2)).toEqual({ counts: [6, 9], each: 3 });
    expect(merged([1, 2, 3], 3)).toEqual({ counts: [1, 2, 3], each: 1 });
    fc.assert(
      fc.property(counts, fc.integer({ min: 1, max: 120 }), (list, width) => {
        const { counts: sums, each } = merged(list, width);
        expect(sums.length).toBe(Math.ceil(list.length / each));
        expect(sums.length).toBeLessThanOrEqual(width);
        const total = (some: readonly number[]): number => some.reduce((sum, count) => sum + count, 0);
        expect(total(sums)).toBe(total(list));
      }),
    );
  });
});

describe("a bar", () => {
  test("is as long as its share", () => {
    expect(bar(8, 8, 10, utf8)).toBe("██████████");
    expect(bar(4, 8, 10, utf8)).toBe("█████");
    expect(bar(1, 16, 4, utf8)).toBe("▎");
    expect(bar(4, 8, 10, ascii)).toBe("#####");
    expect(bar(0, 8, 10, utf8)).toBe("");
    expect(bar(1, 1_000_000, 10, utf8)).toBe("▏");
  });
});
