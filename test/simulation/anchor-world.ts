// What the anchor's simulations run on: three tenants' logs, the anchor log and the Anchor over one set of
// faults, and three witnesses, all of them real but for what carries a request to them.

import { Anchor, type AnchorParts } from "../../shared/audit/anchor.ts";
import type { WitnessReply } from "../../shared/audit/cosign-request.ts";
import { anchorTenantId } from "../../shared/audit/anchor-event.ts";
import { originOf, verifierKey } from "../../shared/audit/checkpoint.ts";
import { parseVerifierKey, type VerifierKey } from "../../shared/audit/note.ts";
import { addCheckpoint } from "../../shared/audit/witness.ts";
import { utf8 } from "../../shared/contract/bytes.ts";
import { eventText } from "../../shared/contract/events.ts";
import type { Log, Sql } from "../../shared/contract/ports.ts";
import { sha256 } from "../../workers/audit/hashing.ts";
import { openSql } from "../support/sqlite.ts";
import { newWitness, type TestWitness } from "../support/witness.ts";
import { eventAt, seeded, startTime, tenantId } from "./audit-events.ts";
import { Crash, Faults, newKeys, originPrefix, World, type TestKeys } from "./audit-world.ts";

/** The first one's log can be read as `World.reader` gives it. */
export const tenants = [
  tenantId,
  "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002",
  "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0003",
] as const;
export const anchorOrigin = originOf(originPrefix, anchorTenantId);
const minuteMs = 60_000;

type Asked = (witness: TestWitness, body: string) => Promise<WitnessReply>;

export const askReally: Asked = async (witness, body) => {
  const { status, contentType, body: answer } = await addCheckpoint(witness, utf8(body));
  return { status, contentType, body: answer };
};

export class AnchorWorld {
  readonly keys: TestKeys;
  readonly logKey: VerifierKey;
  readonly witnesses: readonly TestWitness[];
  readonly logs = new Map<string, World>();
  /** The anchor log, and the bucket. */
  readonly log: World;
  readonly logged: { level: string; message: string; alarm: unknown; error: unknown }[] = [];
  /** How a witness is asked: by name; for witnesses that are dead, slow or lie. */
  readonly ways = new Map<string, Asked>();
  readonly asked: string[] = [];
  isPostgresUp = true;
  anchor: Anchor;
  readonly #sql = openSql(":memory:");
  readonly #next = seeded(11);
  #at = 0;

  static async make(): Promise<AnchorWorld> {
    const keys = await newKeys();
    const key = (await parseVerifierKey(await verifierKey(anchorOrigin, keys.checkpoint.spki)))!;
    const clock: { world?: AnchorWorld } = {};
    const witnesses = await Promise.all(
      ["w1", "w2", "w3"].map((name) => newWitness(`${name}.example`, [key], () => clock.world?.now ?? startTime)),
    );
    clock.world = new AnchorWorld(keys, key, witnesses);
    return clock.world;
  }

  private constructor(keys: TestKeys, logKey: VerifierKey, witnesses: readonly TestWitness[]) {
    this.keys = keys;
    this.logKey = logKey;
    this.witnesses = witnesses;
    for (const [at, tenant] of tenants.entries()) this.logs.set(tenant, new World(keys, 100 + at));
    this.log = new World(keys, 7);
    this.anchor = new Anchor(this.parts(new Faults()));
  }

  get now(): number {
    return this.log.now;
  }

  /** Both objects on what was durable. */
  reopen(faults = new Faults()): void {
    this.log.reopen(faults);
    this.anchor = new Anchor(this.parts(faults));
  }

  async grow(tenant: string, count = 3): Promise<void> {
    const log = this.logs.get(tenant)!.log;
    const texts = Array.from({ length: count }, () => {
      this.#at += 3;
      return eventText(eventAt(this.#at, this.#next, tenant));
    });
    log.append(tenant, texts);
    await log.sealNow();
  }

  /** What the cron does, each minute. */
  async minute(count = 1): Promise<void> {
    for (let at = 0; at < count; at += 1) {
      this.log.now += minuteMs;
      await this.anchor.collect();
      await this.anchor.cosign();
    }
  }

  /** Until every witness that is well has been asked again, whatever failed before. */
  hour(): Promise<void> {
    this.log.now += 60 * minuteMs;
    return this.minute();
  }

  /** The `mc.log.head` events of the anchor log. */
  async heads(): Promise<{ log_sha256: string; tree_size: number }[]> {
    const heads = [];
    for (let seq = 0; ; seq += 1) {
      const size = Number(this.log.log.checkpoint()?.split("\n")[1] ?? 0);
      if (seq >= size) return heads;
      const proven = await this.log.log.provenLeaf(seq, size);
      heads.push(
        (JSON.parse(proven!.leaf.body) as { attributes: { log_sha256: string; tree_size: number } }).attributes,
      );
    }
  }

  parts(faults: Faults): AnchorParts {
    const { log: anchorLog } = this.log;
    const log: Log = (level, message, fields) =>
      void this.logged.push({ level, message, alarm: fields?.["alarm"], error: fields?.["error"] });
    return {
      sql: watched(this.#sql, faults),
      sha256,
      log,
      originPrefix,
      clock: () => this.now,
      active: async (after, limit) => {
        faults.mark();
        if (!this.isPostgresUp) throw new Error("outage");
        return tenants.filter((tenant) => tenant > after).slice(0, limit);
      },
      checkpointOf: async (tenant) => {
        faults.mark();
        return this.logs.get(tenant)?.log.checkpoint() ?? null;
      },
      anchorLog: {
        appendHeads: async (heads) => anchorLog.appendHeads(anchorTenantId, heads),
        sealNow: () => anchorLog.sealNow(),
        checkpoint: async () => anchorLog.checkpoint(),
        consistencyProof: (size1, size2) => anchorLog.consistencyProof(size1, size2),
        provenLeaf: (seq, size) => anchorLog.provenLeaf(seq, size),
        sweep: async () => {
          await anchorLog.runDue();
          await anchorLog.index();
          return anchorLog.isIdle();
        },
      },
      witnesses: async () => this.witnesses.map(({ name, key }) => ({ url: `https://${name}`, key })),
      ask: async (url, body) => {
        faults.mark();
        const witness = this.witnesses.find(({ name }) => url === `https://${name}`)!;
        this.asked.push(witness.name);
        const reply = await (this.ways.get(witness.name) ?? askReally)(witness, body);
        faults.mark();
        return reply;
      },
      bucket: this.log.bucket(faults),
    };
  }
}

/** Every write that is durable by itself, and every transaction, is a place to stop at, before and after. */
function watched(sql: Sql, faults: Faults): Sql {
  let isInside = false;
  return {
    exec: (query, ...values) => {
      if (faults.isStopped) throw new Crash("stopped before");
      const isWrite = !isInside && /^\s*(?:insert|update|delete)/i.test(query);
      if (isWrite) faults.mark();
      const rows = sql.exec<never>(query, ...values);
      if (isWrite) faults.mark();
      return rows;
    },
    transaction: (work) => {
      faults.mark();
      isInside = true;
      try {
        const result = sql.transaction(work);
        faults.mark();
        return result;
      } finally {
        isInside = false;
      }
    },
  };
}
