// A trust domain of a tenant with an authority of its own, in Postgres as the product's routes leave it: for tests of who is let
// in by SVIDs. Writes rows as the owner of the database.

import { sql } from "drizzle-orm";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import type { Database } from "../../shared/tenancy/database.ts";
import { inBatch } from "../../shared/tenancy/database.ts";
import {
  authorityEntry,
  bundleDocument,
  jwtEntry,
  jwtOf,
  newAuthority,
  newKeys,
  type Authority,
  type KeyPair,
} from "./svid.ts";

export interface TokenWish {
  readonly aud?: string;
  /** Seconds from now until its end; negative: it has ended. */
  readonly seconds?: number;
  readonly kid?: string;
  readonly by?: KeyPair;
  /** What tells it from another one. */
  readonly jti?: string;
}

/** One that signs JWT-SVIDs as `kid`, and X.509-SVIDs. */
interface Signing {
  readonly kid: string;
  readonly keys: KeyPair;
  readonly authority: Authority;
}

export class TrustDomainRows {
  readonly name: string;
  readonly #owner: Database;
  readonly #tenantId: string;
  #sequence = 0;
  #made = 0;
  #signing: Signing[] = [];

  private constructor(owner: Database, tenantId: string, name: string) {
    this.name = name;
    this.#owner = owner;
    this.#tenantId = tenantId;
  }

  /** With one authority in its bundle. */
  static async make(owner: Database, tenantId: string, name: string): Promise<TrustDomainRows> {
    const domain = new TrustDomainRows(owner, tenantId, name);
    await domain.addAuthority();
    return domain;
  }

  /** The newest that is in the bundle. */
  get signing(): Signing {
    const newest = this.#signing.at(-1);
    if (newest === undefined) throw new Error("every authority was revoked");
    return newest;
  }

  get document(): string {
    const entries = this.#signing.flatMap(({ kid, keys, authority }) => [
      authorityEntry(authority),
      jwtEntry(keys, kid),
    ]);
    return bundleDocument(entries, { spiffe_sequence: this.#sequence });
  }

  /** The bundle has one more. */
  async addAuthority(): Promise<Signing> {
    this.#made += 1;
    const now = Date.now();
    const authority = await newAuthority(this.name, {
      name: `authority ${this.#made}`,
      notBeforeMs: now - 60_000,
      notAfterMs: now + 3_600_000,
    });
    const added = { kid: `${this.name}-${this.#made}`, keys: await newKeys("P-256"), authority };
    this.#signing.push(added);
    await this.#store();
    return added;
  }

  /** The bundle has it no more: what it signed is revoked. */
  async revoke(kid: string): Promise<void> {
    this.#signing = this.#signing.filter((one) => one.kid !== kid);
    await this.#store();
  }

  async #store(): Promise<void> {
    this.#sequence += 1;
    const { document } = this;
    const digest = await sha256Hex(utf8(document));
    await inBatch(this.#owner, [
      sql`insert into trust_domains (name, tenant_id, bundle, bundle_sha256, sequence_max, sequence_max_sha256, confirmed_at,
            created_at, created_by)
          values (${this.name}, ${this.#tenantId}, ${document}, ${digest}, ${this.#sequence}, ${digest}, now(), now(), 'test')
          on conflict (name) do update set bundle = excluded.bundle, bundle_sha256 = excluded.bundle_sha256,
            sequence_max = excluded.sequence_max, sequence_max_sha256 = excluded.sequence_max_sha256`,
    ]);
  }

  /** A SPIFFE ID of this domain, registered for that principal. */
  async register(path: string, principalId: string): Promise<string> {
    const id = `spiffe://${this.name}${path}`;
    await inBatch(this.#owner, [
      sql`insert into workloads values (${id}, ${this.name}, ${this.#tenantId}, ${principalId}, now(), 'test')`,
    ]);
    return id;
  }

  async unregister(id: string): Promise<void> {
    await inBatch(this.#owner, [sql`delete from workloads where spiffe_id = ${id}`]);
  }

  /** A JWT-SVID for an edge, of five minutes. */
  token(sub: string, { aud = "maestro-edge", seconds = 300, kid, by, jti = "" }: TokenWish = {}): Promise<string> {
    const { signing } = this;
    const now = Math.floor(Date.now() / 1_000);
    const claims = { sub, aud: [aud], iat: now - 400, exp: now + seconds, jti };
    return jwtOf(by ?? signing.keys, { alg: "ES256", typ: "JWT", kid: kid ?? signing.kid }, claims);
  }
}
