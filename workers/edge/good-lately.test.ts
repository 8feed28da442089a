import { expect, test } from "vitest";
import { GoodLately } from "./good-lately.ts";

const hourMs = 3_600_000;

test("a name is good for an hour after it was so last, and not once it is forgotten", () => {
  const good = new GoodLately();
  expect(good.has("one", 0)).toBe(false);
  good.note("one", 1_000);
  expect([good.has("one", 1_000), good.has("one", 1_000 + hourMs - 1), good.has("one", 1_000 + hourMs)]).toEqual([
    true,
    true,
    false,
  ]);
  good.note("one", 2_000);
  expect(good.has("one", 1_000 + hourMs)).toBe(true);
  good.forget("one");
  expect(good.has("one", 2_000)).toBe(false);
});

test("of more than 8,192 names those go that were good the longest ago", () => {
  const good = new GoodLately();
  for (let at = 0; at < 8_192; at += 1) good.note(`n${at}`, at);
  good.note("n0", 9_000);
  good.note("more", 9_000);
  expect(["n0", "n1", "n2", "more"].map((name) => good.has(name, 9_000))).toEqual([true, false, true, true]);
});
