import { expect, test } from "vitest";
import { parseEvent, type AuditEvent } from "../../shared/contract/events.ts";
import { inputOf } from "../../shared/outbox/decided-event.ts";
import { decisionInput, type DecisionInput } from "../../shared/policy/actions.ts";
import { batchMs, DecisionNotes, notesMax, tenantsMax } from "./decision-notes.ts";

const start = Date.parse("2026-11-26T12:00:00.000Z");

const asked = (principal: string, tenant = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001"): DecisionInput =>
  decisionInput("audit.read", {
    tenant_id: tenant,
    tenant: "acme",
    principal_id: principal,
    kind: "person",
    role: "auditor",
    credential: "key",
    fetcher_svids: { registered: false, everywhere: true },
    spiffe_id: null,
    spiffe_domain: null,
  });

function notes() {
  const told: { tenantId: string; events: readonly AuditEvent[] }[] = [];
  const logged: string[] = [];
  const sleepers: { ms: number; wake: () => void }[] = [];
  const running: Promise<void>[] = [];
  let broken = false;
  const made = new DecisionNotes({
    log: (_, message) => void logged.push(message),
    random: (byteCount) => new Uint8Array(byteCount),
    policy_sha256: "a".repeat(64),
    later: (work) => void running.push(work()),
    pause: (ms) => new Promise<void>((resolve) => sleepers.push({ ms, wake: resolve })),
    commit: async (tenantId, events) => {
      if (broken) throw new TypeError("fetch failed");
      told.push({ tenantId, events });
    },
  });
  return {
    made,
    told,
    logged,
    sleepers,
    break: (value: boolean) => void (broken = value),
    /** The batch's time passes for whoever waits now, and what they do is done. */
    pass: async (): Promise<void> => {
      for (const { wake } of sleepers.splice(0)) wake();
      while (running.length > sleepers.length) await running.shift();
    },
  };
}

const principal = (at: number): string => `pri_${String(at).padStart(26, "0")}`;

test("alike reads of a while are one event with their count, first and last, and what was decided on", async () => {
  const { made, told, sleepers, pass } = notes();
  for (const ms of [0, 40, 20]) made.note(asked(principal(1)), "ok", start + ms);
  made.note(asked(principal(2)), "ok", start + 7);
  expect(sleepers.map(({ ms }) => ms)).toEqual([batchMs]);
  await pass();
  const [{ events } = { events: [] }] = told;
  expect(events.map(({ occurred_at, principal: by, attributes }) => [occurred_at, by, attributes])).toMatchObject([
    [
      "2026-11-26T12:00:00.000Z",
      principal(1),
      { action: "audit.read", outcome: "allow", rule: "ok", count: 3, until: "2026-11-26T12:00:00.040Z" },
    ],
    ["2026-11-26T12:00:00.007Z", principal(2), { count: 1, until: "2026-11-26T12:00:00.007Z" }],
  ]);
  for (const event of events) expect(parseEvent(JSON.parse(JSON.stringify(event)))).toMatchObject({ ok: true });
  expect(JSON.parse(inputOf(events[0]!) ?? "")).toEqual(asked(principal(1)));
});

test("tenants are told apart, and what comes after a batch is the next one's", async () => {
  const { made, told, pass } = notes();
  const other = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002";
  made.note(asked(principal(1)), "ok", start);
  made.note(asked(principal(1), other), "ok", start);
  await pass();
  // Which of two tenants is told first depends on which digest is ready first.
  const shares = (from: number): unknown[] =>
    told.slice(from).map(({ tenantId, events }) => [tenantId.at(-1), events.length]);
  expect(new Set(shares(0))).toEqual(
    new Set([
      ["1", 1],
      ["2", 1],
    ]),
  );
  made.note(asked(principal(1)), "ok", start + 1);
  await pass();
  expect(shares(2)).toEqual([["1", 1]]);
});

test("a batch that is full is told at once", async () => {
  const { made, told } = notes();
  for (let at = 0; at < notesMax; at += 1) made.note(asked(principal(at)), "ok", start);
  await expect.poll(() => told.map(({ events }) => events.length)).toEqual([notesMax]);
});

test("what could not be committed is told later, with what came meanwhile", async () => {
  const { made, told, logged, pass, break: breakIt } = notes();
  breakIt(true);
  made.note(asked(principal(1)), "ok", start);
  await pass();
  expect(logged).toEqual(["allowed reads were not told, and wait for the next of the tenant"]);
  made.note(asked(principal(1)), "ok", start + 9);
  breakIt(false);
  await pass();
  expect(told.flatMap(({ events }) => events.map(({ attributes }) => attributes))).toMatchObject([
    { count: 2, until: "2026-11-26T12:00:00.009Z" },
  ]);
});

test("tenants beyond the bound are not noted, and the log says so", () => {
  const { made, logged, sleepers } = notes();
  for (let at = 0; at <= tenantsMax; at += 1) made.note(asked(principal(1), `tenant-${at}`), "ok", start);
  expect(sleepers).toHaveLength(tenantsMax);
  expect(logged).toEqual(["an allowed read was not noted"]);
});
