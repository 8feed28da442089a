// Where things lie in a provider's store, for the publisher and fetchers; and what a path of the edge names there: read by
// workers/edge for each request, before the store is asked. The
// layout is docs/edge/SERVING.md's; a path that is written in any other way names nothing.

/** Where a thing is in the store, and whose it is: a tenant's slug. */
export type EdgeTarget =
  | {
      readonly kind: "metadata";
      readonly tenant: string;
      readonly key: string;
      readonly role: "root" | "targets" | "snapshot" | "timestamp";
    }
  /** Bytes under their own digest, lower-case hex SHA-256. */
  | {
      readonly kind: "content";
      readonly tenant: string;
      readonly key: string;
      readonly digest: string;
      readonly content: "policy" | "statement";
    }
  | { readonly kind: "delta"; readonly tenant: string; readonly key: string }
  /** What a channel points to: `target` is a target path of the tenant's TUF repository. */
  | { readonly kind: "channel"; readonly tenant: string; readonly target: string };

/** Longer than any path that names something. */
export const pathLengthMax = 512;

const tenant = "[a-z0-9]+(?:-[a-z0-9]+)*";
const digest = "[0-9a-f]{64}";
const version = "[1-9][0-9]{0,8}";
/** A policy's name and its channel, as the target path has them. */
const channel = "[a-z0-9][a-z0-9.-]{0,63}/[a-z0-9][a-z0-9-]{0,63}";

const metadataPattern = new RegExp(`^/(tuf/(${tenant})/(?:timestamp|${version}\\.(root|targets|snapshot))\\.json)$`);
const policyPattern = new RegExp(`^/(policies/(${tenant})/(${digest})\\.tar\\.gz)$`);
const statementPattern = new RegExp(`^/(statements/(${tenant})/(${digest})\\.dsse\\.json)$`);
const deltaPattern = new RegExp(`^/(deltas/(${tenant})/${digest}\\.\\.${digest}\\.zst)$`);
const channelPattern = new RegExp(`^/opa/(${tenant})/(${channel}/bundle\\.tar\\.gz)$`);
/** How TUF clients ask for a target where snapshots are consistent: its digest before its last segment. */
const tufTargetPattern = new RegExp(`^/tuf/(${tenant})/targets/${channel}/(${digest})\\.bundle\\.tar\\.gz$`);

const tenantPattern = new RegExp(`^${tenant}$`);
export const isTenantSlug = (text: string): boolean => text.length <= 100 && tenantPattern.test(text);

export const policyKey = (tenant: string, digest: string): string => `policies/${tenant}/${digest}.tar.gz`;
export const metadataKey = (tenant: string, file: string): string => `tuf/${tenant}/${file}`;
export const fetcherKey = (keyDigest: string): string => `fetchers/${keyDigest}.json`;
/** `idDigest`: lower-case hex SHA-256 of a fetcher's SPIFFE ID. */
export const workloadKey = (idDigest: string): string => `workloads/${idDigest}.json`;
/** The bundle that a tenant's SVIDs of that trust domain are verified with, to the byte. */
export const trustKey = (tenant: string, trustDomain: string): string => `trust/${tenant}/${trustDomain}.json`;
/** Since when the trust domain of that bundle is stated, as shared/edge/stated.ts has it. */
export const statedKey = (tenant: string, trustDomain: string): string => `stated/${tenant}/${trustDomain}.json`;
/** Whether a key says who may read: publisher-mirror.ts alone puts and removes it. */
export const isMirrored = (key: string): boolean => /^(?:fetchers|workloads|trust|stated)\//.test(key);
/** The one key of a tenant's metadata that is rewritten. */
export const timestampName = "timestamp.json";

/** `sha256`: of the file itself, the publisher's signed statement as a Sigstore bundle in RFC 8785 text. */
export const statementKey = (tenant: string, sha256: string): string => `statements/${tenant}/${sha256}.dsse.json`;

/** Both digests are of tars: what it leads from, and to. */
export const deltaKey = (tenant: string, from: string, to: string): string => `deltas/${tenant}/${from}..${to}.zst`;

/** `path` as it stands in the URL, nothing decoded: a `%` is in no name. Null for what names nothing. */
export function parseEdgePath(path: string): EdgeTarget | null {
  if (path.length > pathLengthMax) return null;
  let match = metadataPattern.exec(path);
  if (match !== null) {
    const role = (match[3] ?? "timestamp") as "root" | "targets" | "snapshot" | "timestamp";
    return { kind: "metadata", tenant: match[2]!, key: match[1]!, role };
  }
  match = policyPattern.exec(path);
  if (match !== null) {
    return { kind: "content", tenant: match[2]!, key: match[1]!, digest: match[3]!, content: "policy" };
  }
  match = channelPattern.exec(path);
  if (match !== null) return { kind: "channel", tenant: match[1]!, target: match[2]! };
  match = tufTargetPattern.exec(path);
  if (match !== null) {
    const [, tenant, digest] = match;
    return {
      kind: "content",
      tenant: tenant!,
      key: policyKey(tenant!, digest!),
      digest: digest!,
      content: "policy",
    };
  }
  match = statementPattern.exec(path);
  if (match !== null) {
    return { kind: "content", tenant: match[2]!, key: match[1]!, digest: match[3]!, content: "statement" };
  }
  match = deltaPattern.exec(path);
  if (match !== null) return { kind: "delta", tenant: match[2]!, key: match[1]! };
  return null;
}
