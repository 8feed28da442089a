// The rotations of one kind of keys, one after the other: prepare → published → acknowledged → active → tainted → verified →
// revoked. A step goes on when its condition was observed, never because time has passed. Called by
// durable-objects/key-rotation.ts, whose SQLite and alarm it works with; what the steps do is the kind's RotationTarget.
//
// What stands where after a crash at each await; the alarm, or whoever asks next, goes on from there:
//   start, propose, approve, acknowledge,
//   consumers added and removed            one transaction each, with its event and its intent: all of it or none
//   prepare: keys made                     in their ring, unpublished; made once a rotation, a retry finds the same ones
//   prepare: keys found in part            what was found is kept, or not: then it is found anew, before any state was entered
//   prepare: published                     published, and this object does not know it yet: published again, which changes nothing
//   published: consumers looked at         nothing
//   acknowledged: activated                the new keys sign; the state follows with the retry
//   active: tainted                        marked; the same
//   tainted: verified                      what was signed anew stays so; a retry signs the rest
//   verified: revoked                      destroyed, and not believed where compromised; the state follows with the retry
//   any transaction of a state             the state, its time and its event, or none of them

import type { EventAttributes } from "../contract/events.ts";
import {
  consumersMax,
  rotationsListed,
  rotationStates,
  type EmergencyProposal,
  type NamedConsumer,
  type Rotation,
  type Rotated,
  type RotationState,
} from "../contract/http-rotations.ts";
import { newId } from "../contract/ids.ts";
import type { Clock, Log, Random, Sql } from "../contract/ports.ts";
import type { ProblemCode } from "../contract/problems.ts";
import { errorName } from "../outbox/drain.ts";
import { storeUncounted } from "../outbox/object-outbox.ts";
import type { RotationCounts } from "./rotation-metrics.ts";
import type { RotatedKeys } from "./service.ts";
import type { RotationTarget } from "./target.ts";

/** After a step that failed, or whose condition does not hold yet, it is looked at again: in ms. */
const againMs = 2_000;
/** A step that keeps failing is tried ever more rarely, up to here. */
const againMaxMs = 60_000;
const obstacleLengthMax = 500;

export interface RotationsParts {
  readonly sql: Sql;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly rotated: Rotated;
  /** `tenantId`: who started the rotation, and in whose name the target works. */
  readonly target: (tenantId: string) => RotationTarget;
}

/** Who calls; `intent` is the same for the same call sent again, null where nothing tells. */
export interface RotationCall {
  readonly tenant_id: string;
  readonly principal: string;
  readonly intent: string | null;
}

export interface RotationRefused {
  readonly ok: false;
  readonly code: Extract<ProblemCode, "rotation_running" | "rotation_state" | "not_found" | "rotation_consumers_max">;
  readonly detail: string;
}
export type RotationAnswer = { readonly ok: true; readonly rotation: Rotation } | RotationRefused;
export type ProposalAnswer = { readonly ok: true; readonly proposal: EmergencyProposal } | RotationRefused;
export type ConsumerAnswer = { readonly ok: true; readonly consumer: NamedConsumer } | RotationRefused;

interface RotationRow extends Record<string, string | number | null> {
  readonly id: string;
  readonly tenant_id: string;
  readonly state: RotationState;
  readonly started_by: string;
  readonly keys: string | null;
  readonly built_in: string;
  readonly obstacle: string | null;
  readonly failures: number;
  readonly again_at: number;
  readonly reason: string | null;
  readonly proposed_by: string | null;
  readonly proposed_at: number | null;
  readonly approved_by: string | null;
  readonly approved_at: number | null;
}

interface ProposalRow extends Record<string, string | number | null> {
  readonly id: string;
  readonly tenant_id: string;
  readonly reason: string;
  readonly proposed_by: string;
  readonly proposed_at: number;
  readonly breaks: string;
  readonly intent: string | null;
}

const schema = `
  create table if not exists rotations (
    n integer primary key autoincrement, id text not null unique, tenant_id text not null, state text not null,
    started_by text not null, intent text, keys text, built_in text not null default '[]', obstacle text,
    failures integer not null default 0, again_at integer not null default 0,
    reason text, proposed_by text, proposed_at integer, approved_by text, approved_at integer
  );
  create table if not exists transitions (
    rotation text not null, state text not null, at integer not null, primary key (rotation, state)
  );
  create table if not exists consumers (name text primary key, added_by text not null, added_at integer not null);
  create table if not exists acknowledgements (
    rotation text not null, consumer text not null, principal text not null, at integer not null,
    primary key (rotation, consumer)
  );
  -- At most one: an emergency that nobody has approved yet.
  create table if not exists proposals (
    only integer primary key check (only = 1), id text not null, tenant_id text not null, reason text not null,
    proposed_by text not null, proposed_at integer not null, breaks text not null, intent text
  );
`;

const iso = (time: number): string => new Date(time).toISOString();
const noSuch: RotationRefused = { ok: false, code: "not_found", detail: "There is no such rotation." };
const after = (state: RotationState): RotationState => rotationStates[rotationStates.indexOf(state) + 1]!;

export class Rotations {
  readonly #parts: RotationsParts;
  readonly #sql: Sql;
  /** The step that is under way, and what waits behind it. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(parts: RotationsParts) {
    this.#parts = parts;
    this.#sql = parts.sql;
    this.#sql.exec(schema);
  }

  /** Begins one; `advance` takes it on. Refused while one runs. */
  start({ tenant_id, principal, intent }: RotationCall): RotationAnswer {
    const now = this.#parts.clock();
    return this.#sql.transaction((): RotationAnswer => {
      const known = intent === null ? undefined : this.#rows("where intent = ?", intent)[0];
      if (known !== undefined) return this.#answer(known.id);
      const running = this.#running();
      if (running !== null) return isRunning(running);
      return this.#answer(
        this.#begin(newId("rotation", now, this.#parts.random(10)), tenant_id, principal, intent, now),
      );
    });
  }

  /** What an emergency would break is looked at first; nothing happens until another person has approved it. */
  async propose({ tenant_id, principal, intent }: RotationCall, reason: string): Promise<ProposalAnswer> {
    const words = await this.#parts.target(tenant_id).breaks();
    const now = this.#parts.clock();
    return this.#sql.transaction((): ProposalAnswer => {
      const known = this.#proposal();
      if (known !== null && intent !== null && known.intent === intent)
        return { ok: true, proposal: this.#shownProposal(known) };
      const running = this.#running();
      if (running !== null && running.approved_by !== null)
        return { ok: false, code: "rotation_state", detail: `${running.id} is an emergency already.` };
      const unready = running === null ? this.#named().map(({ name }) => name) : this.#waitingFor(running);
      const breaks = [
        ...unready.map(
          (name) => `${name} has not acknowledged the new keys: what they sign it will refuse until it has them.`,
        ),
        ...words,
      ];
      const id = running?.id ?? newId("rotation", now, this.#parts.random(10));
      this.#sql.exec(
        `insert or replace into proposals (only, id, tenant_id, reason, proposed_by, proposed_at, breaks, intent)
         values (1, ?, ?, ?, ?, ?, ?, ?)`,
        id,
        tenant_id,
        reason,
        principal,
        now,
        JSON.stringify(breaks),
        intent,
      );
      this.#tell({ id, tenant_id, keys: running?.keys ?? null }, principal, "proposed", now, []);
      return { ok: true, proposal: this.#shownProposal(this.#proposal()!) };
    });
  }

  /** Who approves is not who proposed: that is decided before this is called. */
  approve({ tenant_id, principal }: RotationCall, id: string): Promise<RotationAnswer> {
    return this.#serially(async (): Promise<RotationAnswer> => {
      const now = this.#parts.clock();
      return this.#sql.transaction((): RotationAnswer => {
        const proposal = this.#proposal();
        const row = this.#rows("where id = ?", id)[0] ?? null;
        if (proposal?.id !== id) {
          if (row === null) return noSuch;
          if (row.approved_by !== null) return this.#answer(id);
          return { ok: false, code: "rotation_state", detail: "No emergency of this rotation was proposed." };
        }
        if (row?.state === "revoked")
          return { ok: false, code: "rotation_state", detail: "The rotation has ended; propose the emergency anew." };
        const running = this.#running();
        if (row === null && running !== null) return isRunning(running);
        if (row === null) this.#begin(id, proposal.tenant_id, proposal.proposed_by, null, now);
        this.#sql.exec(
          `update rotations set reason = ?, proposed_by = ?, proposed_at = ?, approved_by = ?, approved_at = ?, again_at = 0
           where id = ?`,
          proposal.reason,
          proposal.proposed_by,
          proposal.proposed_at,
          principal,
          now,
          id,
        );
        this.#sql.exec("delete from proposals");
        this.#tell({ id, tenant_id, keys: row?.keys ?? null }, principal, "approved", now, []);
        return this.#answer(id);
      });
    });
  }

  /** Of a named consumer, by the kids that it has. Refused where these are not the new ones. */
  acknowledge(call: RotationCall, id: string, consumer: string, kids: readonly string[]): RotationAnswer {
    const now = this.#parts.clock();
    return this.#sql.transaction((): RotationAnswer => {
      const row = this.#rows("where id = ?", id)[0];
      if (row === undefined) return noSuch;
      if (!this.#named().some(({ name }) => name === consumer))
        return { ok: false, code: "not_found", detail: `${consumer} is no consumer of these keys.` };
      const wanted = keysOf(row)?.new ?? [];
      if (wanted.length === 0 || row.state === "prepare")
        return { ok: false, code: "rotation_state", detail: "The new keys are not published yet." };
      const missing = wanted.filter(({ kid }) => !kids.includes(kid));
      if (missing.length > 0)
        return {
          ok: false,
          code: "rotation_state",
          detail: `The consumer has not got ${missing.map(({ kid }) => kid).join(", ")}.`,
        };
      const made = this.#sql.exec(
        "insert or ignore into acknowledgements values (?, ?, ?, ?) returning consumer",
        id,
        consumer,
        call.principal,
        now,
      );
      if (made.length > 0) this.#tellConsumer(call, consumer, "acknowledged", now, id);
      this.#sql.exec("update rotations set again_at = 0 where id = ?", id);
      return this.#answer(id);
    });
  }

  addConsumer(call: RotationCall, name: string): ConsumerAnswer {
    const now = this.#parts.clock();
    return this.#sql.transaction((): ConsumerAnswer => {
      const known = this.#named();
      if (!known.some((one) => one.name === name)) {
        if (known.length >= consumersMax)
          return { ok: false, code: "rotation_consumers_max", detail: `These keys have ${consumersMax} consumers.` };
        this.#sql.exec("insert into consumers values (?, ?, ?)", name, call.principal, now);
        this.#tellConsumer(call, name, "added", now);
      }
      return { ok: true, consumer: this.#named().find((one) => one.name === name)! };
    });
  }

  /** Refused while a rotation waits for it: to go on without it takes an emergency, which takes two persons. */
  removeConsumer(call: RotationCall, name: string): ConsumerAnswer {
    return this.#sql.transaction((): ConsumerAnswer => {
      const known = this.#named().find((one) => one.name === name);
      if (known === undefined) return { ok: false, code: "not_found", detail: "There is no such consumer." };
      const running = this.#running();
      if (running !== null && this.#waitingFor(running).includes(name)) return isRunning(running);
      this.#sql.exec("delete from consumers where name = ?", name);
      this.#tellConsumer(call, name, "removed", this.#parts.clock());
      return { ok: true, consumer: known };
    });
  }

  /** Takes the running rotation as far as it goes. Never throws for a step that failed: that is noted, and tried again. */
  advance(): Promise<void> {
    return this.#serially(async () => {
      // As many turns as there are states.
      for (const _ of rotationStates) {
        const row = this.#running();
        if (row === null || !(await this.#step(row))) return;
      }
    });
  }

  /** Has `advance` look now, however long the last failure asked to wait. */
  resume(id: string): RotationAnswer {
    this.#sql.exec("update rotations set again_at = 0 where id = ?", id);
    return this.show(id);
  }

  show(id: string): RotationAnswer {
    return this.#rows("where id = ?", id).length === 0 ? noSuch : this.#answer(id);
  }

  list(): {
    readonly rotations: Rotation[];
    readonly consumers: NamedConsumer[];
    readonly proposals: EmergencyProposal[];
  } {
    const proposal = this.#proposal();
    return {
      rotations: this.#rows(`order by n desc limit ${rotationsListed}`).map((row) => this.#shown(row)),
      consumers: this.#named(),
      proposals: proposal === null ? [] : [this.#shownProposal(proposal)],
    };
  }

  proposal(id: string): EmergencyProposal | null {
    const found = this.#proposal();
    return found?.id === id ? this.#shownProposal(found) : null;
  }

  /** Of those that the tenant started: how many, and how many of them ended, by how they ended. */
  counts(tenantId: string): RotationCounts["counts"] {
    const [row] = this.#sql.exec<{ started: number; completed: number; emergency: number }>(
      `select count(*) as started, coalesce(sum(state = 'revoked' and approved_by is null), 0) as completed,
         coalesce(sum(state = 'revoked' and approved_by is not null), 0) as emergency
       from rotations where tenant_id = ?`,
      tenantId,
    );
    return { started: row!.started, completed: row!.completed, emergency: row!.emergency };
  }

  /** When `advance` has something to do; null while no rotation runs. */
  nextDue(): number | null {
    const row = this.#running();
    return row === null ? null : Math.max(row.again_at, this.#parts.clock());
  }

  /** Whether it went on: false where its condition does not hold yet, or it failed. */
  async #step(row: RotationRow): Promise<boolean> {
    const { clock, log } = this.#parts;
    try {
      const obstacle = await this.#effect(row);
      if (obstacle === null) return true;
      this.#note(row.id, obstacle, 0, clock() + this.#lookAgainMs(row));
    } catch (error) {
      const failures = row.failures + 1;
      const waitMs = Math.min(againMaxMs, againMs * 2 ** Math.min(10, failures - 1));
      log("error", "a rotation of keys failed in a step, and will be tried again", {
        ...this.#parts.rotated,
        rotation_id: row.id,
        state: row.state,
        error: errorName(error),
        detail: error instanceof Error ? error.message.slice(0, obstacleLengthMax) : "",
      });
      this.#note(row.id, `the step after ${row.state} failed (${errorName(error)})`, failures, clock() + waitMs);
    }
    return false;
  }

  #lookAgainMs(row: RotationRow): number {
    const since = this.#sql.exec<{ at: number }>("select max(at) as at from transitions where rotation = ?", row.id)[0]!
      .at;
    return this.#parts.target(row.tenant_id).lookAgainMs?.(this.#parts.clock() - since) ?? againMs;
  }

  /** The state's work, and the next state; or why not yet. */
  async #effect(row: RotationRow): Promise<string | null> {
    const target = this.#parts.target(row.tenant_id);
    if (row.state === "prepare") {
      const keys = await target.prepare(row.id, keysOf(row));
      if ("obstacle" in keys) {
        if (keys.found !== null)
          this.#sql.exec("update rotations set keys = ? where id = ?", JSON.stringify(keys.found), row.id);
        return keys.obstacle;
      }
      return (await target.publish(row.id, keys)) ?? this.#goOn(row, { ...row, keys: JSON.stringify(keys) });
    }
    const keys = keysOf(row)!;
    switch (row.state) {
      case "published": {
        const builtIn = await target.consumers(keys);
        this.#sql.exec("update rotations set built_in = ? where id = ?", JSON.stringify(builtIn), row.id);
        // Read anew: someone may have acknowledged meanwhile.
        const now = this.#rows("where id = ?", row.id)[0]!;
        const waiting = this.#waitingFor(now);
        const isBlocked = now.approved_by === null ? waiting.length > 0 : builtIn.some(({ holds }) => !holds);
        return isBlocked ? `waiting for ${waiting.join(", ")}` : this.#goOn(row, now);
      }
      case "acknowledged":
        return (await target.activate(row.id, keys)) ?? this.#goOn(row, row);
      case "active":
        return (await target.taint(row.id, keys)) ?? this.#goOn(row, row);
      case "tainted": {
        const missing = await target.verify(row.id, keys, row.approved_by !== null);
        return missing ?? this.#goOn(row, row);
      }
      case "verified": {
        const compromised = row.approved_by !== null;
        // It may have become an emergency since it was verified: then there is more to sign.
        const missing = compromised ? await target.verify(row.id, keys, true) : null;
        if (missing !== null) return missing;
        return (await target.revoke(row.id, keys, compromised)) ?? this.#goOn(row, row);
      }
      default:
        return null;
    }
  }

  /** State, time and event in one transaction. */
  #goOn(from: RotationRow, row: RotationRow): null {
    const state = after(from.state);
    const now = this.#parts.clock();
    this.#sql.transaction(() => {
      this.#sql.exec(
        "update rotations set state = ?, keys = ?, obstacle = null, failures = 0, again_at = 0 where id = ?",
        state,
        row.keys,
        row.id,
      );
      this.#sql.exec("insert or ignore into transitions values (?, ?, ?)", row.id, state, now);
      const proposal = this.#proposal();
      if (state === "revoked" && proposal?.id === row.id) this.#sql.exec("delete from proposals");
      this.#tell(
        row,
        null,
        state,
        now,
        this.#consumers(row).flatMap(({ name, acknowledged_at: at }) => (at === null ? [] : [name])),
      );
    });
    return null;
  }

  #begin(id: string, tenantId: string, principal: string, intent: string | null, now: number): string {
    this.#sql.exec(
      "insert into rotations (id, tenant_id, state, started_by, intent) values (?, ?, 'prepare', ?, ?)",
      id,
      tenantId,
      principal,
      intent,
    );
    this.#sql.exec("insert into transitions values (?, 'prepare', ?)", id, now);
    this.#tell({ id, tenant_id: tenantId, keys: null }, principal, "prepare", now, []);
    return id;
  }

  #tell(
    row: { readonly id: string; readonly tenant_id: string; readonly keys: string | null },
    principal: string | null,
    outcome: EventAttributes<"mc.key.rotation">["outcome"],
    now: number,
    consumers: string[],
  ): void {
    const { random, rotated } = this.#parts;
    const keys = keysOf(row);
    storeUncounted(
      this.#sql,
      { tenant_id: row.tenant_id, principal, source: "rotation", now, random },
      "mc.key.rotation",
      {
        rotation_id: row.id,
        kind: rotated.kind,
        outcome,
        ...toldKeys(rotated, keys),
        consumers: consumers.join(","),
      },
    );
  }

  /** In the log of the tenant whose call it was. */
  #tellConsumer(
    { tenant_id, principal }: RotationCall,
    consumer: string,
    outcome: EventAttributes<"mc.key.consumer">["outcome"],
    now: number,
    rotationId: string | null = null,
  ): void {
    const {
      random,
      rotated: { kind, trust_domain },
    } = this.#parts;
    const context = { tenant_id, principal, source: "rotation", now, random } as const;
    const attributes = {
      kind,
      ...(trust_domain === null ? {} : { trust_domain }),
      consumer,
      outcome,
      rotation_id: rotationId,
    };
    storeUncounted(this.#sql, context, "mc.key.consumer", attributes);
  }

  #note(id: string, obstacle: string, failures: number, againAt: number): void {
    this.#sql.exec(
      "update rotations set obstacle = ?, failures = ?, again_at = ? where id = ?",
      obstacle.slice(0, obstacleLengthMax),
      failures,
      againAt,
      id,
    );
  }

  #rows(where: string, ...values: string[]): RotationRow[] {
    return this.#sql.exec<RotationRow>(`select * from rotations ${where}`, ...values);
  }

  #running(): RotationRow | null {
    return this.#rows("where state <> 'revoked' limit 1")[0] ?? null;
  }

  #proposal(): ProposalRow | null {
    return this.#sql.exec<ProposalRow>("select * from proposals")[0] ?? null;
  }

  #named(): NamedConsumer[] {
    return this.#sql
      .exec<{ name: string; added_by: string; added_at: number }>("select * from consumers order by name")
      .map((row) => ({ ...row, ...this.#parts.rotated, added_at: iso(row.added_at) }));
  }

  #consumers(row: RotationRow): Rotation["consumers"] {
    const [published] = this.#sql.exec<{ at: number }>(
      "select at from transitions where rotation = ? and state = 'published'",
      row.id,
    );
    const builtIn = (JSON.parse(row.built_in) as { name: string; holds: boolean }[]).map(({ name, holds }) => ({
      name,
      built_in: true,
      acknowledged_at: holds && published !== undefined ? iso(published.at) : null,
    }));
    const acknowledged = new Map(
      this.#sql
        .exec<{ consumer: string; at: number }>("select consumer, at from acknowledgements where rotation = ?", row.id)
        .map(({ consumer, at }) => [consumer, iso(at)]),
    );
    const named = this.#named().map(({ name }) => ({
      name,
      built_in: false,
      acknowledged_at: acknowledged.get(name) ?? null,
    }));
    return [...builtIn, ...named];
  }

  #waitingFor(row: RotationRow | null): string[] {
    if (row === null || row.state !== "published") return [];
    return this.#consumers(row).flatMap(({ name, acknowledged_at: at }) => (at === null ? [name] : []));
  }

  #answer(id: string): RotationAnswer {
    return { ok: true, rotation: this.#shown(this.#rows("where id = ?", id)[0]!) };
  }

  #shown(row: RotationRow): Rotation {
    const keys = keysOf(row);
    return {
      id: row.id,
      ...this.#parts.rotated,
      state: row.state,
      started_by: row.started_by,
      old_keys: [...(keys?.old ?? [])],
      new_keys: [...(keys?.new ?? [])],
      consumers: this.#consumers(row),
      waiting_for: this.#waitingFor(row),
      obstacle: row.obstacle,
      emergency:
        row.approved_by === null
          ? null
          : {
              reason: row.reason!,
              proposed_by: row.proposed_by!,
              proposed_at: iso(row.proposed_at!),
              approved_by: row.approved_by,
              approved_at: iso(row.approved_at!),
            },
      transitions: this.#sql
        .exec<{ state: RotationState; at: number }>(
          "select state, at from transitions where rotation = ? order by rowid",
          row.id,
        )
        .map(({ state, at }) => ({ state, at: iso(at) })),
    };
  }

  #shownProposal({ id, reason, proposed_by, proposed_at, breaks }: ProposalRow): EmergencyProposal {
    return {
      id,
      ...this.#parts.rotated,
      reason,
      proposed_by,
      proposed_at: iso(proposed_at),
      breaks: JSON.parse(breaks) as string[],
    };
  }

  /** One after the other: a step, and what would change its course. */
  #serially<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work);
    this.#queue = done.catch(() => undefined);
    return done;
  }
}

const keysOf = ({ keys }: { readonly keys: string | null }): RotatedKeys | null =>
  keys === null ? null : (JSON.parse(keys) as RotatedKeys);

/** Of a trust domain the kids alone would not say which of its two kinds of authorities is meant. */
function toldKeys(
  { trust_domain }: Rotated,
  keys: RotatedKeys | null,
): Pick<
  EventAttributes<"mc.key.rotation">,
  "trust_domain" | "old_kids" | "new_kids" | "old_authorities" | "new_authorities"
> {
  const joined = (list: RotatedKeys["old"], word: (key: RotatedKeys["old"][number]) => string): string =>
    list.map(word).join(",");
  const [old, next] = [keys?.old ?? [], keys?.new ?? []];
  if (trust_domain === null)
    return { old_kids: joined(old, ({ kid }) => kid), new_kids: joined(next, ({ kid }) => kid) };
  const named = ({ slot, kid }: RotatedKeys["old"][number]): string => `${slot}:${kid}`;
  return {
    trust_domain,
    old_kids: "",
    new_kids: "",
    old_authorities: joined(old, named),
    new_authorities: joined(next, named),
  };
}

const isRunning = ({ id, state }: RotationRow): RotationRefused => ({
  ok: false,
  code: "rotation_running",
  detail: `The rotation ${id} is ${state}.`,
});
