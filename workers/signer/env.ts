// What the platform binds to the signer worker (workers/signer/wrangler.toml). compose.ts alone reads it.

export interface Env {
  /** P-256 private key as JWK text, with `not_before`; a secret. The ring's first key. */
  readonly RELEASE_KEY: string;
  /** The same, of the ring that signs the SVIDs of the platform's workers. */
  readonly SVID_KEY: string;
  /** What the private halves of keys that a rotation made are encrypted with: at least 32 characters. A secret; absent: no rotation. */
  readonly KEY_RING_SECRET?: string;
  readonly RELEASE_RING: DurableObjectNamespace;
  readonly WORKER_AUTHORITY: DurableObjectNamespace;
  /** 32 random bytes each, as JWK text of type `oct`: what the tenants' online TUF keys are derived from. Secrets. */
  readonly TUF_TARGETS_KEY: string;
  readonly TUF_SNAPSHOT_KEY: string;
  readonly TUF_TIMESTAMP_KEY: string;
  /** The trust domain of the platform's own workers; nobody else's. */
  readonly PLATFORM_TRUST_DOMAIN: string;
  /** Whose key is whose: JSON, `{"api": [SPKI DER in base64, …], "audit": […]}`. */
  readonly WORKER_KEYS: string;
}
