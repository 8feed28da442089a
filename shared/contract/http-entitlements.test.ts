// Shapes of entitlements that cost something to read.

import { expect, test } from "vitest";
import { versionRange } from "./http-entitlements.ts";

/** The largest JSON body. */
const bodyBytesMax = 1024 * 1024;

test("a range that is too long is refused for its length alone, unread: one of a whole body would take seconds", () => {
  const longest = `${"1 ".repeat(127)}10`;
  expect(versionRange.safeParse(longest).success).toBe(true);
  for (const text of [`${longest} `, " 1".repeat(bodyBytesMax / 2), "no range".repeat(100)]) {
    const { error } = versionRange.safeParse(text);
    expect(error?.issues.map(({ code }) => code)).toEqual(["too_big"]);
  }
});
