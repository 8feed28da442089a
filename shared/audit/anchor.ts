// The anchoring of tenants' heads: the core of the LogAnchor object, over its SQLite. Each minute `collect` takes the
// heads that have changed into the anchor log, and `cosign` asks the witnesses for their cosignature of its newest
// checkpoint (https://c2sp.org/tlog-witness). Off the path of any event: whatever fails here is logged and done again the
// next minute. What stands where after a crash: docs/audit/RECOVERY.md.

import { hex, sha256Hex, utf8 } from "../contract/bytes.ts";
import { eachOf } from "../contract/each-of.ts";
import { canonicalJson } from "../contract/events.ts";
import { errorName } from "../outbox/drain.ts";
import { anchoringsMax, type Anchoring } from "../contract/http-audit.ts";
import type { Bucket, Log, Sql } from "../contract/ports.ts";
import { anchorTenantId, logDigest, type AnchoredHead } from "./anchor-event.ts";
import { originOf, parseCheckpoint, type Checkpoint } from "./checkpoint.ts";
import { requestCosignature, WitnessFault, type AnchorWitness, type CosignParts } from "./cosign-request.ts";
import { anchoringKey } from "./layout.ts";
import { parseNote, signaturesBy } from "./note.ts";
import { proofFile } from "./proof-file.ts";
import type { AuditLogApi } from "./service.ts";
import type { Sha256 } from "./tree.ts";

/** A checkpoint has one line of the log's and one of each witness's; 16 are what every reader of notes accepts. */
export const witnessesMax = 15;
/** Logs that one `collect` asks; the next one goes on behind them. */
const activeMax = 500;
/** Of the logs that were anchored before, so many are asked in turn though nothing says that they are active. */
const turnMax = 20;
const atOnce = 16;
const copyEveryMs = 3_600_000;
/** So long the bucket's copy of a head waits for the witnesses that are slow. */
const copyPatienceMs = 600_000;
const copiesMax = 100;
const retryMs = { first: 30_000, most: 3_600_000 };
/** After so many failures in a row someone has to look. */
const alarmFailures = 5;

const schema = `
  create table if not exists heads (
    tenant_id text not null,
    seq integer not null,
    tree_size integer not null,
    root_sha256 text not null,
    anchored_at integer not null,
    note_size integer,
    cosigners integer not null default 0,
    primary key (tenant_id, seq)
  ) without rowid;
  create index if not exists heads_by_cosigners on heads (cosigners, seq);
  create index if not exists heads_by_note on heads (note_size);
  create table if not exists notes (size integer primary key, note text not null, cosigners integer not null);
  create table if not exists witnesses (
    vkey text primary key, size integer not null default 0, failures integer not null default 0, retry_at integer
  ) without rowid;
  create table if not exists copies (tenant_id text primary key, tree_size integer not null, at integer not null) without rowid;
  create table if not exists turns (id integer primary key check (id = 1), active text not null, anchored text not null);
  insert into turns (id, active, anchored) values (1, '', '') on conflict do nothing;
`;

interface HeadRow extends Record<string, string | number | null> {
  readonly tenant_id: string;
  readonly seq: number;
  readonly tree_size: number;
  readonly root_sha256: string;
}

/** A head and the note that most witnesses cosigned of those that cover it, the first such. */
interface CosignedRow extends HeadRow {
  readonly note_size: number;
}

export interface AnchorParts extends CosignParts {
  readonly sql: Sql;
  readonly sha256: Sha256;
  readonly log: Log;
  readonly originPrefix: string;
  /** Logs with something new of late, in order of their ids, strictly after `after`. */
  readonly active: (after: string, limit: number) => Promise<readonly string[]>;
  /** The newest published checkpoint of a tenant's log. */
  readonly checkpointOf: (tenantId: string) => Promise<string | null>;
  readonly anchorLog: Pick<AuditLogApi, "appendHeads" | "sealNow" | "checkpoint" | "provenLeaf" | "sweep"> &
    CosignParts["anchorLog"];
  readonly witnesses: () => Promise<readonly AnchorWitness[]>;
  readonly bucket: Pick<Bucket, "putIfAbsent">;
}

export class Anchor {
  readonly #parts: AnchorParts;
  #collecting: Promise<void> | null = null;
  #cosigning: Promise<void> | null = null;

  constructor(parts: AnchorParts) {
    this.#parts = parts;
    parts.sql.exec(schema);
  }

  /** A call while one is under way waits for that one. */
  collect(): Promise<void> {
    this.#collecting ??= this.#attempt("heads could not be anchored", () => this.#collect()).finally(() => {
      this.#collecting = null;
    });
    return this.#collecting;
  }

  /** As `collect`. */
  cosign(): Promise<void> {
    this.#cosigning ??= this.#attempt("the anchor log could not be cosigned", () => this.#cosign()).finally(() => {
      this.#cosigning = null;
    });
    return this.#cosigning;
  }

  /** Newest head first; an older one follows only where more witnesses cosigned it. */
  async anchorings(tenantId: string): Promise<Anchoring[]> {
    let most = 0;
    const rows = this.#parts.sql
      .exec<CosignedRow & { readonly cosigners: number }>(
        "select * from heads where tenant_id = ? and note_size is not null order by seq desc limit ?",
        tenantId,
        anchoringsMax,
      )
      .filter(({ cosigners }) => {
        const isMore = cosigners > most;
        most = Math.max(most, cosigners);
        return isMore;
      });
    return await Promise.all(rows.map((row) => this.#anchoring(row)));
  }

  async #collect(): Promise<void> {
    const { sql, sha256, anchorLog, clock, log, originPrefix } = this.#parts;
    const turn = sql.exec<{ active: string; anchored: string }>("select active, anchored from turns")[0];
    const active = await this.#active(turn?.active ?? "");
    const inTurn = sql
      .exec<{ tenant_id: string }>(
        "select distinct tenant_id from heads where tenant_id > ? order by tenant_id limit ?",
        turn?.anchored ?? "",
        turnMax,
      )
      .map(({ tenant_id }) => tenant_id);
    const changed: { readonly tenantId: string; readonly head: AnchoredHead }[] = [];
    await eachOf([...new Set([...active, ...inTurn])], atOnce, async (tenantId) => {
      try {
        const head = await this.#changedHead(tenantId);
        if (head !== null) {
          const log_sha256 = logDigest(sha256, originOf(originPrefix, tenantId));
          changed.push({ tenantId, head: { log_sha256, tree_size: head.size, root_sha256: hex(head.root) } });
        }
      } catch (error) {
        log("error", "a log's head could not be read", { tenant_id: tenantId, error: errorName(error) });
      }
    });
    const seqs = changed.length === 0 ? [] : await anchorLog.appendHeads(changed.map(({ head }) => head));
    sql.transaction(() => {
      for (const [at, { tenantId, head }] of changed.entries()) {
        sql.exec(
          `insert into heads (tenant_id, seq, tree_size, root_sha256, anchored_at) values (?, ?, ?, ?, ?)
           on conflict do nothing`,
          tenantId,
          seqs[at] ?? null,
          head.tree_size,
          head.root_sha256,
          clock(),
        );
        // Of no use to anybody: a newer head has as many witnesses.
        sql.exec(
          `delete from heads where tenant_id = ?1 and exists (
             select 1 from heads newer where newer.tenant_id = ?1 and newer.seq > heads.seq and newer.cosigners >= heads.cosigners)`,
          tenantId,
        );
      }
      // A page that was not full was the last one.
      sql.exec(
        "update turns set active = ?, anchored = ?",
        active.length < activeMax ? "" : (active.at(-1) ?? ""),
        inTurn.length < turnMax ? "" : (inTurn.at(-1) ?? ""),
      );
    });
    await (changed.length > 0 ? anchorLog.sealNow() : anchorLog.sweep(null));
  }

  /** Where nobody can say who is active, those whose turn it is are asked all the same. */
  async #active(after: string): Promise<readonly string[]> {
    try {
      return await this.#parts.active(after, activeMax);
    } catch (error) {
      this.#parts.log("warn", "active logs could not be listed for the anchor log", { error: errorName(error) });
      return [];
    }
  }

  async #changedHead(tenantId: string): Promise<Checkpoint | null> {
    const { sql, log, originPrefix, checkpointOf } = this.#parts;
    if (tenantId === anchorTenantId) return null;
    const note = await checkpointOf(tenantId);
    if (note === null) return null;
    const head = parseCheckpoint(note);
    if (head === null || head.origin !== originOf(originPrefix, tenantId))
      throw new TypeError("not a checkpoint of this log");
    const [last] = sql.exec<HeadRow>("select * from heads where tenant_id = ? order by seq desc limit 1", tenantId);
    if (last === undefined || head.size > last.tree_size) return head;
    if (head.size < last.tree_size || hex(head.root) !== last.root_sha256) {
      log("error", "a log contradicts its anchored head", {
        alarm: true,
        tenant_id: tenantId,
        anchored_size: last.tree_size,
        size: head.size,
      });
    }
    return null;
  }

  async #cosign(): Promise<void> {
    const { anchorLog, originPrefix, witnesses: configured } = this.#parts;
    const note = await anchorLog.checkpoint();
    const head = note === null ? null : parseCheckpoint(note);
    if (note === null || head === null) return;
    if (head.origin !== originOf(originPrefix, anchorTenantId))
      throw new TypeError("not a checkpoint of the anchor log");
    const witnesses = await configured();
    await Promise.all(witnesses.map((witness) => this.#askWitness(witness, head, note)));
    this.#forget();
    await this.#copy(witnesses.length);
  }

  /** Never rejects: one witness keeps no other waiting. */
  async #askWitness(witness: AnchorWitness, head: Checkpoint, note: string): Promise<void> {
    const { sql, clock, log } = this.#parts;
    const vkey = witness.key.text;
    sql.exec("insert into witnesses (vkey) values (?) on conflict do nothing", vkey);
    const [state] = sql.exec<{ size: number; failures: number; retry_at: number | null }>(
      "select size, failures, retry_at from witnesses where vkey = ?",
      vkey,
    );
    if (state === undefined || (state.retry_at ?? 0) > clock()) return;
    if (state.size === head.size && this.#hasLine(head.size, witness)) return;
    try {
      const line = await requestCosignature(this.#parts, witness, state.size, head, note);
      sql.transaction(() => this.#keep(witness, head.size, note, line));
    } catch (error) {
      const failures = state.failures + 1;
      sql.exec(
        "update witnesses set failures = ?, retry_at = ? where vkey = ?",
        failures,
        clock() + Math.min(retryMs.most, retryMs.first * 2 ** Math.min(failures - 1, 16)),
        vkey,
      );
      const isSplit = error instanceof WitnessFault && error.isSplit;
      log(isSplit ? "error" : "warn", "a witness did not cosign, will ask again", {
        witness: witness.key.name,
        failures,
        alarm: isSplit || failures >= alarmFailures,
        error: error instanceof WitnessFault ? error.message : errorName(error),
      });
    }
  }

  #hasLine(size: number, { key }: AnchorWitness): boolean {
    const [row] = this.#parts.sql.exec<{ note: string }>("select note from notes where size = ?", size);
    return row !== undefined && signaturesBy(parseNote(row.note)?.signatures ?? [], key).length > 0;
  }

  /** Adds the line to the note of that size, and points heads to it that have fewer witnesses so far. */
  #keep(witness: AnchorWitness, size: number, note: string, line: string): void {
    const { sql } = this.#parts;
    sql.exec("update witnesses set size = ?, failures = 0, retry_at = null where vkey = ?", size, witness.key.text);
    if (this.#hasLine(size, witness)) return;
    const [row] = sql.exec<{ cosigners: number }>(
      `insert into notes (size, note, cosigners) values (?1, ?2 || ?3, 1)
       on conflict (size) do update set note = note || ?3, cosigners = cosigners + 1 returning cosigners`,
      size,
      note,
      line,
    );
    const cosigners = row?.cosigners ?? 1;
    sql.exec("update heads set note_size = ?1, cosigners = ?2 where cosigners < ?2 and seq < ?1", size, cosigners);
  }

  /** Notes that no head points to any more go, but for the newest, which may get more lines. */
  #forget(): void {
    this.#parts.sql.exec(
      `delete from notes where size < (select max(size) from notes)
       and not exists (select 1 from heads where heads.note_size = notes.size)`,
    );
  }

  async #anchoring({ seq, note_size: size }: CosignedRow): Promise<Anchoring> {
    const { sql, anchorLog } = this.#parts;
    const [row] = sql.exec<{ note: string }>("select note from notes where size = ?", size);
    const proven = await anchorLog.provenLeaf(seq, size);
    if (row === undefined || proven === null) throw new Error(`row ${seq} of the anchor log cannot be proven`);
    const { leaf, hashes } = proven;
    return { body: leaf.body, proof: proofFile({ index: seq, salt: leaf.salt, hashes, checkpoint: row.note }) };
  }

  /** Copies for the bucket, put if absent: puts are paid for, so at most one an hour and log. */
  async #copy(witnessCount: number): Promise<void> {
    const { sql, clock, log, bucket } = this.#parts;
    const now = clock();
    // SQLite takes the other columns from the row that has the maximum (https://www.sqlite.org/lang_select.html#bareagg).
    const due = sql.exec<CosignedRow>(
      `select heads.tenant_id, max(seq) as seq, heads.tree_size, root_sha256, note_size from heads
       left join copies on copies.tenant_id = heads.tenant_id
       where note_size is not null and (cosigners >= ? or anchored_at <= ?)
         and (copies.at is null or (copies.at <= ? and copies.tree_size < heads.tree_size))
       group by heads.tenant_id limit ?`,
      witnessCount,
      now - copyPatienceMs,
      now - copyEveryMs,
      copiesMax,
    );
    await eachOf(due, atOnce, async (row) => {
      try {
        const bytes = utf8(canonicalJson(await this.#anchoring(row)));
        const sha256 = await sha256Hex(bytes);
        // What stands there already is this head as well, with the witnesses of its time.
        await bucket.putIfAbsent(anchoringKey(row.tenant_id, row.tree_size), bytes, {
          contentType: "application/json",
          sha256,
        });
        sql.exec(
          `insert into copies (tenant_id, tree_size, at) values (?1, ?2, ?3)
           on conflict (tenant_id) do update set tree_size = ?2, at = ?3`,
          row.tenant_id,
          row.tree_size,
          now,
        );
      } catch (error) {
        log("warn", "an anchoring could not be copied to the bucket", {
          tenant_id: row.tenant_id,
          error: errorName(error),
        });
      }
    });
  }

  async #attempt(what: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#parts.log("error", `${what}, will try again`, { error: errorName(error) });
    }
  }
}
