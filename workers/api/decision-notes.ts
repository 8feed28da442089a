// Allows of requests that change nothing, for the log: alike ones of a while are one event with their count. One an isolate,
// told by the door; no request waits for it. What an isolate that dies has not told is lost: a batch's time at most. Denies, and
// allows of changes, do not come this way.

import type { AuditEvent } from "../../shared/contract/events.ts";
import { decidedEvent } from "../../shared/outbox/decided-event.ts";
import { newEvent, type EventContext } from "../../shared/outbox/outbox.ts";
import type { DecisionInput } from "../../shared/policy/actions.ts";
import { errorFacts } from "./middleware/problem.ts";
import type { Log } from "../../shared/contract/ports.ts";

/** A platform lets work go on for 30 s after an answer. */
export const batchMs = 25_000;
/** Different ones of a tenant in one batch; one more, and the batch is told at once. */
export const notesMax = 500;
/** Tenants with something to tell; of more of them it is not noted until some were told, and that is logged. */
export const tenantsMax = 10_000;

export interface DecisionNotesParts {
  readonly log: Log;
  readonly random: EventContext["random"];
  readonly policy_sha256: string;
  /** Goes on with `work` after the answer; it does not reject. */
  later(work: () => Promise<void>): void;
  pause(ms: number): Promise<void>;
  /** Commits the events to the tenant's outbox. Rejects where it could not. */
  commit(tenantId: string, events: readonly AuditEvent[]): Promise<void>;
}

/** `times`: ms since 1970. */
interface Note {
  readonly input: DecisionInput;
  readonly rule: string;
  count: number;
  from: number;
  until: number;
}

type Notes = Map<string, Note>;

export class DecisionNotes {
  readonly #parts: DecisionNotesParts;
  readonly #waiting = new Map<string, Notes>();

  constructor(parts: DecisionNotesParts) {
    this.#parts = parts;
  }

  /** `input`: what was allowed, by role alone. */
  note(input: DecisionInput, rule: string, now: number): void {
    const { tenant_id: tenantId } = input.caller;
    let notes = this.#waiting.get(tenantId);
    if (notes === undefined) {
      if (this.#waiting.size >= tenantsMax) {
        this.#parts.log("warn", "an allowed read was not noted", { tenant_id: tenantId });
        return;
      }
      notes = new Map();
      this.#waiting.set(tenantId, notes);
      this.#parts.later(async () => {
        await this.#parts.pause(batchMs);
        await this.#tell(tenantId);
      });
    }
    add(notes, JSON.stringify([input, rule]), { input, rule, count: 1, from: now, until: now });
    if (notes.size >= notesMax) this.#parts.later(() => this.#tell(tenantId));
  }

  async #tell(tenantId: string): Promise<void> {
    const notes = this.#waiting.get(tenantId);
    if (notes === undefined) return;
    this.#waiting.delete(tenantId);
    try {
      const events = await Promise.all([...notes.values()].map((note) => this.#event(tenantId, note)));
      await this.#parts.commit(tenantId, events);
    } catch (error) {
      this.#parts.log("warn", "allowed reads were not told, and wait for the next of the tenant", {
        tenant_id: tenantId,
        ...errorFacts(error),
      });
      // The next note, or the one that came meanwhile, has them told; without one they end with the isolate.
      this.#putBack(tenantId, notes);
    }
  }

  #putBack(tenantId: string, notes: Notes): void {
    const meanwhile = this.#waiting.get(tenantId);
    if (meanwhile !== undefined) {
      for (const [key, note] of notes) add(meanwhile, key, note);
      return;
    }
    this.#waiting.set(tenantId, notes);
    this.#parts.later(async () => {
      await this.#parts.pause(batchMs);
      await this.#tell(tenantId);
    });
  }

  async #event(tenantId: string, { input, rule, count, from, until }: Note): Promise<AuditEvent> {
    const { random, policy_sha256 } = this.#parts;
    const { action, caller } = input;
    const context = { tenant_id: tenantId, principal: caller.principal_id, source: "api", now: from, random } as const;
    return await decidedEvent(input, (digest) =>
      newEvent(context, "mc.policy.decision", {
        action,
        outcome: "allow",
        rule,
        policy_sha256,
        ...digest,
        count,
        until: new Date(until).toISOString(),
      }),
    );
  }
}

function add(notes: Notes, key: string, note: Note): void {
  const known = notes.get(key);
  if (known === undefined) {
    notes.set(key, { ...note });
    return;
  }
  known.count += note.count;
  known.from = Math.min(known.from, note.from);
  known.until = Math.max(known.until, note.until);
}
