// The check of generated files against files that are older than their source, or edited.

import { expect, test } from "vitest";
import { generatedComplaints, type GeneratedFile } from "./check-generated.ts";

const file = (changes: Partial<GeneratedFile>): GeneratedFile => ({
  path: "made.js",
  source: "source.peggy",
  sourceDigest: () => Promise.resolve("a"),
  recordedDigest: () => Promise.resolve("a"),
  isUnedited: () => Promise.resolve(true),
  ...changes,
});

test("a file made of today's source is not complained of", async () => {
  expect(await generatedComplaints([file({})])).toEqual([]);
});

test("a file made of another source is found", async () => {
  expect(await generatedComplaints([file({ recordedDigest: () => Promise.resolve("b") })])).toHaveLength(1);
  expect(await generatedComplaints([file({ recordedDigest: () => Promise.resolve(null) })])).toHaveLength(1);
});

test("a file edited by hand is found", async () => {
  expect(await generatedComplaints([file({ isUnedited: () => Promise.resolve(false) })])).toHaveLength(1);
});

test("a file that is missing is found", async () => {
  expect(await generatedComplaints([file({ recordedDigest: () => Promise.reject(new Error("ENOENT")) })])).toHaveLength(
    1,
  );
});
