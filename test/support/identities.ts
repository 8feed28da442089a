// A tenant's trust domain for tests over the real stack: its authority, what it hands in, SVIDs of it, and requests that come with
// them. A client certificate goes in as the local platform takes it: in the header by which Miniflare is told `request.cf`.

import { base64 } from "../../shared/contract/bytes.ts";
import type { Contract, CheckedAnswer } from "./openapi.ts";
import {
  authorityEntry,
  bundleDocument,
  jwtEntry,
  jwtOf,
  newAuthority,
  newKeys,
  newLeaf,
  type Authority,
  type KeyPair,
  type LeafOptions,
} from "./svid.ts";

export const minuteMs = 60_000;
const dayMs = 1_440 * minuteMs;

/** `cf.tlsClientAuth` of a client that presented this chain. The platform says that it has failed: nobody is to ask it. */
export const presented = (chain: readonly Uint8Array[], more: object = {}): object => ({
  certPresented: "1",
  certVerified: "FAILED:self signed certificate",
  certRevoked: "0",
  certRFC9440: `:${base64(chain[0]!)}:`,
  certRFC9440TooLarge: false,
  certChainRFC9440: chain
    .slice(1)
    .map((der) => `:${base64(der)}:`)
    .join(", "),
  certChainRFC9440TooLarge: false,
  ...more,
});

export const byCertificate = (tlsClientAuth: object): Record<string, string> => ({
  "mf-cf-blob": JSON.stringify({ tlsClientAuth }),
});

/** A trust domain whose authorities the test holds. */
export class TestDomain {
  readonly name: string;
  readonly authority: Authority;
  readonly jwtKeys: KeyPair;
  sequence = 0;

  private constructor(name: string, authority: Authority, jwtKeys: KeyPair) {
    this.name = name;
    this.authority = authority;
    this.jwtKeys = jwtKeys;
  }

  static async make(name: string, keys?: KeyPair): Promise<TestDomain> {
    const now = Date.now();
    const times = { notBeforeMs: now - minuteMs, notAfterMs: now + dayMs };
    const authority = await newAuthority(name, { ...times, ...(keys === undefined ? {} : { keys }) });
    return new TestDomain(name, authority, await newKeys("P-256"));
  }

  leaf(path: string, options: LeafOptions = {}): Promise<Uint8Array> {
    const now = Date.now();
    const times = { notBeforeMs: now - minuteMs, notAfterMs: now + 60 * minuteMs };
    return newLeaf(this.authority, `spiffe://${this.name}${path}`, { ...times, ...options });
  }

  token(path: string, claims: object = {}, keys: KeyPair = this.jwtKeys, kid = "jwt-1"): Promise<string> {
    const exp = Math.floor(Date.now() / 1_000) + 300;
    const all = { sub: `spiffe://${this.name}${path}`, aud: "maestro-api", exp, ...claims };
    return jwtOf(keys, { alg: "ES256", kid, typ: "JWT" }, all);
  }

  /** The document of the next sequence. */
  document(keys: readonly object[] = [authorityEntry(this.authority), jwtEntry(this.jwtKeys, "jwt-1")]): string {
    this.sequence += 1;
    return bundleDocument(keys, { spiffe_sequence: this.sequence, spiffe_refresh_hint: 60 });
  }
}

let sent = 0;

/** Calls with one credential. */
export function callsAs(api: Contract, headers: Readonly<Record<string, string>>) {
  const call = (method: string, path: string, body?: unknown): Promise<CheckedAnswer> =>
    api.fetch(path, {
      method,
      headers: {
        ...headers,
        ...(method === "GET" ? {} : { "idempotency-key": `identity-${process.pid}-${(sent += 1)}` }),
        ...(body === undefined ? {} : { "content-type": "application/json" }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  return {
    whoami: () => call("GET", "/api/whoami"),
    call,
    state: (name: string, body: unknown = {}) => call("PUT", `/api/identity/trust-domains/${name}`, body),
    handIn: (name: string, document: string) => call("PUT", `/api/identity/trust-domains/${name}/bundle`, { document }),
    register: (spiffeId: string, role: string) =>
      call("POST", "/api/identity/workloads", { spiffe_id: spiffeId, role }),
  };
}
