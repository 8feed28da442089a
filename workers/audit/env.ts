// What the platform binds to the audit worker (workers/audit/wrangler.toml). compose.ts alone reads it.

export interface Env {
  /** Postgres as `maestro_audit`: writes `audit_events`, and notes which logs have work. A secret in production. */
  readonly DATABASE_URL_AUDIT: string;
  /** Where Neon's HTTP driver sends its queries; "" in production, where the driver works it out by itself. */
  readonly NEON_FETCH_ENDPOINT: string;
  /** A tenant's log has the origin `{LOG_ORIGIN}/{tenant_id}`. */
  readonly LOG_ORIGIN: string;
  readonly PUBLIC_URL: string;
  /** Private JWKs as JSON text, each with `not_before`: Ed25519 for checkpoints, P-256 for statements, P-256 for links. */
  readonly CHECKPOINT_KEY: string;
  readonly STATEMENT_KEY: string;
  readonly LINK_KEY: string;
  /** What the private halves of keys that a rotation made are encrypted with: at least 32 characters. A secret; absent: no rotation. */
  readonly KEY_RING_SECRET?: string;
  /** What the keys before these signed stays valid: a JSON array of their entries of `GET /api/audit/keys`, each with `not_after`. */
  readonly RETIRED_KEYS: string;

  /** Who cosigns the anchor log: JSON, a list of `{"url", "vkey"}`, at most 15; "[]" for nobody. docs/DEPLOY.md. */
  readonly WITNESSES: string;

  readonly AUDIT_LOG: DurableObjectNamespace;
  readonly DISCLOSURE_GRANTS: DurableObjectNamespace;
  readonly LOG_ANCHOR: DurableObjectNamespace;
  readonly AUDIT_RING: DurableObjectNamespace;
  /** The trust domain of the platform's own workers. */
  readonly PLATFORM_TRUST_DOMAIN: string;
  /** The private key that this worker proves itself with to the authority: a P-256 JWK as JSON text. A secret. */
  readonly WORKER_KEY: string;
  /** The signer's AuthorityService. */
  readonly AUTHORITY: Fetcher;
  /** The API's MeterService: what stands in Postgres is told to it, shared/contract/event-counts.ts. */
  readonly METER: Fetcher;
  readonly AUDIT_BUCKET: R2Bucket;
}
