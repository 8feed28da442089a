// `maestro audit`: the tenant's log, checked from its bytes.

import { readFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { resolve } from "node:path";
import type { Command } from "commander";
import { tenantId as tenantIdShape } from "../../shared/contract/names.ts";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import { originOf } from "../../shared/audit/checkpoint.ts";
import { parseWitnessPolicy, type WitnessPolicy } from "../../shared/audit/witness-policy.ts";
import { openAnchorings, witnessedVerdict, type OpenedAnchorings } from "../../shared/audit/witnessed.ts";
import { verifyLog, type LogReader, type LogVerdict } from "../../shared/audit/verify.ts";
import { group, integerFrom, leaf, type Act } from "../command.ts";
import type { ExitName } from "../exit-codes.ts";
import { errorCode, Failure } from "../failure.ts";
import { requireFolderPlace, requireWritable, writePrivate } from "../folders.ts";
import { gzip, sha256 } from "../hashing.ts";
import type { Host } from "../host.ts";
import { interruptedFailure } from "../http.ts";
import { openBucket, parseBucketUrl } from "../bucket.ts";
import { apiLog, bucketLog, folderLog, mirrored, tenantIn, tenantInBucket } from "../log-readers.ts";
import { printable } from "../output.ts";
import { rememberedHead, rememberHead } from "../remembered-heads.ts";
import { segmentPool } from "../segment-pool.ts";
import type { Session } from "../session.ts";
import { acceptKeys, offlineKeys, trustedKeys } from "../trusted-keys.ts";

export function auditCommands(program: Command, act: Act): void {
  const audit = group(program, "audit", "the tenant's audit log");
  leaf(audit, "keys", {
    summary: "show the keys that sign log, receipts, packs and releases",
    more:
      "The first set that an API publishes is trusted and remembered; `run`, `audit verify` and `disclosure get` do the same. " +
      "From then on a new key is trusted where one that is trusted endorsed it, and an end or a revocation is remembered. Another " +
      "set is refused (exit code 7), until --accept takes its place. Before that, compare the kids with the announcement of the " +
      "rotation, which must have reached you by another way than this API.",
    examples: ["maestro audit keys", "maestro audit keys --out keys.json", "maestro audit keys --accept"],
  })
    .option("--accept", "trust what the API publishes now, instead of what is remembered")
    .option("--out <file>", "also write the key set there")
    .action(act(showKeys));
  leaf(audit, "verify", {
    summary: "recompute the whole log: rows, tree, signatures; exit code 7 where it does not verify",
    more:
      "Verifies with the keys that are trusted since the first use of this API (maestro audit keys --help).\n\n" +
      "--bucket reads R2, S3 or what speaks like them, with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, unless it is R2, " +
      "AWS_REGION; a key that may read objects and list them is enough. A bucket holds no served checkpoint: the newest " +
      "manifest in it is its head.\n\n" +
      "VERIFIED     all of it, and it continues the head that was remembered from the last time\n" +
      "VERIFIED-TO  all of it up to a row; no head was remembered, so that later rows would not be missed\n" +
      "GAP          something signed is not there\n" +
      "TAMPERED     something is there that was not signed\n" +
      "DIVERGED     two signed heads that cannot both be true\n" +
      "UNWITNESSED  all of it, but fewer witnesses agree than the policy of --witnesses asks for\n\n" +
      "With --witnesses, a quorum of witnesses stands in for a remembered head: the log must have every row that was " +
      "anchored, and the verdict says how many agreed and since when. The file is a C2SP tlog-policy.",
    examples: [
      "maestro audit verify",
      "maestro audit verify --out ./log-copy",
      "maestro audit verify --witnesses policy.txt",
      "maestro audit verify --dir ./log-copy --keys keys.json --json",
      "maestro audit verify --bucket https://<account>.r2.cloudflarestorage.com/mc-audit --keys keys.json",
    ],
  })
    .option("--dir <dir>", "verify a folder laid out like the bucket, without a network")
    .option(
      "--bucket <url>",
      "verify the bucket itself, past the API: https://<account>.r2.cloudflarestorage.com/<bucket>",
    )
    .option("--tenant <id>", "with --dir or --bucket: whose log")
    .option("--out <dir>", "keep a copy of what was verified, laid out like the bucket")
    .option("--keys <file>", "a key set saved from GET /api/audit/keys")
    .option("--witnesses <file>", "a policy: which witnesses are known, and how many have to agree")
    .option(
      "--threads <count>",
      "how many threads compute; one for each processor unless told",
      integerFrom(1, threadsMax),
    )
    .action(act(verify));
}

async function showKeys(session: Session, options: { accept?: boolean; out?: string }): Promise<void> {
  const file = options.out === undefined ? null : resolve(session.host.cwd, options.out);
  if (file !== null) await requireWritable(file);
  const { accepted, replaced } =
    options.accept === true ? await acceptKeys(session) : { accepted: await trustedKeys(session), replaced: null };
  if (file !== null) await writePrivate(file, `${JSON.stringify(accepted, null, 2)}\n`);
  session.out.result(options.accept === true ? { ...accepted, replaced } : accepted, () =>
    replaced === null ? keyTable(session, accepted) : replacement(session, replaced, accepted),
  );
}

const keyTable = (session: Session, { keys }: PublishedKeys): string =>
  session.out.table(
    ["use", "algorithm", "kid", "since", "until", "revoked"],
    keys.map((key) => [key.use, key.algorithm, key.kid, key.not_before, key.not_after ?? "", key.revoked_at ?? ""]),
  );

const replacement = (session: Session, before: PublishedKeys, now: PublishedKeys): string =>
  [
    session.out.paint.dim("trusted until now"),
    keyTable(session, before),
    "",
    session.out.paint.green("trusted from now on"),
    keyTable(session, now),
  ].join("\n");

/** Each takes up to a quarter of a gigabyte. */
const threadsMax = 8;

interface VerifyOptions {
  readonly dir?: string;
  readonly bucket?: string;
  readonly tenant?: string;
  readonly out?: string;
  readonly keys?: string;
  readonly witnesses?: string;
  readonly threads?: number;
}

async function verify(session: Session, options: VerifyOptions): Promise<ExitName> {
  const { host, out } = session;
  if (options.dir === undefined && options.out !== undefined) await requireFolderPlace(resolve(host.cwd, options.out));
  const { reader, tenantId } = await logOf(session, options);
  const keys =
    options.keys === undefined && options.dir === undefined && options.bucket === undefined
      ? await trustedKeys(session)
      : await offlineKeys(session, options.keys);
  const origin = originOf(keys.origin_prefix, tenantId);
  const remembered = await rememberedHead(host, origin);
  const policy = options.witnesses === undefined ? null : await policyIn(resolve(host.cwd, options.witnesses));
  // Before the log: a head that is anchored later may be beyond the checkpoint that is read now.
  const anchorings = policy === null && options.out === undefined ? [] : ((await reader.anchorings?.()) ?? []);
  const opened =
    policy === null ? null : await openAnchorings(anchorings, { tenantId, keys, policy, sha256, now: host.now() });
  let total: number | null = null;
  let progress = out.progress("rows", 0);
  const segments = segmentPool(options.threads ?? Math.min(threadsMax, availableParallelism()), { sha256, gzip });
  const onProgress = (rows: number, all: number): void => {
    if (all !== total) {
      total = all;
      progress = out.progress("rows", all);
    }
    progress.update(rows);
  };
  const witnessed = opened?.ok === true ? opened.witnessed.heads : [];
  let found: LogVerdict;
  try {
    const verifying = verifyLog(reader, { tenantId, keys, sha256, gzip, remembered, witnessed, segments, onProgress });
    found = await unlessInterrupted(host, verifying);
  } finally {
    progress.end();
    await segments.close();
  }
  const verdict = policy === null || opened === null ? found : lastWord(found, opened, policy);
  if (verdict.head !== null && verdict.head.size > (remembered?.size ?? 0))
    await rememberHead(host, origin, verdict.head);
  out.result({ ...verdict, tenant_id: tenantId, remembered }, () => verdictText(session, verdict));
  return verdict.head === null ? "verification_failed" : "ok";
}

async function policyIn(path: string): Promise<WitnessPolicy> {
  const bytes = await readFile(path).catch((error: unknown) => {
    throw new Failure("usage", `The policy ${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  });
  const parsed = await parseWitnessPolicy(bytes);
  if (parsed.ok) return parsed.policy;
  throw new Failure("usage", `${path} is not a policy of witnesses: ${printable(parsed.reason)}`, {
    advice:
      "The format is C2SP's tlog-policy: lines of log, witness, group and one quorum (https://c2sp.org/tlog-policy).",
  });
}

/** What the log is found to be, and then what the witnesses say of it. */
function lastWord(found: LogVerdict, opened: OpenedAnchorings, policy: WitnessPolicy): LogVerdict {
  if (opened.ok) return witnessedVerdict(found, opened.witnessed, policy);
  // A fault in the log itself is the first thing to say.
  return found.head === null ? found : { ...found, verdict: "TAMPERED", reason: opened.reason, head: null };
}

/** `work`, or at once a failure when the person has had enough. */
async function unlessInterrupted<T>(host: Host, work: Promise<T>): Promise<T> {
  const { interrupted } = host;
  return await new Promise<T>((resolve, reject) => {
    const stop = (): void => reject(interruptedFailure());
    if (interrupted.aborted) stop();
    interrupted.addEventListener("abort", stop, { once: true });
    work.then(resolve, reject).finally(() => interrupted.removeEventListener("abort", stop));
  });
}

async function logOf(session: Session, options: VerifyOptions): Promise<{ reader: LogReader; tenantId: string }> {
  const { host } = session;
  const kept = (reader: LogReader, tenantId: string): { reader: LogReader; tenantId: string } => ({
    reader: options.out === undefined ? reader : mirrored(reader, tenantId, resolve(host.cwd, options.out)),
    tenantId,
  });
  // It becomes a path.
  if (options.tenant !== undefined && !tenantIdShape.safeParse(options.tenant).success)
    throw new Failure("usage", "--tenant is not the id of a tenant");
  if (options.dir !== undefined) {
    if (options.out !== undefined || options.bucket !== undefined)
      throw new Failure("usage", "--dir goes with neither --out nor --bucket");
    const folder = resolve(host.cwd, options.dir);
    const tenantId = options.tenant ?? (await tenantIn(folder));
    return { reader: folderLog(folder, tenantId), tenantId };
  }
  if (options.bucket !== undefined) {
    const bucket = openBucket(host, parseBucketUrl(options.bucket));
    const tenantId = options.tenant ?? (await tenantInBucket(bucket));
    return kept(
      bucketLog(bucket, tenantId, (ms) => host.sleep(ms, host.interrupted)),
      tenantId,
    );
  }
  if (options.tenant !== undefined)
    throw new Failure("usage", "--tenant goes with --dir and --bucket; the API serves your own log only");
  const api = await session.api();
  const { tenant_id } = await api.whoami();
  return kept(apiLog(api), tenant_id);
}

function verdictText({ out }: Session, verdict: LogVerdict): string {
  const word = verdict.head === null ? out.paint.red(verdict.verdict) : out.paint.green(verdict.verdict);
  return [
    `${word} ${printable(verdict.reason)}`,
    ...(verdict.head === null ? [] : [out.paint.dim(`root ${verdict.head.root_sha256}`)]),
    ...(verdict.first_bad?.range === null || verdict.first_bad === null
      ? []
      : [`in the range ${verdict.first_bad.range}`]),
  ].join("\n");
}
