// Bytes in pieces of any size are the same bytes in one.

import fc from "fast-check";
import { expect, test } from "vitest";
import { concat } from "./bytes.ts";
import { Gathered } from "./gather.ts";

test("what was added is taken whole, in order, once", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 6_000 }), { maxLength: 12 }), fc.nat(12), (pieces, at) => {
      const gathered = new Gathered();
      for (const part of [pieces.slice(0, at), pieces.slice(at)]) {
        for (const piece of part) gathered.add(piece);
        const whole = concat(...part);
        expect(gathered.length).toBe(whole.length);
        expect(gathered.take()).toEqual(whole);
        expect(gathered.length).toBe(0);
      }
    }),
    { numRuns: 200, seed: 49 },
  );
});

test("a piece that is changed after it came changes nothing, and what was taken stays as it is", () => {
  const gathered = new Gathered();
  const piece = new Uint8Array(4_096).fill(1);
  gathered.add(piece);
  piece.fill(2);
  const taken = gathered.take();
  gathered.add(piece);
  expect(new Set(taken)).toEqual(new Set([1]));
});
