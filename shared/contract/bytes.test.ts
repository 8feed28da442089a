// How long a text is in bytes.

import fc from "fast-check";
import { expect, test } from "vitest";
import { anyText } from "../../test/support/any-text.ts";
import { utf8, utf8Length } from "./bytes.ts";

test("a text's length in bytes is that of its UTF-8, whatever it holds", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), anyText(20)), (text) => {
      expect(utf8Length(text)).toBe(utf8(text).length);
    }),
    { numRuns: 500, seed: 48 },
  );
});
