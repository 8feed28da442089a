import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { parseEvent } from "../contract/events.ts";
import { utf8 } from "../contract/bytes.ts";
import { canonicalJson, eventText } from "../contract/events.ts";
import { newEvent, outboxInsert, shardOf, withSourceSeq } from "./outbox.ts";

const context = {
  tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  principal: null,
  source: "api",
  now: Date.UTC(2026, 3, 13),
  random: (count: number) => new Uint8Array(randomBytes(count)),
} as const;

test("a new event fits the catalogue and comes back from the wire as it was", () => {
  const event = newEvent(context, "mc.privacy.budget_set", { limit_units: 5, leak_units_per_hour: 1 });
  expect(parseEvent(JSON.parse(JSON.stringify(event)))).toEqual({ ok: true, event });
});

test("an event that does not fit the catalogue is refused before anything is sent", () => {
  const event = newEvent(context, "mc.privacy.budget_set", { limit_units: -1, leak_units_per_hour: 1 });
  expect(() => outboxInsert([event], 2)).toThrow(/limit_units/);
  const free = newEvent(context, "mc.policy.decision", {
    action: "execution.start",
    outcome: "deny",
    rule: "Jane Doe asked for it",
    policy_sha256: "0".repeat(64),
    input_sha256: "0".repeat(64),
  });
  expect(() => outboxInsert([free], 2)).toThrow(/at rule/);
});

test("an event beyond 48 KiB is refused before anything is sent, wherever it comes from", () => {
  const receipt = (payload: string) => ({
    mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json" as const,
    verificationMaterial: { publicKey: { hint: "k" } },
    dsseEnvelope: { payloadType: "x", payload, signatures: [{ sig: "s", keyid: "k" }] },
  });
  const event = (payload: string) =>
    newEvent(context, "mc.receipt.signed", {
      execution_id: `exe_${"0".repeat(26)}`,
      package: "tools/a",
      version: "1.0.0",
      channel: "stable",
      outcome: "succeeded",
      receipt: receipt(payload),
    });
  const room = 48 * 1024 - utf8(eventText(event(""))).length - 80;
  expect(() => outboxInsert([event("x".repeat(room))], 2)).not.toThrow();
  expect(() => outboxInsert([event("x".repeat(room + 1))], 2)).toThrow(RangeError);
  // In bytes, not in characters.
  expect(() => outboxInsert([event("€".repeat(room / 2))], 2)).toThrow(RangeError);
});

test("an event gets its number in its text, which stays canonical, whatever its attributes say", () => {
  const event = newEvent(context, "mc.privacy.budget_set", { limit_units: 5, leak_units_per_hour: 1 });
  expect(withSourceSeq(eventText(event), 7)).toBe(canonicalJson({ ...event, source_seq: 7 }));
  // No attribute of the catalogue can hold this; the splice does not rely on that.
  const odd = canonicalJson({
    ...event,
    attributes: { text: 'x"source_seq":null,', nested: { source_seq: null, z: 1 } },
  });
  expect(JSON.parse(withSourceSeq(odd, 7))).toEqual({ ...(JSON.parse(odd) as object), source_seq: 7 });
});

test("an event that its source has counted keeps its number", () => {
  const text = eventText(newEvent(context, "mc.privacy.budget_set", { limit_units: 5, leak_units_per_hour: 1 }, 3));
  expect(withSourceSeq(text, 7)).toBe(text);
  const odd = canonicalJson({ attributes: { nested: { source_seq: null, z: 1 } }, source_seq: 3, type: "x" });
  expect(withSourceSeq(odd, 7)).toBe(odd);
});

test("tenants spread over the shards, each always to the same one", () => {
  const counts = [0, 0, 0, 0];
  for (let at = 0; at < 4_000; at += 1) {
    const id = `7f0c2d9e-5a53-4d2f-9a0b-${at.toString(16).padStart(12, "0")}`;
    expect(shardOf(id, 4)).toBe(shardOf(id, 4));
    counts[shardOf(id, 4)]! += 1;
  }
  for (const count of counts) expect(count).toBeGreaterThan(700);
});
