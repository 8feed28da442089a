// Asking a witness for its cosignature of the anchor log's checkpoint (https://c2sp.org/tlog-witness, the log's side), and
// checking what it answers: a witness is believed as little as anybody. Called by anchor.ts.

import type { Clock } from "../contract/ports.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { openCosignature } from "./cosignature.ts";
import { parseNote, parseSignatureLines, type VerifierKey } from "./note.ts";
import type { AuditLogApi } from "./service.ts";
import { addCheckpointText, conflictSize } from "./witness.ts";

export interface AnchorWitness {
  /** Where `/add-checkpoint` follows. */
  readonly url: string;
  /** Type 0x04. */
  readonly key: VerifierKey;
}

export interface WitnessReply {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

export interface CosignParts {
  readonly clock: Clock;
  readonly anchorLog: Pick<AuditLogApi, "consistencyProof">;
  /** Posts to the witness; rejects where it does not answer in time, or with too much. */
  readonly ask: (url: string, body: string) => Promise<WitnessReply>;
}

/** A witness answered something that it should not have; the message quotes nothing of it. */
export class WitnessFault extends Error {
  override readonly name = "WitnessFault";
  /** Somebody has to look at once: the witness knows another tree than ours. */
  readonly isSplit: boolean;
  constructor(message: string, isSplit = false) {
    super(message);
    this.isSplit = isSplit;
  }
}

/**
 * The verified signature line of the witness on `note`, which is the checkpoint `head`. `known`: the size that it cosigned
 * last, as far as is known here; where the witness says another, it is asked once more, from there.
 */
export async function requestCosignature(
  parts: CosignParts,
  witness: AnchorWitness,
  known: number,
  head: Checkpoint,
  note: string,
): Promise<string> {
  let reply = await parts.ask(witness.url, await requestText(parts, known, head, note));
  if (reply.status === 409) {
    const size = reply.contentType.split(";")[0]?.trim() === "text/x.tlog.size" ? conflictSize(reply.body) : null;
    if (size === null || size === known) throw new WitnessFault("its conflict names no other size");
    if (size > head.size) throw new WitnessFault("it has cosigned a larger tree than ours", true);
    reply = await parts.ask(witness.url, await requestText(parts, size, head, note));
  }
  if (reply.status === 422) throw new WitnessFault("it does not find our tree consistent", true);
  if (reply.status !== 200) throw new WitnessFault(`it answered ${reply.status}`);
  const text = parseNote(note)?.text ?? "";
  const lines = parseSignatureLines(reply.body);
  // Lines of other keys are left out.
  const cosignature =
    lines === null ? null : await openCosignature(text, lines, witness.key, Math.floor(parts.clock() / 1000));
  if (cosignature?.state !== "valid") throw new WitnessFault("its cosignature does not verify");
  return cosignature.line;
}

async function requestText({ anchorLog }: CosignParts, old: number, head: Checkpoint, note: string): Promise<string> {
  const proof = old === 0 || old === head.size ? [] : await anchorLog.consistencyProof(old, head.size);
  if (proof === null) throw new WitnessFault("the anchor log cannot prove itself to it", true);
  return addCheckpointText(old, proof, note);
}
