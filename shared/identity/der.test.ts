import { expect, test } from "vitest";
import { hexBytes } from "../contract/bytes.ts";
import { checkWellFormed, derTag, readWhole, type DerReader } from "./der.ts";
import { checkedNow } from "./refusal.ts";

const sectionOf = (hexText: string, read: (reader: DerReader) => unknown): string => {
  const result = checkedNow(() => readWhole(hexBytes(hexText), "it", read));
  return result.ok ? `taken: ${String(result.value)}` : result.refusal.section;
};
const any = (reader: DerReader): number => reader.any().contents.length;
const unsigned = (reader: DerReader): string => [...reader.unsigned()].join(" ");
const oid = (reader: DerReader): string => reader.objectIdentifier();
const bits = (reader: DerReader): string => [...reader.bits()].join(" ");

test.each([
  ["a length of one byte", "040101", any, "taken: 1"],
  ["a long length", `0481ff${"00".repeat(255)}`, any, "taken: 255"],
  ["a length that fits the short form", "04810101", any, "X.690 10.1"],
  ["a length with a leading zero", `048200ff${"00".repeat(255)}`, any, "X.690 10.1"],
  ["an indefinite length", "24800401010000", any, "X.690 10.1"],
  ["a length of five bytes", "04850000000001ff", any, "X.690 8.1.3"],
  ["a length beyond the end", "0402ff", any, "X.690 8.1.3"],
  ["a length near 2^32", "0484ffffffff00", any, "X.690 8.1.3"],
  ["half a length", "0482ff", any, "X.690 8.1"],
  ["a tag alone", "04", any, "X.690 8.1"],
  ["nothing", "", any, "X.690 8.1"],
  ["a tag of several bytes", "1f0101ff", any, "X.690 8.1.2"],
  ["bytes after the end", "04010100", any, "X.690 8.1"],
  ["an end-of-contents mark", "0000", any, "X.690 8.1.5"],
  ["true", "0101ff", (reader: DerReader) => reader.boolean(), "taken: true"],
  ["BER's true", "010101", (reader: DerReader) => reader.boolean(), "X.690 11.1"],
  ["a boolean of two bytes", "0102ffff", (reader: DerReader) => reader.boolean(), "X.690 11.1"],
  ["an integer", "02020080", unsigned, "taken: 128"],
  ["an integer with a spare zero", "0202007f", unsigned, "X.690 8.3.2"],
  ["a negative integer", "020180", unsigned, "X.690 8.3.3"],
  ["an empty integer", "0200", unsigned, "X.690 8.3.1"],
  ["a number above its bound", "02020100", (reader: DerReader) => reader.small(255), "bounds"],
  ["an object identifier", "06062a864886f70d", oid, "taken: 1.2.840.113549"],
  ["one below 2", "0603883703", oid, "taken: 2.999.3"],
  ["one with a spare byte", "06042a80863d", oid, "X.690 8.19.2"],
  ["one without an end", "06022a86", oid, "X.690 8.19"],
  ["an empty one", "0600", oid, "X.690 8.19"],
  ["one beyond 31 bits", "06062a8fffffff7f", oid, "X.690 8.19"],
  ["a bit string", "03020780", bits, "taken: 0"],
  ["one whose unused bits are set", "03020781", bits, "X.690 11.2.1"],
  ["one with eight unused bits", "03020800", bits, "X.690 8.6.2"],
  ["one with unused bits of nothing", "030101", bits, "X.690 8.6.2"],
  ["an empty bit string", "0300", bits, "X.690 8.6.2"],
  ["a signature of no whole bytes", "03020180", (reader: DerReader) => reader.wholeBytes(), "X.690 8.6.2"],
  ["another tag", "0500", (reader: DerReader) => reader.contents(derTag.sequence), "X.690 8.1.2"],
] as const)("%s", (_, text, read, outcome) => {
  expect(sectionOf(text, read)).toBe(outcome);
});

test("what is not understood is still DER all the way down, and not nested without end", () => {
  const nested = (depth: number): string => (depth === 0 ? "0500" : wrap(nested(depth - 1)));
  const wrap = (inner: string): string => `30${(inner.length / 2).toString(16).padStart(2, "0")}${inner}`;
  const outcome = (text: string): string => {
    const result = checkedNow(() => checkWellFormed(hexBytes(text), "it"));
    return result.ok ? "taken" : result.refusal.section;
  };
  expect([outcome(nested(8)), outcome(nested(9)), outcome("30030201"), outcome("3003040201")]).toEqual([
    "taken",
    "bounds",
    "X.690 8.1.3",
    "X.690 8.1.3",
  ]);
});
