// The consumers' decisions: which message is acknowledged, which comes again, what is told to be lost.

import { beforeEach, describe, expect, test } from "vitest";
import { eventAt, seeded, tenantId } from "../../test/simulation/audit-events.ts";
import { parseEvent } from "../../shared/contract/events.ts";
import type { AuditLogApi, GapReport } from "../../shared/audit/service.ts";
import { consume, consumeDead, type ConsumerParts, type QueueMessage } from "./consumer.ts";

const otherId = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002";
const next = seeded(1);
const eventsOf = (tenant: string, count: number, from = 0) =>
  Array.from({ length: count }, (_, at) => eventAt((from + at) * 3, next, tenant));

/** Fits the catalogue, and has no canonical text: half of a character. */
const receiptOf = (event: object): object => {
  const run = { execution_id: `exe_${"0".repeat(26)}`, package: "a", version: "1.0.0", channel: "stable" };
  const receipt = {
    mediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
    verificationMaterial: { publicKey: { hint: "k" } },
    dsseEnvelope: { payloadType: "x", payload: "", signatures: [{ sig: "\ud800", keyid: "k" }] },
  };
  return { ...event, type: "mc.receipt.signed", attributes: { ...run, outcome: "succeeded", receipt } };
};

interface Outcome {
  readonly acks: string[];
  readonly retries: Map<string, number>;
}
let outcome: Outcome;
let appended: Map<string, string[]>;
let gaps: [string, GapReport][];
let kept: Map<string, string>;
let lines: string[];
/** Tenants whose log fails. */
let down: Set<string>;
let parts: ConsumerParts;
beforeEach(() => {
  outcome = { acks: [], retries: new Map() };
  appended = new Map();
  gaps = [];
  kept = new Map();
  lines = [];
  down = new Set();
  parts = {
    auditLog: (tenant): Pick<AuditLogApi, "append" | "recordGap"> => ({
      append: (texts) => {
        if (down.has(tenant)) return Promise.reject(new Error("out of reach"));
        appended.set(tenant, [...(appended.get(tenant) ?? []), ...texts]);
        return Promise.resolve({ appended: texts.length, duplicates: 0, conflicts: 0 });
      },
      recordGap: (report) => {
        if (down.has(`${tenant} gaps`)) return Promise.reject(new Error("out of reach"));
        gaps.push([tenant, report]);
        return Promise.resolve();
      },
    }),
    activity: { note: () => Promise.resolve() },
    keepAside: (sha256, text) => {
      if (down.has("bucket")) return Promise.reject(new Error("out of reach"));
      kept.set(sha256, text);
      return Promise.resolve();
    },
    log: (level, message, fields) => void lines.push(JSON.stringify({ level, message, ...fields })),
  };
});

const messages = (...bodies: unknown[]): QueueMessage[] =>
  bodies.map((body, at) => ({
    id: `m${at}`,
    body,
    attempts: 3,
    ack: () => void outcome.acks.push(`m${at}`),
    retry: ({ delaySeconds }) => void outcome.retries.set(`m${at}`, delaySeconds),
  }));

describe("a batch", () => {
  test("of one tenant that fails holds no other tenant's messages up; only messages with its events come again", async () => {
    down.add(otherId);
    const [mine, theirs] = [eventsOf(tenantId, 2), eventsOf(otherId, 2)];
    await consume(messages(JSON.stringify(mine), JSON.stringify(theirs), JSON.stringify([...mine, ...theirs])), parts);
    expect(outcome.acks).toEqual(["m0"]);
    expect([...outcome.retries]).toEqual([
      ["m1", 4],
      ["m2", 4],
    ]);
    expect(appended.get(tenantId)).toHaveLength(4);
  });

  test("with what only the log itself may write, whole and well-formed, has it refused and told: nobody signs or loses for it", async () => {
    const [good, bad] = eventsOf(tenantId, 2);
    const own = { first_event_id: null, message_sha256: "a".repeat(64), event_count: 1, rule: "source_counter" };
    const head = { log_sha256: "a".repeat(64), tree_size: 1, root_sha256: "b".repeat(64) };
    const forged = [
      { ...bad!, type: "mc.log.gap", attributes: own },
      { ...bad!, type: "mc.log.head", attributes: head },
    ] as const;
    for (const event of forged) expect(parseEvent(event)).toMatchObject({ ok: true });
    await consume(messages(JSON.stringify([good, ...forged])), parts);
    expect(outcome.acks).toEqual(["m0"]);
    expect(appended.get(tenantId)).toHaveLength(1);
    expect(gaps).toMatchObject([[tenantId, { rule: "refused_event", event_count: 2 }]]);
  });

  test("with a tenant's id in another spelling is kept for a person: there is no second log of the same tenant", async () => {
    const [good, bad] = eventsOf(tenantId, 2);
    const shouted = { ...bad!, tenant_id: tenantId.toUpperCase() };
    expect(parseEvent(shouted)).toMatchObject({ ok: true });
    await consume(messages(JSON.stringify([good, shouted])), parts);
    expect([outcome.acks, [...appended.keys()], gaps, kept.size]).toEqual([["m0"], [tenantId], [], 1]);
    expect(lines.join("\n")).toContain("a message cannot be read");
  });

  test("with events that no log will ever take logs the others, keeps the message, and tells the tenant", async () => {
    const [good, bad] = eventsOf(tenantId, 2);
    const refused = [
      { ...bad!, schema_version: 2 },
      { ...bad!, type: "mc.log.gap" },
      { ...bad!, email: "someone@example.com" },
      { ...bad!, attributes: { ...bad!.attributes, package: "x".repeat(60_000) } },
    ];
    await consume(messages(JSON.stringify([good, ...refused])), parts);
    expect(outcome.acks).toEqual(["m0"]);
    expect(appended.get(tenantId)).toHaveLength(1);
    expect(kept.size).toBe(1);
    expect(gaps).toEqual([
      [
        tenantId,
        {
          rule: "refused_event",
          event_ids: refused.map(() => bad!.id),
          event_count: 4,
          message_sha256: [...kept.keys()][0],
        },
      ],
    ]);
  });

  test.each([
    [
      "a time that never was",
      (event: string) => event.replace(/"occurred_at":"[^"]*"/, '"occurred_at":"2026-02-30T10:00:00.000Z"'),
    ],
    [
      "a member that schemas pass over",
      (event: string) => event.replace('"attributes":{', '"attributes":{"__proto__":{"a":1},'),
    ],
    ["a text that JSON cannot carry", (event: string) => JSON.stringify(receiptOf(JSON.parse(event) as object))],
  ])("with an event of %s tells the tenant that it is lost, as a message and as a dead letter", async (_, change) => {
    const [bad, good] = eventsOf(tenantId, 2);
    const text = JSON.stringify(bad);
    expect(change(text)).not.toBe(text);
    const body = `[${change(text)},${JSON.stringify(good)}]`;
    await consume(messages(body), parts);
    await consumeDead(messages(body), parts);
    expect(outcome.acks).toEqual(["m0", "m0"]);
    const ids = (appended.get(tenantId) ?? []).map((logged) => (JSON.parse(logged) as { id: string }).id);
    expect(ids).toEqual([good!.id, good!.id]);
    const gap = { rule: "refused_event", event_ids: [bad!.id], event_count: 1, message_sha256: [...kept.keys()][0] };
    expect(gaps).toEqual([
      [tenantId, gap],
      [tenantId, gap],
    ]);
  });

  test.each([
    ["not text", { a: 1 }],
    ["not JSON", "{"],
    ["no array", "{}"],
    ["of no tenant", JSON.stringify([null, 7, { tenant_id: "7F0C2D9E-5A53-4D2F-9A0B-2F6A1C9F0001" }])],
  ])("with a message that is %s keeps it and raises the alarm, without a word of it", async (_, body) => {
    await consume(messages(body), parts);
    expect(outcome.acks).toEqual(["m0"]);
    expect(kept.size).toBe(1);
    expect(appended.size + gaps.length).toBe(0);
    expect(lines).toHaveLength(1);
    expect(JSON.parse(lines[0]!)).toMatchObject({ level: "error", alarm: true, message_id: "m0" });
  });

  test("that cannot be kept aside comes again", async () => {
    down.add("bucket");
    await consume(messages("{"), parts);
    expect([...outcome.retries.keys()]).toEqual(["m0"]);
  });

  test("never has an event's content in a log line", async () => {
    down.add(tenantId);
    const [event] = eventsOf(tenantId, 1);
    await consume(messages(JSON.stringify([event]), JSON.stringify([{ ...event!, schema_version: 9 }])), parts);
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) expect(line).not.toContain("sbom-inventory");
  });
});

describe("dead letters", () => {
  test("are logged where they can be, and told to be lost where they cannot", async () => {
    down.add(otherId);
    const [mine, theirs] = [eventsOf(tenantId, 2), eventsOf(otherId, 3)];
    await consumeDead(messages(JSON.stringify([...mine, ...theirs])), parts);
    expect(outcome.acks).toEqual(["m0"]);
    expect(appended.get(tenantId)).toHaveLength(2);
    expect(gaps).toEqual([
      [
        otherId,
        {
          rule: "dead_letter",
          event_ids: theirs.map(({ id }) => id),
          event_count: 3,
          message_sha256: [...kept.keys()][0],
        },
      ],
    ]);
  });

  test("come again while not even the loss can be told", async () => {
    down.add(tenantId).add(`${tenantId} gaps`);
    await consumeDead(messages(JSON.stringify(eventsOf(tenantId, 1))), parts);
    expect(outcome.acks).toEqual([]);
    expect(outcome.retries.size).toBe(1);
  });

  test("that cannot be read are kept and acknowledged", async () => {
    await consumeDead(messages("{"), parts);
    expect(outcome.acks).toEqual(["m0"]);
    expect(kept.size).toBe(1);
  });
});
