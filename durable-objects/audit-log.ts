// A tenant's audit log: hands and alarm around shared/audit/log.ts. Named by the tenant's id; it lives in the audit
// worker's script, which alone has the keys and the bucket.

import { DurableObject } from "cloudflare:workers";
import type { AnchoredHead } from "../shared/audit/anchor-event.ts";
import { TenantLog, type LogParts } from "../shared/audit/log.ts";
import type { AuditLogApi, ContextQuery, GapReport } from "../shared/audit/service.ts";
import { sqlOf } from "./sql.ts";

export type AuditLogParts = Omit<LogParts, "sql">;

export function auditLogObject<Env>(compose: (env: Env) => AuditLogParts) {
  return class AuditLog extends DurableObject<Env> implements AuditLogApi {
    readonly #log: TenantLog;
    readonly #tenantId: string;
    #alarmAt: number | null = null;

    constructor(state: DurableObjectState, env: Env) {
      super(state, env);
      if (state.id.name === undefined) throw new Error("an AuditLog is named by its tenant's id");
      this.#tenantId = state.id.name;
      this.#log = new TenantLog({ ...compose(env), sql: sqlOf(state.storage) });
    }

    async append(events: string[]) {
      const result = this.#log.append(this.#tenantId, events);
      await this.#arm();
      return result;
    }

    async recordGap(report: GapReport) {
      this.#log.recordGap(this.#tenantId, report);
      await this.#arm();
    }

    async appendHeads(heads: AnchoredHead[]) {
      const seqs = this.#log.appendHeads(this.#tenantId, heads);
      await this.#arm();
      return seqs;
    }

    async sealNow() {
      try {
        await this.#log.sealNow();
      } finally {
        await this.#arm();
      }
    }

    async sweep(apiCounted: number | null) {
      if (apiCounted !== null) this.#log.expectCounted(this.#tenantId, "api", apiCounted);
      await this.alarm();
      return this.#log.isIdle();
    }

    override async alarm() {
      this.#alarmAt = null;
      await this.#log.runDue();
      this.ctx.waitUntil(this.#index());
      await this.#arm();
    }

    async checkpoint() {
      return this.#log.checkpoint();
    }

    async ranges(after: string | null, limit: number) {
      return this.#log.ranges(after, limit);
    }

    async rangesOf(seqs: number[]) {
      return this.#log.rangesOf(seqs);
    }

    inclusionProof(seq: number) {
      return this.#log.inclusionProof(seq);
    }

    provenLeaf(seq: number, size: number) {
      return this.#log.provenLeaf(seq, size);
    }

    consistencyProof(size1: number, size2: number) {
      return this.#log.consistencyProof(size1, size2);
    }

    tile(level: number, index: number, width: number) {
      return this.#log.tile(level, index, width);
    }

    eventsOf(executionId: string) {
      return this.#log.eventsOf(executionId);
    }

    leavesOf(seqs: number[]) {
      return this.#log.leavesOf(seqs);
    }

    async context(asked: ContextQuery[]) {
      return this.#log.context(asked);
    }

    proofsAt(seqs: number[], size: number) {
      return this.#log.proofsAt(seqs, size);
    }

    async exportState() {
      return this.#log.exportState();
    }

    /** Apart from the alarm's work: a database that does not answer must not keep the next seal waiting. */
    async #index(): Promise<void> {
      await this.#log.index();
      await this.#arm();
      await Promise.all([this.#log.tellMeter(), this.#sealHours()]);
    }

    async #sealHours(): Promise<void> {
      await this.#log.sealHours();
      await this.#arm();
      await this.#log.tellMeter();
    }

    /** Sets the alarm to the earliest due time; no await before it, so that it commits with what was just written. */
    async #arm(): Promise<void> {
      const due = this.#log.nextDue();
      if (due === null || (this.#alarmAt !== null && this.#alarmAt <= due)) return;
      this.#alarmAt = due;
      await this.ctx.storage.setAlarm(due);
    }
  };
}
