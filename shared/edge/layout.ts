// Where what the publisher writes lies in a provider's store, beside what serving-path.ts names. `tenant` is its slug. Called by
// the publisher, the upload and fetchers.

/** The one key of a tenant's metadata that is rewritten. */
export const timestampName = "timestamp.json";

/** `sha256`: of the file itself, the publisher's signed statement as a Sigstore bundle in RFC 8785 text. */
export const statementKey = (tenant: string, sha256: string): string => `statements/${tenant}/${sha256}.dsse.json`;
