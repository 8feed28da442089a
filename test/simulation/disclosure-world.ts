// A run's whole life in a tenant's log, and what builds packs over it: the log, the bucket and the faults of audit-world.ts.
// For the tests of packs: unit, simulation, and those with foreign programs.

import { downloadZip } from "client-zip";
import { appendReceipts } from "../../shared/audit/append.ts";
import { hashLeaf } from "../../shared/audit/leaf.ts";
import { receiptEventId, receiptStatement, type FinishedEvent } from "../../shared/audit/receipt.ts";
import { sha256 } from "../../workers/audit/hashing.ts";
import { manifestKey } from "../../shared/audit/layout.ts";
import { eventText, type AuditEvent, type EventAttributes, type EventType } from "../../shared/contract/events.ts";
import { hex, sha256 as sha256Of, type Bytes } from "../../shared/contract/bytes.ts";
import type { BuildParts, PackLog } from "../../shared/disclosure/build.ts";
import type { PackFile } from "../../shared/disclosure/pack.ts";
import { newEvent } from "../../shared/outbox/outbox.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { seeded, startTime, tenantId, randomBytes } from "./audit-events.ts";
import type { World } from "./audit-world.ts";

export const executionId = "exe_01k9x6f6c8a0b1c2d3e4f5g6h7";
export const packageName = "tools/probe";
const changeId = "chg_01k9x6f6c8a0b1c2d3e4f5g6h7";
const principal = (letter: string): string => `pri_${letter.repeat(26)}`;
export const [proposer, approver, operator] = [principal("a"), principal("b"), principal("c")];
const digest = (letter: string): string => letter.repeat(64);
const release = { package: packageName, version: "1.0.0", channel: "stable" as const, release_sha256: digest("a") };

/** Makes events one after the other, a second apart, each by someone. */
export class Story {
  readonly #next: () => number;
  now: number;

  constructor(seed = 1, now = startTime - 3_600_000) {
    this.#next = seeded(seed);
    this.now = now;
  }

  tell<T extends EventType>(
    type: T,
    attributes: EventAttributes<T>,
    by: string | null = operator,
    source: AuditEvent["source"] = "api",
  ): string {
    this.now += 1_000;
    const random = (byteCount: number) => randomBytes(this.#next, byteCount);
    return eventText(newEvent({ tenant_id: tenantId, principal: by, source, now: this.now, random }, type, attributes));
  }

  flag(flag: string, outcome: "on" | "off"): string {
    return this.tell("mc.flag.changed", { flag, outcome }, proposer);
  }

  /** Entitlement 7 of the package, four eyes; its release, reviewed; a budget; and what is not in force for version 7. */
  before(): string[] {
    const reviewed = (outcome: "proposed" | "approved" | "applied", version: number | null, by: string) =>
      this.tell("mc.entitlement.reviewed", { change_id: changeId, entitlement_version: version, outcome }, by);
    const changed = (version: number, name = packageName) =>
      this.tell(
        "mc.entitlement.changed",
        { package: name, channel: "stable", allowed: true, entitlement_version: version, outcome: "granted" },
        approver,
      );
    return [
      changed(5),
      this.tell("mc.release.submitted", { ...release, outcome: "in_review" }, proposer),
      this.tell("mc.release.reviewed", { ...release, outcome: "approved" }, approver),
      this.tell("mc.release.published", { ...release, units: 10 }, approver),
      this.tell("mc.privacy.budget_set", { limit_units: 100, leak_units_per_hour: 0 }, proposer, "privacy"),
      reviewed("proposed", null, proposer),
      reviewed("approved", null, approver),
      changed(7),
      reviewed("applied", 7, approver),
      changed(8, "tools/another"),
      this.tell("mc.privacy.budget_set", { limit_units: 500, leak_units_per_hour: 5 }, proposer, "privacy"),
      this.flag("market_channels", "off"),
      this.flag("market_channels", "on"),
    ];
  }

  start(id = executionId, units = 10): string[] {
    const run = { execution_id: id, ...release, input_sha256: null, units };
    const decision = {
      action: "execution.start",
      outcome: "allow" as const,
      rule: "ok",
      package: packageName,
      execution_id: id,
      policy_sha256: digest("b"),
      input_sha256: digest("c"),
    };
    return [
      ...(units === 0
        ? []
        : [this.tell("mc.privacy.reserved", { execution_id: id, units, remaining_units: 490 }, operator, "privacy")]),
      this.tell("mc.policy.decision", decision),
      this.tell("mc.execution.started", { ...run, entitlement_version: 9, policy_sha256: digest("b") }),
    ];
  }

  finish(id = executionId, units = 10, outcome: "succeeded" | "failed" = "succeeded"): string[] {
    const run = { execution_id: id, ...release, input_sha256: null, units };
    const end = { outcome, exit_code: 0, output_sha256: digest("d"), duration_ms: 12 };
    return [
      this.tell("mc.execution.finished", { ...run, ...end }),
      ...(units === 0
        ? []
        : [this.tell("mc.privacy.settled", { execution_id: id, units, remaining_units: 490 }, operator, "privacy")]),
    ];
  }

  /** Later changes: none of them was in force. */
  after(): string[] {
    return [
      this.tell(
        "mc.entitlement.changed",
        { package: packageName, channel: "canary", allowed: false, entitlement_version: 10, outcome: "denied" },
        approver,
      ),
      this.tell("mc.privacy.budget_set", { limit_units: 1, leak_units_per_hour: 0 }, proposer, "privacy"),
    ];
  }
}

/** Has the log sign and log a receipt of a run that has just ended, which says `lies` instead of what the run's last event says. */
export async function logLyingReceipt(
  world: World,
  id: string,
  lies: Readonly<Record<string, unknown>>,
): Promise<void> {
  const leaf = (await world.log.eventsOf(id)).find(({ body }) => body.includes("mc.execution.finished"))!;
  const finished = JSON.parse(leaf.body) as FinishedEvent;
  const honest = receiptStatement(finished, hashLeaf(sha256, leaf.salt, leaf.body));
  const { execution_id, package: name, version, channel, outcome } = finished.attributes;
  const receipt = await signStatement(world.keys.statement, {
    ...honest,
    predicate: { ...honest.predicate, ...lies },
  });
  const attributes = { execution_id, package: name, version, channel, outcome, receipt };
  const logged = { finishedEventId: finished.id, eventId: await receiptEventId(finished.id), attributes };
  appendReceipts(world.parts(), tenantId, [logged], world.now, world.parts().random);
}

export const packArchive = async (files: readonly PackFile[]): Promise<Bytes> => {
  const inputs = files.map(({ name, bytes }) => ({ name, input: bytes, lastModified: new Date("2026-01-01") }));
  return new Uint8Array(await downloadZip(inputs, { buffersAreUTF8: true }).arrayBuffer());
};

export interface Packing extends BuildParts {
  /** Archives that were made, also those that were thrown away. */
  readonly made: Bytes[];
  /** What Postgres would say of runs that the log's object has forgotten. */
  older: readonly number[];
}

/** Over the world as it stands: after `reopen` make another. Each read of the clock while it waits takes the time that it waits. */
export function packing(world: World): Packing {
  const { faults, log } = world;
  const made: Bytes[] = [];
  const around = <T>(name: string, effect: () => T): Promise<Awaited<T>> =>
    faults.around(name, effect) as Promise<Awaited<T>>;
  const packLog: PackLog = {
    sealNow: () => log.sealNow(),
    eventsOf: (id) => around("log.eventsOf", () => log.eventsOf(id)),
    leavesOf: (seqs) => around("log.leavesOf", () => log.leavesOf(seqs)),
    context: (asked) => around("log.context", () => log.context(asked)),
    proofsAt: (seqs, size) => around("log.proofsAt", () => log.proofsAt(seqs, size)),
    rangesOf: (seqs) => around("log.rangesOf", () => log.rangesOf(seqs)),
    exportState: () => around("log.exportState", () => log.exportState()),
  };
  const parts: Packing = {
    made,
    older: [],
    clock: () => world.now,
    sign: (statement) => signStatement(world.keys.statement, statement),
    keys: world.published,
    log: () => packLog,
    manifest: (tenant, range) => world.bucket(faults).get(manifestKey(tenant, range)),
    olderRows: () => around("olderRows", () => parts.older),
    store: {
      find: async (key) => {
        const bytes = await around("store.find", () => world.objects.get(key) ?? null);
        return bytes === null ? null : { sha256: hex(await sha256Of(bytes)), bytes: bytes.length };
      },
      put: (key, bytes) => world.bucket(faults).putIfAbsent(key, bytes, { contentType: "", sha256: "" }),
    },
    archive: async (files) => {
      const bytes = await packArchive(files);
      made.push(bytes);
      return bytes;
    },
    pause: (ms) => {
      world.now += ms;
      return Promise.resolve();
    },
  };
  return parts;
}
