// `maestro disclosure`: the signed pack of one run, by a short-lived link, verified without anyone's help.

import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import type { Command } from "commander";
import type { DisclosureLink } from "../../shared/contract/http-executions.ts";
import { executionId } from "../../shared/contract/http-executions.ts";
import type { Api, LinkWish } from "../api.ts";
import { group, integerFrom, leaf, type Act } from "../command.ts";
import { download } from "../download.ts";
import type { ExitName } from "../exit-codes.ts";
import { errorCode, Failure } from "../failure.ts";
import { requireWritable } from "../folders.ts";
import { interruptedFailure } from "../http.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";
import { offlineKeys, trustedKeys } from "../trusted-keys.ts";

const waitDefaultS = 60;
const pollMinMs = 200;

export function disclosureCommands(program: Command, act: Act): void {
  const disclosure = group(program, "disclosure", "the signed pack of one run");
  leaf(disclosure, "link <execution>", {
    summary: "get a link to the pack; whoever has the link has the pack, until it expires",
    more:
      "It works for 15 minutes, and can be taken back before (maestro disclosure revoke). With --audience it works only " +
      "together with that principal's own credential.",
    examples: [
      "maestro disclosure link exe_01k9x6f6c8a0b1c2d3e4f5g6h7",
      "maestro disclosure link exe_01k9x6f6c8a0b1c2d3e4f5g6h7 --one-time",
      "maestro disclosure link exe_01k9x6f6c8a0b1c2d3e4f5g6h7 --audience pri_01k9x6f6c8a0b1c2d3e4f5g6h7",
    ],
  })
    .option("--one-time", "the first download that reaches the end uses it up")
    .option("--audience <principal>", "the principal who alone may use it")
    .option("--wait <seconds>", "how long to wait while the pack is built", integerFrom(0, 600), waitDefaultS)
    .action(act(link));
  leaf(disclosure, "revoke <grant>", {
    summary: "take a link back, by the grant that it was made with: from then on it is refused",
    examples: ["maestro disclosure revoke grt_01k9x6f6c8a0b1c2d3e4f5g6h7"],
  }).action(act(revoke));
  leaf(disclosure, "get <execution>", {
    summary: "download the pack, resuming what an earlier call began, and check its digest",
    more: "Refused while the API publishes other keys than those that are trusted (maestro audit keys --help).",
    examples: ["maestro disclosure get exe_01k9x6f6c8a0b1c2d3e4f5g6h7 --out pack.zip"],
  })
    .option("--out <file>", "where it goes (default: <execution>.zip in this folder)")
    .option("--wait <seconds>", "how long to wait while the pack is built", integerFrom(0, 600), waitDefaultS)
    .action(act(get));
  leaf(disclosure, "verify <file>", {
    summary: "verify a pack offline: signatures, proofs, receipt, what was in force, appendices",
    more:
      "Says what a pack of version 2 cannot prove: it was made while the log was exported periodically, without proofs. " +
      "Trusts the keys that are remembered since the first use of this API (maestro audit keys --help), or those given with " +
      "--keys; never the keys inside the pack.",
    examples: ["maestro disclosure verify pack.zip", "maestro disclosure verify pack.zip --keys keys.json --json"],
  })
    .option("--keys <file>", "a key set saved from GET /api/audit/keys")
    .action(act(verify));
}

async function link(
  session: Session,
  id: string,
  { wait, ...wish }: { wait: number; oneTime?: boolean; audience?: string },
): Promise<void> {
  const ready = await waitForLink(session, await session.api(), id, wait, wish);
  session.out.result(ready, () => printable(ready.url));
  session.out.note(
    `sha256 ${ready.sha256}, ${ready.bytes} bytes, works until ${ready.expires_at}${ready.one_time ? ", once" : ""}` +
      `${ready.audience === null ? "" : `, for ${ready.audience} alone`}; revoke it by ${ready.grant_id}`,
  );
}

async function revoke(session: Session, grantId: string): Promise<void> {
  const revoked = await (await session.api()).revokeDisclosure(grantId);
  session.out.result(revoked, () => `${revoked.grant_id} is revoked since ${revoked.revoked_at}`);
}

async function waitForLink(
  session: Session,
  api: Api,
  id: string,
  waitS: number,
  wish: LinkWish = {},
): Promise<DisclosureLink> {
  const { host } = session;
  const until = host.now() + waitS * 1000;
  for (;;) {
    const answer = await api.disclosureLink(id, wish);
    if (answer.state === "ready") return answer.link;
    const left = until - host.now();
    if (left <= 0) {
      throw new Failure("unavailable", "The pack is still being built", {
        advice: "Ask again in a moment, or wait longer with --wait.",
      });
    }
    try {
      await host.sleep(Math.min(left, Math.max(pollMinMs, answer.retryAfterMs)), host.interrupted);
    } catch (error) {
      if (host.interrupted.aborted) throw interruptedFailure();
      throw error;
    }
  }
}

async function get(session: Session, id: string, options: { out?: string; wait: number }): Promise<void> {
  // The id becomes a file name, so it has to be one.
  if (!executionId.safeParse(id).success) throw new Failure("usage", "That is not the id of an execution");
  const file = resolve(session.host.cwd, options.out ?? `${id}.zip`);
  await requireWritable(file);
  const api = await session.api();
  // What comes is for `disclosure verify`, without a network: its keys are settled while there is one.
  await trustedKeys(session);
  const ready = await waitForLink(session, api, id, options.wait);
  const progress = session.out.progress("pack", ready.bytes);
  try {
    await download(session.host, { url: ready.url, file, bytes: ready.bytes, sha256: ready.sha256 }, (have) =>
      progress.update(have),
    );
  } finally {
    progress.end();
  }
  session.out.result(
    { execution_id: id, file, bytes: ready.bytes, sha256: ready.sha256, grant_id: ready.grant_id },
    () =>
      session.out.record([
        ["file", file],
        ["bytes", ready.bytes],
        ["sha256", ready.sha256],
      ]),
  );
}

async function verify(session: Session, name: string, options: { keys?: string }): Promise<ExitName> {
  // Loaded here only: the verifier is large, and no other command needs it.
  const { packBytesMax, verifyPack } = await import("../../shared/disclosure/verify.ts");
  const path = resolve(session.host.cwd, name);
  const keys = await offlineKeys(session, options.keys);
  const hash = (bytes: Uint8Array): Uint8Array<ArrayBuffer> =>
    new Uint8Array(createHash("sha256").update(bytes).digest());
  const verdict = await verifyPack(await readPack(path, packBytesMax), keys, hash);
  session.out.result({ verdict: verdict.ok ? "verified" : "failed", ...verdict }, () =>
    verdict.ok
      ? [
          session.out.paint.green("verified"),
          session.out.record(
            Object.entries(verdict.facts)
              .filter(([fact]) => fact !== "not_proven")
              .map(([fact, value]) => [fact.replaceAll("_", " "), value as string | number] as const),
          ),
          ...verdict.facts.not_proven.map((what) => `not proven: ${what}`),
        ].join("\n")
      : `${session.out.paint.red("does not verify")}: ${printable(verdict.reason)}${verdict.file === null ? "" : ` (${printable(verdict.file)})`}`,
  );
  return verdict.ok ? "ok" : "verification_failed";
}

async function readPack(path: string, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const { size } = await stat(path);
    if (size > bytesMax)
      throw new Failure("verification_failed", `The pack has ${size} bytes; the most is ${bytesMax}`);
    return new Uint8Array(await readFile(path));
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure(
      errorCode(error) === "ENOENT" ? "not_found" : "usage",
      `The pack ${path} cannot be read (${errorCode(error) ?? "unknown"})`,
    );
  }
}
