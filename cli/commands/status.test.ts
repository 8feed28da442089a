import { expect, test } from "vitest";
import type { PublishedKey } from "../../shared/contract/http-audit.ts";
import { signingKeys } from "./status.ts";

const key = (kid: string, times: Partial<PublishedKey>): PublishedKey => ({
  use: "release",
  kid,
  algorithm: "ECDSA-P256-SHA256",
  spki: "",
  not_before: "2026-03-01T00:00:00.000Z",
  ...times,
});

test("a key that was never rotated is as old as its beginning", () => {
  expect(signingKeys([key("a", {})])).toEqual([
    { use: "release", kid: "a", last_rotated_at: "2026-03-01T00:00:00.000Z" },
  ]);
});

test("a key was rotated when the one before it ended, and not when it was first believed", () => {
  const first = key("a", { not_after: "2026-03-05T12:00:00.000Z" });
  const second = key("b", { not_before: "2026-03-05T11:50:00.000Z", not_after: "2026-03-06T12:00:00.000Z" });
  const third = key("c", { not_before: "2026-03-06T11:50:00.000Z" });
  for (const listed of [
    [first, second, third],
    [third, second, first],
  ])
    expect(signingKeys(listed)).toEqual([{ use: "release", kid: "c", last_rotated_at: "2026-03-06T12:00:00.000Z" }]);
});

test("a key that is published and does not sign yet, for whoever a rotation waits for, is not told of as the one that was rotated to", () => {
  const signing = key("a", { not_before: "2026-03-05T11:55:00.000Z" });
  // In force from before it was made on, and so from before the young one that signs.
  const waiting = key("b", { not_before: "2026-03-05T11:50:00.000Z" });
  const later = key("b", { not_before: "2026-03-07T11:50:00.000Z" });
  for (const next of [waiting, later])
    expect(signingKeys([signing, next])).toEqual([
      { use: "release", kid: "a", last_rotated_at: "2026-03-05T11:55:00.000Z" },
    ]);
});

test("a key that was revoked signs nothing, and another use's end is not this one's", () => {
  const revoked = key("a", { revoked_at: "2026-03-05T12:00:00.000Z", not_before: "2026-03-07T00:00:00.000Z" });
  const other = key("x", { use: "link", not_after: "2026-03-08T00:00:00.000Z" });
  expect(signingKeys([revoked, key("b", {}), other])).toEqual([
    { use: "release", kid: "b", last_rotated_at: "2026-03-01T00:00:00.000Z" },
  ]);
});

test("a key that was taken back before it signed is not what the one that signs was rotated to", () => {
  const withdrawn = key("b", {
    not_before: "2026-03-05T11:50:00.000Z",
    not_after: "2026-03-05T11:50:00.000Z",
    revoked_at: "2026-03-05T12:30:00.000Z",
  });
  expect(signingKeys([key("a", {}), withdrawn])).toEqual([
    { use: "release", kid: "a", last_rotated_at: "2026-03-01T00:00:00.000Z" },
  ]);
});
