// What a leaf may say: nothing that no column shows, and no time that never was.

import { expect, test } from "vitest";
import { eventAt, seeded } from "../../test/simulation/audit-events.ts";
import { canonicalJson, eventText } from "../contract/events.ts";
import { timestamp } from "../contract/names.ts";
import { leafBody, parseLeaf } from "./leaf.ts";

const body = leafBody(eventAt(0, seeded(1)), 7, Date.parse("2026-04-13T16:00:00.000Z"));

test("a leaf as the log writes it is read back", () => {
  expect(parseLeaf(body)).toMatchObject({ ok: true, event: { seq: 7, logged_at: "2026-04-13T16:00:00.000Z" } });
});

test("a leaf is the RFC 8785 text of its event with seq and time, whether the event's text is at hand or not", () => {
  const next = seeded(2);
  for (let at = 0; at < 200; at += 1) {
    const event = eventAt(at, next);
    const whole = canonicalJson({ ...event, seq: at, logged_at: "2026-04-13T16:00:00.000Z" });
    const now = Date.parse("2026-04-13T16:00:00.000Z");
    expect(leafBody(event, at, now)).toBe(whole);
    expect(leafBody(event, at, now, eventText(event))).toBe(whole);
    // Text that is no canonical text of an event is of no use, and does no harm.
    expect(leafBody(event, at, now, JSON.stringify(event))).toBe(whole);
  }
});

// JSON.parse makes `__proto__` a member like any other; schemas, strict ones too, do not see it.
const hidden = body.replace('"attributes":{', '"attributes":{"__proto__":{"name":"a person"},');
test.each([
  ["a hidden attribute", hidden],
  ["a hidden member", body.replace('"attributes":', '"__proto__":{},"attributes":')],
  ["a member twice", body.replace('"attributes":', '"attributes":{},"attributes":')],
  ["spaces", body.replace(",", ", ")],
  ["an unknown member", body.replace('"id":', '"hue":1,"id":')],
  ["a negative seq", body.replace('"seq":7', '"seq":-7')],
  ["a time that never was", body.replace('"logged_at":"2026-04-13', '"logged_at":"2026-02-30')],
  ["an event's time that never was", body.replace(/"occurred_at":"[^"]*"/, '"occurred_at":"2026-13-45T99:99:99.999Z"')],
])("a leaf with %s is refused", (_, text) => {
  expect(text).not.toBe(body);
  expect(parseLeaf(text).ok).toBe(false);
});

test("a leaf whose text JSON cannot carry is refused, not thrown at whoever verifies", () => {
  const receipt = {
    mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
    verificationMaterial: { publicKey: { hint: "k" } },
    dsseEnvelope: { payloadType: "x", payload: "", signatures: [{ sig: "\ud800", keyid: "k" }] },
  };
  const run = { execution_id: `exe_${"0".repeat(26)}`, package: "a", version: "1.0.0", channel: "stable" };
  const attributes = { ...run, outcome: "succeeded", receipt };
  const leaf = { ...(JSON.parse(body) as object), type: "mc.receipt.signed", attributes };
  expect(parseLeaf(JSON.stringify(leaf)).ok).toBe(false);
});

test("a timestamp is a time that exists, from 1970 to 9999", () => {
  const isTime = (text: string): boolean => timestamp.safeParse(text).success;
  expect(["1970-01-01T00:00:00.000Z", "2024-02-29T23:59:59.999Z", "9999-12-31T23:59:59.999Z"].every(isTime)).toBe(true);
  for (const text of [
    "1969-12-31T23:59:59.999Z",
    "0000-01-01T00:00:00.000Z",
    "2023-02-29T00:00:00.000Z",
    "2026-13-01T00:00:00.000Z",
    "2026-01-01T24:00:00.000Z",
    "2026-01-01T00:00:60.000Z",
    "2026-01-01T00:00:00Z",
    "",
  ]) {
    expect(isTime(text), text).toBe(false);
  }
});
