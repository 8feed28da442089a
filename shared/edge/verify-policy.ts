// Whether the bytes that came are the policy that the metadata names: length and digest of the tar.gz, of the tar inside, and
// the publisher's own signed statement over both. All are demanded. Called by edge-fetcher.ts before anything is kept.

import { hex, sha256Hex, utf8Text, type Bytes } from "../contract/bytes.ts";
import { signedBundle } from "../contract/events.ts";
import { ArchiveRefusal } from "../signing/archive-refusal.ts";
import { gunzip } from "../signing/gunzip.ts";
import type { ArchiveTools } from "../signing/package-archive.ts";
import { refusal, type Refusal } from "./refusal.ts";
import { checkPolicyStatement } from "./statement.ts";
import type { PolicyTarget } from "./tuf.ts";

/** A publisher's statement, in bytes. */
export const statementBytesMax = 64 * 1024;

/** Whether these are the named bytes at all; what a router asks before it takes an answer. Null: they are. */
export async function checkDigest(bytes: Bytes, sha256: string, length: number | null): Promise<Refusal | null> {
  if (length !== null && bytes.length !== length)
    return refusal("wrong_length", `${bytes.length} bytes came, and the metadata names ${length}`);
  const digest = await sha256Hex(bytes);
  return digest === sha256 ? null : refusal("wrong_digest", `what came has the digest ${digest}, not ${sha256}`);
}

export type Vouched =
  /** `kid`: SHA-256 of the publisher's SPKI, lower-case hex. */
  { readonly ok: true; readonly kid: string } | { readonly ok: false; readonly refusal: Refusal };

const refused = (code: "bad_statement" | "statement_disagrees", detail: string): Vouched => ({
  ok: false,
  refusal: refusal(code, detail),
});

/** Whether a publisher has signed what the metadata names, and which. `publishers`: the trusted keys, SPKI DER in base64. */
export async function checkStatement(
  policy: string,
  { length, hashes, custom }: PolicyTarget,
  bytes: Bytes,
  publishers: readonly string[],
): Promise<Vouched> {
  let value: unknown;
  try {
    value = JSON.parse(utf8Text(bytes));
  } catch {
    return refused("bad_statement", "the publisher's statement is not JSON");
  }
  const bundle = signedBundle.safeParse(value);
  if (!bundle.success) return refused("bad_statement", "the publisher's statement is not a Sigstore bundle");
  let reason = "no publisher is trusted";
  for (const spki of publishers) {
    const checked = await checkPolicyStatement(bundle.data, spki);
    if (!checked.ok) {
      reason = checked.reason;
      continue;
    }
    const { signed } = checked;
    const differences = [
      signed.policy === policy ? null : "policy",
      signed.version === custom.version ? null : "version",
      signed.bundle_sha256 === hashes.sha256 && signed.bundle_bytes === length ? null : "bundle",
      signed.tar_sha256 === custom.tar_sha256 && signed.tar_bytes === custom.tar_length ? null : "tar",
    ].filter((name) => name !== null);
    return differences.length === 0
      ? { ok: true, kid: checked.kid }
      : refused("statement_disagrees", `the publisher's statement names another ${differences.join(", ")}`);
  }
  return refused("bad_statement", `the publisher's statement is not believed: ${reason}`);
}

/** Inflates piece by piece, and stops at the first byte beyond what was signed for. */
export async function checkTar(
  custom: Pick<PolicyTarget["custom"], "tar_length" | "tar_sha256">,
  bytes: Bytes,
  tools: ArchiveTools,
): Promise<Refusal | null> {
  const hasher = tools.newHasher();
  let length = 0;
  try {
    for await (const piece of gunzip(once(bytes), tools.zlib)) {
      length += piece.length;
      if (length > custom.tar_length)
        return refusal("gzip_bomb", `it unpacks to more than the ${custom.tar_length} bytes that were signed for`);
      hasher.update(piece);
    }
  } catch (error) {
    if (error instanceof ArchiveRefusal)
      return refusal("broken_archive", `the bundle cannot be read: ${error.message}`);
    throw error;
  }
  const digest = hex(await hasher.digest());
  if (length === custom.tar_length && digest === custom.tar_sha256) return null;
  return refusal(
    "wrong_tar_digest",
    `it unpacks to ${length} bytes with the digest ${digest}, not ${custom.tar_sha256}`,
  );
}

async function* once(bytes: Bytes): AsyncGenerator<Uint8Array> {
  yield bytes;
}
