// What the platform binds to the API worker (root wrangler.toml). compose.ts alone reads it; index.ts passes it on.

export interface Env {
  /** Postgres as `maestro_app`: row security holds, nothing is owned. A secret in production. */
  readonly DATABASE_URL_APP: string;
  /** Postgres as `maestro_auth`: reads who is who, writes `last_used_at`. */
  readonly DATABASE_URL_AUTH: string;
  /** Postgres as `maestro_drain`: reads and deletes the outbox. */
  readonly DATABASE_URL_DRAIN: string;
  /** Where Neon's HTTP driver sends its queries; "" in production, where the driver works it out by itself. */
  readonly NEON_FETCH_ENDPOINT: string;
  readonly OIDC_ISSUER: string;
  readonly OIDC_AUDIENCE: string;
  readonly OIDC_JWKS_URL: string;
  /** This API, as a JWT-SVID's `aud` names it. */
  readonly SVID_AUDIENCE: string;
  /** How many audit queues there are, as decimal digits. */
  readonly AUDIT_SHARDS: string;
  readonly PUBLIC_URL: string;
  /** Shared with the edge, which proves by it that it forwarded a request. A secret; absent where there is no edge. */
  readonly EDGE_LINK_KEY?: string;
  /**
   * The first release keys, public halves: a JSON array of SPKI DER in base64. What they endorsed since, and what was revoked of
   * either, is in Postgres.
   */
  readonly RELEASE_KEYS: string;

  /** Provider B's storage: origin of the zone's region; "" where there is no provider B. */
  readonly BUNNY_STORAGE_URL: string;
  readonly BUNNY_STORAGE_ZONE: string;
  /** The zone's password. A secret. */
  readonly BUNNY_STORAGE_KEY: string;

  readonly ENTITLEMENTS: DurableObjectNamespace;
  readonly PRIVACY_LEDGER: DurableObjectNamespace;
  readonly OUTBOX_DRAIN: DurableObjectNamespace;
  readonly ROLLOUT_GATES: DurableObjectNamespace;
  readonly PQL_METER: DurableObjectNamespace;
  readonly POLICY_PUBLISHER: DurableObjectNamespace;
  readonly EDGE_HEALTH: DurableObjectNamespace;
  readonly KEY_ROTATION: DurableObjectNamespace;
  /** The trust domain of the platform's own workers. */
  readonly PLATFORM_TRUST_DOMAIN: string;
  /** The private key that this worker proves itself with to the authority: a P-256 JWK as JSON text. A secret. */
  readonly WORKER_KEY: string;
  readonly AUDIT: Fetcher;
  readonly SIGNER: Fetcher;
  /** The signer's AuthorityService. */
  readonly AUTHORITY: Fetcher;
  readonly ARTIFACTS: R2Bucket;
  /** Provider A's store. */
  readonly EDGE_A: R2Bucket;
  // And AUDIT_QUEUE_0 … AUDIT_QUEUE_<AUDIT_SHARDS - 1>, the producers of the audit queues: compose.ts finds them by number.
}
