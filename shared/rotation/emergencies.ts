// Emergencies of a kind of keys: proposed by one person with what they would break, approved by another, who names what they read: a newer proposal
// takes an older one's place, under the same id where it is about the rotation that runs. Called by rotations.ts; each is one transaction with its event.

import type { EmergencyProposal } from "../contract/http-rotations.ts";
import { hex } from "../contract/bytes.ts";
import { newId } from "../contract/ids.ts";
import { isoTime } from "../contract/iso-time.ts";
import { proposalBytes, type ProposalWords } from "../contract/proposal-bytes.ts";
import {
  isRunning,
  keysOf,
  noSuch,
  otherProposal,
  type ProposalAnswer,
  type RotationAnswer,
  type RotationCall,
  type RotationLedger,
  type RotationRow,
} from "./rotation-ledger.ts";
import type { RotationsParts } from "./rotations.ts";
import type { KeyReference, RotatedKeys } from "./service.ts";

interface ProposalRow extends Record<string, string | number | null> {
  readonly id: string;
  readonly tenant_id: string;
  readonly reason: string;
  readonly proposed_by: string;
  readonly proposed_at: number;
  readonly breaks: string;
  readonly intent: string | null;
}

export class Emergencies {
  readonly #ledger: RotationLedger;
  readonly #target: RotationsParts["target"];

  constructor(ledger: RotationLedger, target: RotationsParts["target"]) {
    this.#ledger = ledger;
    this.#target = target;
  }

  /** What an emergency would break is looked at first; nothing happens until another person has approved it. */
  async propose(
    { tenant_id, principal, intent }: RotationCall,
    reason: string,
    wanted: readonly KeyReference[] | null,
  ): Promise<ProposalAnswer> {
    const target = this.#target(tenant_id);
    const named = (await target.emergencyKeys?.(wanted ?? this.#planned()?.old ?? null)) ?? null;
    if (named !== null && !named.ok) return named;
    const words = await target.breaks(named?.keys ?? []);
    const now = this.#ledger.parts.clock();
    return this.#ledger.sql.transaction((): ProposalAnswer => {
      const known = this.#proposal();
      if (known !== null && intent !== null && known.intent === intent)
        return { ok: true, proposal: this.#shownProposal(known) };
      const running = named === null ? (this.#ledger.running()[0] ?? null) : null;
      if (running !== null && running.approved_by !== null)
        return { ok: false, code: "rotation_state", detail: `${running.id} is an emergency already.` };
      if (running?.state === "cancelling") return isRunning(running);
      const breaks = [...this.#unready(running, named !== null), ...words];
      const id = running?.id ?? newId("rotation", now, this.#ledger.parts.random(10));
      this.#ledger.sql.exec(
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
      const keys = named === null ? null : JSON.stringify({ old: named.keys, new: [] } satisfies RotatedKeys);
      this.#ledger.sql.exec("delete from proposed_keys");
      if (keys !== null) this.#ledger.sql.exec("insert into proposed_keys values (?, ?)", id, keys);
      const proposal = this.#shownProposal(this.#proposal()!);
      const told = { id, tenant_id, keys: keys ?? running?.keys ?? null };
      this.#ledger.tell(told, principal, "proposed", now, [], proposal.proposal_sha256);
      return { ok: true, proposal };
    });
  }

  /** `approved`: the digest of what was read. Who approves is not who proposed that: it is decided of the same digest, before this is called. */
  approve({ tenant_id, principal }: RotationCall, id: string, approved: string): RotationAnswer {
    const now = this.#ledger.parts.clock();
    return this.#ledger.sql.transaction((): RotationAnswer => {
      const proposal = this.#proposal();
      const row = this.#ledger.rows("where id = ?", id)[0] ?? null;
      if (proposal?.id !== id) {
        if (row === null) return noSuch;
        if (row.approved_by !== null) return this.#approvedBefore(row, approved);
        return { ok: false, code: "rotation_state", detail: "No emergency of this rotation was proposed." };
      }
      const shown = this.#shownProposal(proposal);
      if (shown.proposal_sha256 !== approved) return otherProposal(shown);
      if (row?.state === "revoked")
        return { ok: false, code: "rotation_state", detail: "The rotation has ended; propose the emergency anew." };
      const keys = this.#proposedKeys(id);
      const [running] = this.#ledger.running();
      if (row === null && running !== undefined && keys === null) return isRunning(running);
      if (row === null) this.#ledger.begin(id, proposal.tenant_id, proposal.proposed_by, null, now, keys);
      this.#ledger.sql.exec(
        `update rotations set reason = ?, proposed_by = ?, proposed_at = ?, approved_by = ?, approved_at = ?, again_at = 0
           where id = ?`,
        proposal.reason,
        proposal.proposed_by,
        proposal.proposed_at,
        principal,
        now,
        id,
      );
      this.#ledger.sql.exec("delete from proposals");
      this.#ledger.sql.exec("delete from proposed_keys");
      this.#ledger.sql.exec("insert into approvals values (?, ?)", id, approved);
      this.#ledger.tell({ id, tenant_id, keys: row?.keys ?? keys }, principal, "approved", now, [], approved);
      return this.#ledger.answer(id);
    });
  }

  /** The same approval again; of another proposal it is none. */
  #approvedBefore({ id }: RotationRow, approved: string): RotationAnswer {
    const named = this.#ledger.approvedProposal(id);
    if (named === null || named === approved) return this.#ledger.answer(id);
    return { ok: false, code: "proposal_changed", detail: `${id} was approved, and by another proposal than yours.` };
  }

  proposal(id: string): EmergencyProposal | null {
    const found = this.#proposal();
    return found?.id === id ? this.#shownProposal(found) : null;
  }

  /** At most one. */
  list(): EmergencyProposal[] {
    const proposal = this.#proposal();
    return proposal === null ? [] : [this.#shownProposal(proposal)];
  }

  /** Within the transaction in which the rotation ends. */
  forget(id: string): void {
    this.#ledger.sql.exec("delete from proposals where id = ?", id);
  }

  /** Within the transaction in which a rotation's new keys sign: what was proposed about those that signed before would hit the new ones. */
  forgetOvertaken(id: string): void {
    this.#ledger.sql.exec("delete from proposals where id <> ? and id not in (select id from proposed_keys)", id);
  }

  /** The keys of the rotation that runs as planned; null where none does, or where they are not known. */
  #planned(): RotatedKeys | null {
    const planned = this.#ledger.running().find(({ approved_by: by }) => by === null);
    return planned === undefined ? null : keysOf(planned);
  }

  /** Of the named consumers; `isBeside`: there are no new keys that they could have. */
  #unready(running: RotationRow | null, isBeside: boolean): string[] {
    if (running === null && isBeside)
      return this.#ledger
        .named()
        .map(({ name }) => `${name} verifies with a bundle of its own: what it believes is yours to change there.`);
    const unready = running === null ? this.#ledger.named().map(({ name }) => name) : this.#ledger.waitingFor(running);
    return unready.map(
      (name) => `${name} has not acknowledged the new keys: what they sign it will refuse until it has them.`,
    );
  }

  #proposedKeys(id: string): string | null {
    return this.#ledger.sql.exec<{ keys: string }>("select keys from proposed_keys where id = ?", id)[0]?.keys ?? null;
  }

  #proposal(): ProposalRow | null {
    return this.#ledger.sql.exec<ProposalRow>("select * from proposals")[0] ?? null;
  }

  #shownProposal({ id, reason, proposed_by, proposed_at, breaks }: ProposalRow): EmergencyProposal {
    const words: ProposalWords = {
      id,
      ...this.#ledger.parts.rotated,
      old_keys: [...(keysOf({ keys: this.#proposedKeys(id) })?.old ?? [])],
      reason,
      proposed_by,
      proposed_at: isoTime(proposed_at),
      breaks: JSON.parse(breaks) as string[],
    };
    return { ...words, proposal_sha256: hex(this.#ledger.parts.sha256(proposalBytes(words))) };
  }
}
