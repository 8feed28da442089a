// Where everything of a tenant lies in a provider's store: the one layout that the publisher writes and the edge serves.
// `tenant` is its slug. Called by the publisher, the upload, the edge worker and fetchers.

/** `1.root.json`, `7.targets.json`, `7.snapshot.json`: never rewritten; `timestamp.json`: the only key that is. */
export const tufPath = (tenant: string, name: string): string => `tuf/${tenant}/${name}`;
export const timestampName = "timestamp.json";

export const bundlePath = (tenant: string, sha256: string): string => `policies/${tenant}/${sha256}.tar.gz`;

/** `sha256`: of the file itself, the publisher's signed statement as a Sigstore bundle in RFC 8785 text. */
export const statementPath = (tenant: string, sha256: string): string => `statements/${tenant}/${sha256}.dsse.json`;

/** `sha256`: of the fetcher's key. */
export const fetcherPath = (sha256: string): string => `fetchers/${sha256}.json`;
