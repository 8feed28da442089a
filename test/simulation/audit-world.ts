// What the log's simulations run on: seeded events, an in-memory bucket and rows store, and faults that stop the world
// before or after any effect. A stopped world does nothing any more; `reopen` starts the log again on what was durable.

import { canonicalJson, eventText, type EventColumns } from "../../shared/contract/events.ts";
import { base64, hex, sha256 as sha256Of, type Bytes } from "../../shared/contract/bytes.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { Bucket, Sql } from "../../shared/contract/ports.ts";
import type { SealedHours } from "../../shared/audit/hours.ts";
import type { CountReport, HourCount } from "../../shared/contract/event-counts.ts";
import { openTables } from "../../shared/audit/tables.ts";
import { TenantLog, type LogParts } from "../../shared/audit/log.ts";
import type { LogReader } from "../../shared/audit/verify.ts";
import { parseRange, rangeName } from "../../shared/audit/layout.ts";
import { importSigner, type Signer } from "../../shared/signing/keys.ts";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";
import { openSql } from "../support/sqlite.ts";
import { eventAt, randomBytes, seeded, startTime, tenantId } from "./audit-events.ts";

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
export const originPrefix = "maestro.test/log";

export async function newSigner(algorithm: "P-256" | "Ed25519"): Promise<Signer> {
  const parameters = algorithm === "P-256" ? { name: "ECDSA", namedCurve: "P-256" } : { name: "Ed25519" };
  const pair = (await crypto.subtle.generateKey(parameters, true, ["sign", "verify"])) as CryptoKeyPair;
  return await importSigner(JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey)), algorithm);
}

export interface TestKeys {
  readonly checkpoint: Signer;
  readonly statement: Signer;
}

export const newKeys = async (): Promise<TestKeys> => ({
  checkpoint: await newSigner("Ed25519"),
  statement: await newSigner("P-256"),
});

export const publishedKeysOf = ({ checkpoint, statement }: TestKeys): PublishedKeys => ({
  origin_prefix: originPrefix,
  keys: [
    { signer: checkpoint, use: "checkpoint" as const, algorithm: "Ed25519" as const },
    { signer: statement, use: "manifest" as const, algorithm: "ECDSA-P256-SHA256" as const },
    { signer: statement, use: "receipt" as const, algorithm: "ECDSA-P256-SHA256" as const },
    { signer: statement, use: "pack" as const, algorithm: "ECDSA-P256-SHA256" as const },
  ].map(({ signer, use, algorithm }) => ({
    kid: signer.kid,
    use,
    algorithm,
    spki: base64(signer.spki),
    not_before: "2026-01-01T00:00:00.000Z",
  })),
});

export const textsOf = (count: number, next: () => number, from = 0): string[] =>
  Array.from({ length: count }, (_, at) => eventText(eventAt(from + at, next)));

/** Thrown where a test stops the world. */
export class Crash extends Error {
  override readonly name = "Crash";
}

/** Counts effects; at `stopAt` the world stops, just before or just after the effect, and nothing works any more. */
export class Faults {
  readonly stopAt: number;
  steps = 0;
  isStopped = false;
  /** Where an effect of bucket or rows waits for its turn; see `Schedule`. */
  gate: () => Promise<void> = () => Promise.resolve();
  /** Asked at each effect of bucket and rows; true: it fails, as an outage would. */
  fails: (name: string) => "before" | "after" | null = () => null;

  constructor(stopAt = Infinity) {
    this.stopAt = stopAt;
  }

  mark(): void {
    if (this.isStopped) throw new Crash("stopped before");
    this.steps += 1;
    if (this.steps === this.stopAt) {
      this.isStopped = true;
      throw new Crash(`stopped at step ${this.steps}`);
    }
  }

  async around<T>(name: string, effect: () => T): Promise<T> {
    this.mark();
    const failing = this.fails(name);
    if (failing === "before") throw new Error(`${name}: outage`);
    await this.gate();
    if (this.isStopped) throw new Crash("stopped before");
    const result = effect();
    this.mark();
    if (failing === "after") throw new Error(`${name}: answer lost`);
    return result;
  }
}

/**
 * Interleaves work by decision, not by how fast a signature was: each piece of work runs until it stands at a gate or is
 * done, and only `release` lets one go on. So a seed replays.
 */
export class Schedule {
  readonly #waiting: (() => void)[] = [];
  #moving = 0;
  #atRest: () => void = () => undefined;

  readonly gate = (): Promise<void> =>
    new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#stop();
    });

  get waiting(): number {
    return this.#waiting.length;
  }

  /** Starts `work`, and resolves when everything stands at a gate or is done. */
  async start(work: () => Promise<void>): Promise<void> {
    await this.#move(() => {
      void work().finally(() => this.#stop());
    });
  }

  /** Lets the `index`th that waits go on, as `start`. */
  async release(index: number): Promise<void> {
    const [resume] = this.#waiting.splice(index, 1);
    if (resume !== undefined) await this.#move(resume);
  }

  #move(go: () => void): Promise<void> {
    return new Promise((resolve) => {
      this.#moving += 1;
      this.#atRest = resolve;
      go();
    });
  }

  #stop(): void {
    this.#moving -= 1;
    if (this.#moving === 0) this.#atRest();
  }
}

export class World {
  readonly objects = new Map<string, Bytes>();
  /** Leaf hashes by `seq`, as a test recomputed them from the segments. */
  readonly leafHashes = new Map<number, Bytes>();
  /** Writes that the rows' store took, also of rows that it had. */
  writes = 0;
  readonly rows = new Map<number, string>();
  /** Hours that are sealed beside the rows, by hour and type. */
  readonly sealedHours = new Map<string, HourCount>();
  hoursTo: number | null = null;
  /** What the meter was told last. */
  readonly meter = {
    report: null as CountReport | null,
    hours: new Map<string, HourCount>(),
    days: new Map<string, number>(),
  };
  readonly logged: { level: string; message: string }[] = [];
  keys: TestKeys;
  published: PublishedKeys;
  readonly #next: () => number;
  /** The object's database, past all faults. */
  readonly sql: Sql;
  faults: Faults;
  now = startTime;
  log: TenantLog;

  constructor(keys: TestKeys, seed: number, faults = new Faults()) {
    this.keys = keys;
    this.published = publishedKeysOf(keys);
    this.#next = seeded(seed);
    this.sql = openSql(":memory:");
    // The tables are there before faults begin; that they come whole is one transaction's doing.
    openTables(this.sql);
    this.faults = faults;
    this.log = new TenantLog(this.parts());
  }

  /** The log on what was durable, without faults unless given. */
  reopen(faults = new Faults()): void {
    this.faults = faults;
    this.log = new TenantLog(this.parts());
  }

  parts(): LogParts {
    const faults = this.faults;
    const signer = (real: Signer): Signer => ({
      ...real,
      sign: async (bytes) => {
        faults.mark();
        const signature = await real.sign(bytes);
        faults.mark();
        return signature;
      },
    });
    return {
      sql: {
        exec: (query, ...values) => {
          if (faults.isStopped) throw new Crash("stopped before");
          return this.sql.exec(query, ...values);
        },
        transaction: (work) => {
          faults.mark();
          const result = this.sql.transaction(work);
          faults.mark();
          return result;
        },
      },
      sha256,
      gzip,
      bucket: this.bucket(faults),
      log: (level, message) => void this.logged.push({ level, message }),
      originPrefix,
      signed: (_, work) => work({ checkpoint: signer(this.keys.checkpoint), statement: signer(this.keys.statement) }),
      clock: () => this.now,
      random: (byteCount) => {
        if (byteCount > 65_536) throw new RangeError("getRandomValues gives 65,536 bytes a call");
        return randomBytes(this.#next, byteCount);
      },
      rows: {
        write: (rows) =>
          faults.around("rows.write", () => {
            this.writes += 1;
            for (const row of rows) {
              if (row.tenant_id === tenantId && !this.rows.has(row.seq)) this.rows.set(row.seq, canonicalJson(row));
            }
          }),
        seal: (tenant, hours) => faults.around("rows.seal", () => this.#seal(tenant, hours)),
      },
      meter: {
        report: (tenant, report) =>
          faults.around("meter.report", () => {
            if (tenant !== tenantId) return;
            this.meter.report = report;
            for (const count of report.hours) this.meter.hours.set(`${count.hour} ${count.type}`, count);
            for (const { day, type, groups } of report.days) this.meter.days.set(`${day} ${type}`, groups);
          }),
      },
    };
  }

  /** As shared/pql/hours-store.ts: an hour a call, and none where more is sealed than the caller knows of. */
  #seal(tenant: string, { from, to }: { readonly from: number | null; readonly to: number }): SealedHours {
    if (tenant !== tenantId) return { sealed_to: to, hours: [], days: [] };
    const sealedTo = this.hoursTo;
    if (sealedTo === null || (from !== null && sealedTo <= from && sealedTo < to)) {
      const open = [...this.hoursOfRows().values()].filter(({ hour }) => hour >= (sealedTo ?? 0) && hour < to);
      const first = Math.min(...open.map(({ hour }) => hour));
      this.hoursTo = open.length === 0 ? to : first + hourMs;
      for (const count of open)
        if (count.hour === first) this.sealedHours.set(`${count.hour} ${count.type}`, { ...count, groups: 1 });
    }
    const isNew = (at: number, step: number): boolean =>
      at + step <= this.hoursTo! && (from === null || at >= from - (from % step));
    const all = [...this.sealedHours.values()];
    const days = all.map(({ hour, type }) => ({ day: hour - (hour % dayMs), type, groups: 1 }));
    return {
      sealed_to: this.hoursTo!,
      hours: all.filter(({ hour }) => isNew(hour, hourMs)),
      days: days.filter(({ day }) => isNew(day, dayMs)),
    };
  }

  /** The rows that stand, counted. */
  hoursOfRows(): Map<string, HourCount> {
    const counts = new Map<string, HourCount>();
    for (const text of this.rows.values()) {
      const { logged_at: loggedAt, type } = JSON.parse(text) as EventColumns;
      const time = Date.parse(loggedAt);
      const hour = time - (time % hourMs);
      const rows = (counts.get(`${hour} ${type}`)?.rows ?? 0) + 1;
      counts.set(`${hour} ${type}`, { hour, type, rows, groups: 0 });
    }
    return counts;
  }

  /** What the object does behind its alarm. */
  async afterAlarm(): Promise<void> {
    await this.log.index();
    await Promise.all([this.log.tellMeter(), this.log.sealHours()]);
    await this.log.tellMeter();
  }

  bucket(faults: Faults): Bucket {
    return {
      get: (key) => faults.around("bucket.get", () => this.objects.get(key) ?? null),
      digest: async (key) => {
        const bytes = await faults.around("bucket.digest", () => this.objects.get(key) ?? null);
        return bytes === null ? null : hex(await sha256Of(bytes));
      },
      putIfAbsent: (key, bytes) =>
        faults.around("bucket.put", () => {
          if (this.objects.has(key)) return "exists" as const;
          this.objects.set(key, bytes);
          return "created" as const;
        }),
      list: (prefix, { after = "", limit }) =>
        faults.around("bucket.list", () =>
          [...this.objects.keys()]
            .filter((key) => key.startsWith(prefix) && key > after)
            .toSorted()
            .slice(0, limit),
        ),
    };
  }

  /** The log signs with `keys` from now on; those before are published as retired. */
  rotate(keys: TestKeys): void {
    const [at, next] = [new Date(this.now).toISOString(), publishedKeysOf(keys)];
    const retired = this.published.keys.map((key) => ({ not_after: at, ...key }));
    this.published = { ...next, keys: [...next.keys.map((key) => ({ ...key, not_before: at })), ...retired] };
    this.keys = keys;
    this.reopen();
  }

  /** Does what is due, at the times when it is due, until nothing is left; `rounds` bounds it. */
  async settle(rounds = 500): Promise<void> {
    for (let round = 0; round < rounds; round += 1) {
      const due = this.log.nextDue();
      if (due === null) return await this.log.tellMeter();
      this.now = Math.max(this.now, due);
      await this.log.runDue();
      await this.afterAlarm();
    }
    throw new Error("the log does not come to rest");
  }

  get prefix(): string {
    return `${tenantId}/`;
  }

  /** The bucket alone, as a stranger has it. */
  reader(head: string | null = this.log.checkpoint()): LogReader {
    const get = (key: string): Promise<Bytes | null> => Promise.resolve(this.objects.get(this.prefix + key) ?? null);
    return {
      checkpoint: () => Promise.resolve(head),
      ranges: (after) => {
        const names = [...this.objects.keys()]
          .filter((key) => key.startsWith(`${this.prefix}manifest/`))
          .map((key) => key.slice(`${this.prefix}manifest/`.length, -".json".length))
          .toSorted();
        return Promise.resolve(names.filter((name) => after === null || name > after).slice(0, 2));
      },
      manifest: (range) => get(`manifest/${range}.json`),
      segment: (range) => get(`seg/${range}.parquet`),
      tile: (path) => get(`tile/${path}`),
    };
  }

  segmentRanges(): string[] {
    return [...this.objects.keys()]
      .filter((key) => key.startsWith(`${this.prefix}seg/`))
      .map((key) => key.slice(`${this.prefix}seg/`.length, -".parquet".length))
      .toSorted();
  }
}

export const nameOfRange = (from: number, to: number): string => rangeName({ from, to });
export const rangeOfName = (name: string): { from: number; to: number } => parseRange(name)!;
