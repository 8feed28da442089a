// Disclosure on the audit worker's side: hands out quick links to a run's pack, and opens them. What a pack is made of is
// decided in shared/disclosure; here are R2, the archive's format, and the link. Called by service.ts.
//
// What stands where after a crash, at each await of `disclosureLink`:
//   find or build         nothing, or the pack (shared/disclosure/build.ts)
//   grant                 the grant and its event, in the object's one transaction; a retry makes another grant

import { downloadZip } from "client-zip";
import { hex, toBytes, type Bytes } from "../../shared/contract/bytes.ts";
import { newId } from "../../shared/contract/ids.ts";
import type { Random } from "../../shared/contract/ports.ts";
import { findOrBuild, packKey, type BuildParts, type PackStore } from "../../shared/disclosure/build.ts";
import type { GrantAnswer, GrantsPort } from "../../shared/disclosure/grants.ts";
import { openLink, signLink } from "../../shared/disclosure/link.ts";
import type { PackFile } from "../../shared/disclosure/pack.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import type {
  ByteRange,
  DownloadAnswer,
  DownloadRequest,
  LinkAnswer,
  LinkRefusal,
  LinkWish,
} from "../../shared/disclosure/service.ts";

/** ZIP knows no time zones and starts in 1980: one instant for all packs keeps the bytes alike. */
const packTime = new Date("2026-01-01T00:00:00Z");

export interface DisclosureParts extends BuildParts {
  readonly random: Random;
  readonly bucket: R2Bucket;
  /** What `work` makes with the link key in force, of links that are granted at `at`, in ms. */
  readonly withLinkKey: <T>(at: number, work: (signer: Signer) => Promise<T>) => Promise<T>;
  grants(tenantId: string): GrantsPort;
}

export async function disclosureLink(parts: DisclosureParts, tenantId: string, wish: LinkWish): Promise<LinkAnswer> {
  const { execution_id, one_time, audience } = wish;
  const built = await findOrBuild(parts, tenantId, execution_id);
  if (built.state === "building") return built;
  const { pack, version } = built;
  const now = parts.clock();
  const grantId = newId("grant", now, parts.random(10));
  const claims = {
    sub: tenantId,
    jti: grantId,
    execution_id,
    sha256: pack.sha256,
    pack_version: version,
    ...(audience === null ? {} : { audience }),
  };
  const { token, expires_at } = await parts.withLinkKey(now, (signer) => signLink(signer, claims, now));
  await parts
    .grants(tenantId)
    .grant(wish.principal_id, { id: grantId, execution_id, pack_sha256: pack.sha256, expires_at, one_time, audience });
  return { state: "ready", token, ...pack, pack_version: version, expires_at, grant_id: grantId };
}

const refusals: Record<Exclude<GrantAnswer, "ok">, LinkRefusal> = {
  gone: "link_invalid",
  used: "link_used",
  revoked: "link_revoked",
};

/** What a link says is looked at only once its signature holds, and what its grant says only by whom it is for. */
export async function disclosureDownload(parts: DisclosureParts, request: DownloadRequest): Promise<DownloadAnswer> {
  const refused = (code: LinkRefusal): DownloadAnswer => ({ state: "refused", code });
  const opened = await openLink(parts.keys, request.token, parts.clock());
  if (!opened.ok) return refused(opened.code);
  const { sub: tenantId, jti, execution_id, sha256, pack_version, audience } = opened.claims;
  if (audience !== undefined && request.principal_id === null) return { state: "who" };
  if (audience !== undefined && request.principal_id !== audience) return refused("link_audience");
  const by = audience ?? null;
  const grants = parts.grants(tenantId);
  const key = packKey(tenantId, execution_id, pack_version);
  const head = await parts.bucket.head(key);
  if (head === null || hexOf(head.checksums.sha256) !== sha256) return refused("link_invalid");
  const total = head.size;
  const known = { state: "ok", sha256, execution_id, total } as const;
  const range = request.method === "HEAD" || !isCurrent(request.if_range, sha256) ? null : request.range;
  const part = partOf(range, total);
  if (request.method === "HEAD" || part === null) {
    const held = await grants.use(jti, "asked", by);
    if (held !== "ok") return refused(refusals[held]);
    if (part === null) return { state: "range", total };
    return { ...known, ...part, partial: false, bytes: null };
  }
  const used = await grants.use(jti, { ...part, total }, by);
  if (used !== "ok") return refused(refusals[used]);
  const object = await parts.bucket.get(key, { range: { offset: part.from, length: part.to - part.from + 1 } });
  if (object === null) return refused("link_invalid");
  return { ...known, ...part, partial: range !== null, bytes: new Uint8Array(await object.arrayBuffer()) };
}

/** RFC 9110, 13.1.5: a strong comparison; dates are not ours, so they match nothing. */
const isCurrent = (ifRange: string | null, sha256: string): boolean => ifRange === null || ifRange === `"${sha256}"`;

/** RFC 9110, 14.1.2. Null: the range cannot be satisfied. */
function partOf(range: ByteRange | null, total: number): { readonly from: number; readonly to: number } | null {
  if (range === null) return { from: 0, to: total - 1 };
  if ("last" in range) return range.last === 0 ? null : { from: Math.max(0, total - range.last), to: total - 1 };
  const to = Math.min(range.to ?? total - 1, total - 1);
  return range.from > to ? null : { from: range.from, to };
}

export function packStore(bucket: R2Bucket): PackStore {
  return {
    async find(key) {
      const head = await bucket.head(key);
      return head === null ? null : { sha256: hexOf(head.checksums.sha256), bytes: head.size };
    },
    async put(key, bytes, sha256) {
      const put = await bucket.put(key, bytes, {
        sha256,
        onlyIf: new Headers({ "if-none-match": "*" }),
        httpMetadata: { contentType: "application/zip" },
      });
      return put === null ? "exists" : "created";
    },
  };
}

export async function zipArchive(files: readonly PackFile[]): Promise<Bytes> {
  const response = downloadZip(
    files.map(({ name, bytes }) => ({ name, input: bytes, lastModified: packTime })),
    { buffersAreUTF8: true },
  );
  return new Uint8Array(await response.arrayBuffer());
}

const hexOf = (checksum: ArrayBuffer | undefined): string => (checksum === undefined ? "" : hex(toBytes(checksum)));
