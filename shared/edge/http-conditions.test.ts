// Conditional and partial GETs against RFC 9110's own examples and edges.

import { expect, test } from "vitest";
import { decideConditional, type Conditions } from "./http-conditions.ts";

const etag = '"abc"';
const size = 10_000;
const none: Conditions = { ifNoneMatch: null, range: null, ifRange: null };
const decide = (given: Partial<Conditions>, method = "GET", bytes = size) =>
  decideConditional(method, { ...none, ...given }, etag, bytes);

test.each([
  ["bytes=0-499", { status: 206, from: 0, to: 499 }],
  ["bytes=500-999", { status: 206, from: 500, to: 999 }],
  ["bytes=-500", { status: 206, from: 9_500, to: 9_999 }],
  ["bytes=9500-", { status: 206, from: 9_500, to: 9_999 }],
  ["BYTES=0-0", { status: 206, from: 0, to: 0 }],
  ["bytes=0-99999999999999999999", { status: 206, from: 0, to: 9_999 }],
  ["bytes=-99999", { status: 206, from: 0, to: 9_999 }],
])("%s is the part that it names", (range, answer) => {
  expect(decide({ range })).toEqual(answer);
});

test.each(["bytes=10000-", "bytes=99999999999999999999-", "bytes=-0", "bytes=10000-20000"])(
  "%s lies beyond the end",
  (range) => {
    expect(decide({ range })).toEqual({ status: 416 });
  },
);

test.each([
  "bytes=-",
  "bytes=5-4",
  "bytes=0-1,3-4",
  "bytes 0-1",
  "bytes=a-b",
  "items=0-1",
  "",
  `bytes=${"0".repeat(99)}-`,
])("%s is no single range, and passed over", (range) => {
  expect(decide({ range })).toEqual({ status: 200 });
});

test("an empty object has no range that can be satisfied", () => {
  expect(decide({ range: "bytes=0-" }, "GET", 0)).toEqual({ status: 416 });
  expect(decide({ range: "bytes=-1" }, "GET", 0)).toEqual({ status: 416 });
});

test("Range counts for GET alone, and only while If-Range names this very object", () => {
  const range = "bytes=0-0";
  expect(decide({ range }, "HEAD")).toEqual({ status: 200 });
  expect(decide({ range, ifRange: etag })).toEqual({ status: 206, from: 0, to: 0 });
  for (const ifRange of ['"other"', `W/${etag}`, "Thu, 26 Nov 2026 06:00:00 GMT", ""]) {
    expect(decide({ range, ifRange })).toEqual({ status: 200 });
  }
});

test("If-None-Match goes before Range, and compares weakly", () => {
  for (const ifNoneMatch of [etag, `W/${etag}`, `"x",${etag}`, ` "x" , W/${etag} `, "*"]) {
    expect(decide({ ifNoneMatch, range: "bytes=0-0" })).toEqual({ status: 304 });
  }
  for (const ifNoneMatch of ["", '"x"', "abc", '"abc', `w/${etag}`])
    expect(decide({ ifNoneMatch })).toEqual({ status: 200 });
});

test("a list of tags beyond the bound is as good as absent", () => {
  expect(decide({ ifNoneMatch: `${'"x",'.repeat(2_000)}${etag}` })).toEqual({ status: 200 });
});
