// What serving makes of metadata that is not what it should be: nothing.

import { expect, test } from "vitest";
import { utf8 } from "../contract/bytes.ts";
import { readSnapshot, readTargets, readTimestamp } from "./served-metadata.ts";

const digest = "a".repeat(64);
const file = (signed: unknown): Uint8Array => utf8(JSON.stringify({ signed, signatures: [] }));
const timestamp = (more: object = {}): Uint8Array =>
  file({
    _type: "timestamp",
    version: 3,
    expires: "2026-11-26T07:00:00Z",
    meta: { "snapshot.json": { version: 3, hashes: { sha256: digest } } },
    ...more,
  });

test("a timestamp names a snapshot and says until when", () => {
  expect(readTimestamp(timestamp())).toEqual({
    expiresAt: Date.parse("2026-11-26T07:00:00Z"),
    snapshot: { version: 3, digest },
  });
  expect(readTimestamp(timestamp({ meta: { "snapshot.json": { version: 3 } } }))?.snapshot).toEqual({
    version: 3,
    digest: null,
  });
});

test.each([
  ["no JSON", utf8("{")],
  ["not UTF-8", new Uint8Array([0xff, 0xfe])],
  ["null", utf8("null")],
  ["a list", utf8("[]")],
  ["nothing signed", utf8("{}")],
  ["another role", timestamp({ _type: "snapshot" })],
  ["no expiry", timestamp({ expires: undefined })],
  ["an expiry that is no time", timestamp({ expires: "soon" })],
  ["no snapshot", timestamp({ meta: {} })],
  ["a version that is a text", timestamp({ meta: { "snapshot.json": { version: "3" } } })],
  ["a version below one", timestamp({ meta: { "snapshot.json": { version: 0 } } })],
  ["a hash that is none", timestamp({ meta: { "snapshot.json": { version: 3, hashes: { sha256: "abc" } } } })],
  ["hashes without SHA-256", timestamp({ meta: { "snapshot.json": { version: 3, hashes: {} } } })],
])("a timestamp that is %s is none", (_, bytes) => {
  expect(readTimestamp(bytes)).toBeNull();
});

test("snapshot and targets count only under the version that names them", () => {
  const snapshot = file({ _type: "snapshot", version: 4, meta: { "targets.json": { version: 9 } } });
  expect(readSnapshot(snapshot, 4)).toEqual({ version: 9, digest: null });
  expect(readSnapshot(snapshot, 5)).toBeNull();
  const targets = file({
    _type: "targets",
    version: 9,
    targets: { "gateway/stable/bundle.tar.gz": { length: 1, hashes: { sha256: digest } } },
  });
  expect(readTargets(targets, 9)).toEqual(new Map([["gateway/stable/bundle.tar.gz", digest]]));
  expect(readTargets(targets, 8)).toBeNull();
  expect(readTargets(file({ _type: "targets", version: 9, targets: { x: { length: 1 } } }), 9)).toBeNull();
  expect(readTargets(file({ _type: "targets", version: 9 }), 9)).toBeNull();
});
