// Has the signer sign a tenant's targets, snapshot and timestamp, and believes no signature that the root does not name a key
// for. Called by publisher.ts. A signature that was not kept names nothing, and Ed25519 signs the same again.

import type { Log } from "../contract/ports.ts";
import { errorName } from "../outbox/drain.ts";
import type { PublisherState, SignedRow, SigningReason } from "./publisher-state.ts";
import type { Refused, SignedTuf } from "./service.ts";
import {
  documentText,
  snapshotOf,
  targetsOf,
  timestampOf,
  type OnlineRole,
  type OnlineSigned,
  type RootDocument,
  type TargetsSigned,
  type TufKey,
} from "./tuf.ts";
import { countSignatures } from "./tuf-keys.ts";

export interface SigningParts {
  readonly tenantId: string;
  readonly log: Log;
  readonly signTuf: (signed: OnlineSigned) => Promise<SignedTuf>;
  readonly tufKeys: () => Promise<Record<OnlineRole, TufKey>>;
}

export interface SignedText {
  readonly signed: OnlineSigned;
  readonly text: string;
}

/** What is to be signed beside what names it; nothing: the timestamp alone. */
export interface SigningWish {
  readonly targets?: TargetsSigned["targets"];
  readonly snapshot?: true;
  /** The root whose keys count, where it is not the one in force. */
  readonly root?: RootDocument;
}

/** Why nothing is signed; the message is for whoever asked for it. */
class NotSigned extends Error {
  override readonly name = "NotSigned";
  readonly reason: SigningReason;

  constructor(reason: SigningReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** What the operator has to know, and to do. */
const whatToDo = {
  signer_unavailable:
    "nothing is signed: the signer does not answer. Look at the signer worker and its secrets; fetchers refuse what has expired",
  signer_refused:
    "nothing is signed: the signer refused what it was asked for. Deploy API and signer in one version; fetchers refuse what has expired",
  keys_changed:
    "nothing is signed: the root does not name the signer's keys. An admin has to run `maestro policy root rotate`, or the signer to get its old secrets back; fetchers refuse what has expired",
} as const satisfies Record<SigningReason, string>;

export const rootMissing: Refused = {
  ok: false,
  code: "policy_root_missing",
  detail: "The tenant's policies have no root of trust yet.",
};
export const signerAway: Refused = {
  ok: false,
  code: "policy_unavailable",
  detail: "The signer did not sign. Nothing was changed.",
};

export class Signing {
  readonly #parts: SigningParts;
  readonly #state: PublisherState;

  constructor(parts: SigningParts, state: PublisherState) {
    this.#parts = parts;
    this.#state = state;
  }

  /** The signer's keys for this tenant; null where it does not answer. */
  async keys(): Promise<Record<OnlineRole, TufKey> | null> {
    return await this.#parts.tufKeys().catch((error: unknown) => {
      this.#tell("signer_unavailable", error);
      return null;
    });
  }

  #tell(reason: SigningReason, error: unknown): void {
    const { tenantId, log } = this.#parts;
    log("error", whatToDo[reason], { tenant_id: tenantId, reason, error: errorName(error) });
  }

  /**
   * The documents that a change makes, signed: targets where they change, and what names them. Under the root given, else
   * the one in force. A value where the signer did not sign: then the log has what to do, and the state since when.
   */
  async sign(next: SigningWish, now: number): Promise<SignedText[] | Refused> {
    const root = next.root ?? this.#state.root;
    if (root === null) return rootMissing;
    const before = this.#state.documents();
    const documents: SignedText[] = [];
    const sign = async (signed: OnlineSigned): Promise<{ version: number; text: string }> => {
      const text = await this.#signOne(signed, root);
      documents.push({ signed, text });
      return { version: signed.version, text };
    };
    const versionOf = (role: OnlineRole): number => (before?.[role].version ?? 0) + 1;
    try {
      let targets: Pick<SignedRow, "version" | "text"> | undefined = before?.targets;
      let snapshot: Pick<SignedRow, "version" | "text"> | undefined = before?.snapshot;
      if (next.targets !== undefined || targets === undefined)
        targets = await sign(targetsOf(versionOf("targets"), next.targets ?? {}, now));
      if (next.targets !== undefined || next.snapshot === true || snapshot === undefined)
        snapshot = await sign(await snapshotOf(versionOf("snapshot"), targets, now));
      await sign(await timestampOf(versionOf("timestamp"), snapshot, now));
      this.#state.forgetSigningTrouble();
      return documents;
    } catch (error) {
      const reason = error instanceof NotSigned ? error.reason : "signer_unavailable";
      this.#state.noteSigningTrouble(reason, now);
      this.#tell(reason, error);
      return error instanceof NotSigned && reason === "keys_changed"
        ? { ok: false, code: "policy_keys_changed", detail: error.message }
        : signerAway;
    }
  }

  async #signOne(signed: OnlineSigned, { signed: root }: RootDocument): Promise<string> {
    const answer = await this.#parts.signTuf(signed);
    if (!answer.ok)
      throw new NotSigned("signer_refused", `the signer refused to sign ${signed._type}: ${answer.reason}`);
    const { keyids, threshold } = root.roles[signed._type];
    if ((await countSignatures(signed, [answer.signature], keyids, root.keys)) < threshold)
      throw new NotSigned("keys_changed", `Root ${root.version} does not name the signer's ${signed._type} key.`);
    return documentText({ signed, signatures: [answer.signature] });
  }
}
