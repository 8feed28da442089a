// A KeyRotation object's rotations on SQLite, whose process may die at each call of the target, and the keys of a ring that they rotate. Used by
// key-rotation.test.ts and key-emergency.test.ts.

import { createHash } from "node:crypto";
import { onTestFinished } from "vitest";
import { parseEvent } from "../../shared/contract/events.ts";
import { objectOutboxSchema } from "../../shared/outbox/object-outbox.ts";
import type { RotationCall } from "../../shared/rotation/rotation-ledger.ts";
import { Rotations } from "../../shared/rotation/rotations.ts";
import type { RotatedKeys } from "../../shared/rotation/service.ts";
import type { RotationTarget } from "../../shared/rotation/target.ts";
import { durablePlace, openSql, type OpenSql } from "../support/sqlite.ts";
import { randomBytes, seeded, tenantId } from "./audit-events.ts";
import { Death } from "./publisher-world.ts";

export const [alice, bob, carol] = [`pri_${"a".repeat(26)}`, `pri_${"b".repeat(26)}`, `pri_${"c".repeat(26)}`] as const;
export const call = (principal: string = alice, intent: string | null = null): RotationCall => ({
  tenant_id: tenantId,
  principal,
  intent,
});
export const kid = (n: number): string => n.toString(16).padStart(64, "0");

/** Keys as their ring and their verifiers have them. */
export class Keys {
  count = 1;
  signing = 1;
  readonly made = new Map<string, number>();
  readonly published = new Set([1]);
  readonly tainted = new Set<number>();
  readonly destroyed = new Set<number>();
  readonly revoked = new Set<number>();
  readonly withdrawn = new Set<number>();
  /** By which key what is live was signed. */
  live = [1, 1, 1];
  isHeld = true;
  readonly order: string[] = [];
  fail: string | null = null;

  target(death: Death): RotationTarget {
    const does = <T>(name: string, work: () => T): Promise<T> =>
      death.around(() => {
        if (this.fail === name) throw new Error(`${name} failed`);
        this.order.push(name);
        return work();
      });
    const numbers = ({ old, new: next }: RotatedKeys) =>
      [Number(`0x${old[0]!.kid}`), Number(`0x${next[0]!.kid}`)] as const;
    return {
      cancellable: ["prepare", "published"],
      prepare: (rotation) =>
        does("prepare", () => {
          const known = this.made.get(rotation) ?? (this.count += 1);
          this.made.set(rotation, known);
          return { old: [{ slot: "release", kid: kid(this.signing) }], new: [{ slot: "release", kid: kid(known) }] };
        }),
      publish: (_, keys) => does("publish", () => void this.published.add(numbers(keys)[1])),
      consumers: () => does("consumers", () => [{ name: "api", holds: this.isHeld }]),
      activate: (_, keys) => does("activate", () => void (this.signing = numbers(keys)[1])),
      taint: (_, keys) => does("taint", () => void this.tainted.add(numbers(keys)[0])),
      verify: (_, keys) =>
        does("verify", () => {
          const at = this.live.findIndex((by) => by === numbers(keys)[0]);
          if (at < 0) return null;
          this.live[at] = this.signing;
          return "one was signed anew";
        }),
      revoke: (_, keys, compromised) =>
        does("revoke", () => {
          this.destroyed.add(numbers(keys)[0]);
          if (compromised) this.revoked.add(numbers(keys)[0]);
        }),
      withdraw: (rotation) =>
        does("withdraw", () => {
          const known = this.made.get(rotation);
          if (known === this.signing) throw new Error("it signs");
          if (known !== undefined) this.withdrawn.add(known);
          if (known === undefined || !this.published.has(known)) return { old: [], new: [] };
          return { old: [{ slot: "release", kid: kid(this.signing) }], new: [{ slot: "release", kid: kid(known) }] };
        }),
      breaks: () => does("breaks", () => ["Signatures are refused."]),
    };
  }
}

export class RotationWorld {
  now = Date.UTC(2026, 5, 1);
  readonly keys = new Keys();
  readonly logged: string[] = [];
  death = new Death();
  #watched: (() => RotationTarget) | null = null;
  rotations!: Rotations;
  #sql!: OpenSql;
  readonly #path: string;
  readonly #next = seeded(3);

  constructor() {
    const place = durablePlace();
    this.#path = place.path;
    this.reopen();
    onTestFinished(() => {
      this.#sql.close();
      place.forget();
    });
  }

  /** The object anew, on what was durable. */
  reopen(): void {
    (this.#sql as OpenSql | undefined)?.close();
    this.#sql = openSql(this.#path);
    this.#sql.exec(objectOutboxSchema);
    this.death = new Death();
    const { death } = this;
    this.rotations = new Rotations({
      sql: this.#sql,
      clock: () => this.now,
      random: (byteCount) => randomBytes(this.#next, byteCount),
      log: (_, message) => void this.logged.push(message),
      sha256: (bytes) => createHash("sha256").update(bytes).digest(),
      rotated: { kind: "release", trust_domain: null },
      target: () => this.#watched?.() ?? this.keys.target(death),
    });
  }

  /** Another kind of keys than those of a ring. */
  watch(target: () => RotationTarget): void {
    this.#watched = target;
  }

  /** The alarm, as often as it comes. */
  async settle(turnsMax = 20): Promise<void> {
    for (let turns = 0; turns < turnsMax; turns += 1) {
      const due = this.rotations.nextDue();
      if (due === null) return;
      this.now = due;
      await this.rotations.advance();
    }
  }

  started(intent: string | null = null) {
    const answer = this.rotations.start(call(alice, intent));
    if (!answer.ok) throw new Error(answer.detail);
    return answer.rotation;
  }

  shown(id: string) {
    const answer = this.rotations.show(id);
    if (!answer.ok) throw new Error(answer.detail);
    return answer.rotation;
  }

  /** Bob approves what is proposed under this id now. */
  approved(id: string, principal: string = bob) {
    const proposal = this.rotations.proposal(id);
    return this.rotations.approve(call(principal), id, proposal?.proposal_sha256 ?? kid(0));
  }

  events(): { outcome: string; principal: string | null; consumers: string; new_kids: string }[] {
    return this.#eventsOf("mc.key.rotation").map(({ principal, attributes }) => {
      const { outcome, consumers, new_kids } = attributes;
      return { principal, outcome: outcome!, consumers: consumers!, new_kids: new_kids! };
    });
  }

  /** What was proposed and what was approved, by its digest. */
  proposals(): unknown[] {
    return this.#eventsOf("mc.key.rotation").flatMap(({ principal, attributes }) => {
      const { outcome, proposal_sha256 } = attributes;
      return proposal_sha256 === undefined ? [] : [[principal, outcome, proposal_sha256]];
    });
  }

  /** What was done to consumers, in order: by whom, what, to which, and for which rotation. */
  words(): unknown[] {
    return this.#eventsOf("mc.key.consumer").map(({ principal, attributes }) => {
      const { outcome, consumer, rotation_id } = attributes;
      return [principal, outcome, consumer, rotation_id];
    });
  }

  #eventsOf(type: string) {
    return this.#sql
      .exec<{ body: string }>("select body from outbox order by id")
      .map(({ body }) => {
        const event: unknown = JSON.parse(body);
        if (!parseEvent(event).ok) throw new Error(`not of the catalogue: ${body}`);
        return event as { type: string; principal: string; attributes: Record<string, never> };
      })
      .filter((event) => event.type === type);
  }
}
