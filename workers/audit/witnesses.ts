// The audit worker's way to the witnesses: who they are, by configuration, and how they are asked. Called by compose.ts, and
// by the cron through `anchorLogs`.

import { z } from "zod";
import { utf8Text } from "../../shared/contract/bytes.ts";
import type { Log } from "../../shared/contract/ports.ts";
import { witnessesMax } from "../../shared/audit/anchor.ts";
import type { AnchorWitness, WitnessReply } from "../../shared/audit/cosign-request.ts";
import { noteTypes, parseVerifierKey } from "../../shared/audit/note.ts";
import type { LogAnchorApi } from "../../shared/audit/service.ts";
import { errorName } from "../../shared/outbox/drain.ts";

/** A witness that takes longer has not answered; it is asked again later. */
const askMsMax = 5_000;
/** Some signature lines, the largest of them post-quantum. */
const replyBytesMax = 64 * 1024;

const configured = z
  .array(
    z.strictObject({
      url: z
        .url({ protocol: /^https?$/ })
        .refine(
          (text) => /^https:|^http:\/\/(?:127\.0\.0\.1|localhost|\[::1\])[:/]/.test(`${text}/`),
          "http is for this machine only",
        ),
      vkey: z.string(),
    }),
  )
  .max(witnessesMax);

/** The variable WITNESSES, read; throws where it is not a list of witnesses: nobody is asked then. */
export async function readWitnesses(text: string): Promise<AnchorWitness[]> {
  const witnesses: AnchorWitness[] = [];
  for (const { url, vkey } of configured.parse(JSON.parse(text))) {
    const key = await parseVerifierKey(vkey);
    if (key?.type !== noteTypes.cosignature) throw new TypeError("a vkey in WITNESSES is no Ed25519 witness's");
    if (witnesses.some((other) => other.key.text === vkey)) throw new TypeError("a vkey is in WITNESSES twice");
    witnesses.push({ url: url.replace(/\/+$/, ""), key });
  }
  return witnesses;
}

export async function askWitness(url: string, body: string): Promise<WitnessReply> {
  const response = await fetch(`${url}/add-checkpoint`, {
    method: "POST",
    body,
    headers: { "content-type": "text/plain; charset=utf-8" },
    // A redirect is an answer like any other that is not 200.
    redirect: "manual",
    signal: AbortSignal.timeout(askMsMax),
  });
  return {
    status: response.status,
    contentType: response.headers.get("content-type") ?? "",
    body: utf8Text(await boundedBody(response)),
  };
}

async function boundedBody(response: Response): Promise<Uint8Array> {
  const bytes = new Uint8Array(replyBytesMax);
  let size = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    if (size + chunk.length > replyBytesMax) throw new RangeError("the witness answers too much");
    bytes.set(chunk, size);
    size += chunk.length;
  }
  return bytes.subarray(0, size);
}

/** The cron's work; whatever the object throws, the rest of the cron goes on. */
export async function anchorLogs(
  { anchor, log }: { readonly anchor: () => LogAnchorApi; readonly log: Log },
  step: "collect" | "cosign",
): Promise<void> {
  try {
    await anchor()[step]();
  } catch (error) {
    log("error", "the anchor of the logs failed", { step, error: errorName(error) });
  }
}
