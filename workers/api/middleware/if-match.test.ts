// If-Match: which ETags of a header may match.

import { describe, expect, test } from "vitest";
import { ifMatch } from "./if-match.ts";

describe("If-Match", () => {
  test.each<[string | null, string[] | null]>([
    [null, null],
    ["*", null],
    [" * ", null],
    ['"v3"', ["v3"]],
    ['"v0", "v3"', ["v0", "v3"]],
    ['"v0","v3"', ["v0", "v3"]],
    [' "v0"\t,\t"v3" ', ["v0", "v3"]],
    [', "v0", , "v3",', ["v0", "v3"]],
    ['"a,b", "v3"', ["a,b", "v3"]],
    ['""', [""]],
  ])("%j may match what it lists", (header, tags) => expect(ifMatch(header)).toEqual(tags));

  test.each<[string, string[]]>([
    ['W/"v3"', []],
    ['W/"v3", "v4"', ["v4"]],
    ['"v4", W/"v3"', ["v4"]],
  ])("%j has weak ETags, which never match", (header, tags) => expect(ifMatch(header)).toEqual(tags));

  test.each([
    "v3",
    '"v3',
    'v3"',
    '"v3" "v4"',
    '"v3"; "v4"',
    '"v3", *',
    '*, "v3"',
    'w/"v3"',
    'W/ "v3"',
    '"a b"',
    "",
    ",",
  ])("%j is not well formed, or lists nothing: nothing matches", (header) => expect(ifMatch(header)).toEqual([]));

  test("a list of more than 64 matches nothing", () => {
    const list = (length: number) => Array.from({ length }, (_, at) => `"v${at}"`).join(", ");
    expect(ifMatch(list(64))).toHaveLength(64);
    expect(ifMatch(list(65))).toEqual([]);
  });
});
