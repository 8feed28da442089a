// What the small authority issues, judged by our own verifier; test/interop has go-spiffe. And its states, move by move.

import { beforeAll, describe, expect, test } from "vitest";
import { base64, hex } from "../../contract/bytes.ts";
import { verifyJwtSvid } from "../jwt-svid.ts";
import { parseTrustDomain } from "../spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "../trust-bundle.ts";
import { verifyX509Svid } from "../x509-svid.ts";
import {
  activeKey,
  authorityStateShape,
  bundleOfState,
  moveAuthority,
  type AuthorityKey,
  type AuthorityState,
  type KeyKind,
  type RotationMove,
} from "./authority-state.ts";
import {
  issueAuthority,
  issueJwtSvid,
  issueX509Svid,
  keyIdentifier,
  writeBundle,
  type IssuingKey,
} from "./issue-svid.ts";

const now = Date.UTC(2026, 10, 26);
const serial = new Uint8Array(16).fill(0xff);
const id = "spiffe://mc.local/tenant/demo/publisher/ci";
const times = { fromMs: now, untilMs: now + 3_600_000, serial };

async function newKey(): Promise<IssuingKey & { pkcs8: Uint8Array }> {
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const [spki, pkcs8] = await Promise.all([
    crypto.subtle.exportKey("spki", pair.publicKey),
    crypto.subtle.exportKey("pkcs8", pair.privateKey),
  ]);
  return { privateKey: pair.privateKey, spki: new Uint8Array(spki), pkcs8: new Uint8Array(pkcs8) };
}

async function bundleOf(document: string): Promise<TrustBundle> {
  const domain = parseTrustDomain("mc.local");
  if (!domain.ok) throw new Error(domain.refusal.reason);
  const parsed = await parseTrustBundle(domain.value, document);
  if (!parsed.ok) throw new Error(`${parsed.refusal.section}: ${parsed.refusal.reason}`);
  return parsed.value;
}

describe("what is issued", () => {
  let authority: IssuingKey;
  let workload: IssuingKey;
  let bundle: TrustBundle;
  beforeAll(async () => {
    [authority, workload] = await Promise.all([newKey(), newKey()]);
    const certificate = await issueAuthority("mc.local", authority, { ...times, untilMs: now + 86_400_000 });
    bundle = await bundleOf(
      writeBundle({
        sequence: 4,
        refreshHintSeconds: 60,
        x509: [{ spki: authority.spki, certificate }],
        jwt: [{ spki: authority.spki, kid: "k" }],
      }),
    );
  });

  test("an X.509-SVID holds by the letter, also with names for clients that know nothing of SPIFFE", async () => {
    const subject = { spiffeId: id, spki: workload.spki };
    const names = { dnsNames: ["localhost"], ipAddresses: [new Uint8Array([127, 0, 0, 1])] };
    for (const one of [subject, { ...subject, ...names }]) {
      const verified = await verifyX509Svid([await issueX509Svid(authority, one, times)], bundle, now);
      expect(verified).toMatchObject({ ok: true, value: { id: { uri: id }, leafUntilMs: times.untilMs } });
    }
    expect(bundle).toMatchObject({ sequence: 4, refreshHint: 60 });
  });

  test("a JWT-SVID holds for its audience, until its time, and for nobody else", async () => {
    const token = await issueJwtSvid({ ...authority, kid: "k" }, { spiffeId: id, audience: "maestro-api" }, times);
    const held = async (audience: string, at: number): Promise<boolean> =>
      (await verifyJwtSvid(token, bundle, { audience, now: at })).ok;
    expect([
      await held("maestro-api", now),
      await held("maestro-edge", now),
      await held("maestro-api", times.untilMs + 61_000),
    ]).toEqual([true, false, false]);
  });
});

describe("the states of the keys", () => {
  let made = 0;
  async function keyOf(kind: KeyKind, state: AuthorityKey["state"]): Promise<AuthorityKey> {
    made += 1;
    const key = await newKey();
    const expires = now + 86_400_000;
    return {
      id: hex(await keyIdentifier(key.spki)),
      state,
      private_key: base64(key.pkcs8),
      spki: base64(key.spki),
      certificate:
        kind === "x509" ? base64(await issueAuthority("mc.local", key, { ...times, untilMs: expires })) : null,
      prepared_at: now,
      activated_at: state === "active" ? now : null,
      tainted_at: null,
      expires_at: expires,
    };
  }
  let first: AuthorityState;
  beforeAll(async () => {
    first = {
      schema: 1,
      purpose: "development",
      trust_domain: "mc.local",
      sequence: 1,
      x509: [await keyOf("x509", "active")],
      jwt: [await keyOf("jwt", "active")],
    };
  });
  const move = (state: AuthorityState, name: RotationMove, kinds: readonly KeyKind[] = ["x509", "jwt"]) =>
    moveAuthority(state, name, kinds, now, (kind) => keyOf(kind, "prepared"));
  async function moved(state: AuthorityState, ...names: readonly RotationMove[]): Promise<AuthorityState> {
    let last = state;
    for (const name of names) {
      const step = await move(last, name);
      if (!step.ok) throw new Error(step.reason);
      last = step.state;
    }
    return last;
  }
  const statesOf = (state: AuthorityState): string =>
    [state.x509, state.jwt].map((keys) => keys.map((key) => key.state).join("+")).join(" ");

  test("go prepared, active, old, tainted, gone, and each that changes the bundle raises its sequence by one", async () => {
    const seen: [string, number, number][] = [];
    let state = first;
    for (const name of ["prepare", "activate", "taint", "revoke"] as const) {
      state = await moved(state, name);
      expect(authorityStateShape.safeParse(state).success).toBe(true);
      const { sequence, authorities } = await bundleOf(bundleOfState(state));
      seen.push([statesOf(state), sequence ?? 0, authorities.length]);
    }
    expect(seen).toEqual([
      ["active+prepared active+prepared", 2, 2],
      ["old+active old+active", 2, 2],
      ["tainted+active tainted+active", 2, 2],
      ["active active", 3, 1],
    ]);
    expect(activeKey(state.x509).id).not.toBe(activeKey(first.x509).id);
  });

  test("a move that was made already changes nothing and makes no key: each may be repeated after a crash", async () => {
    let state = first;
    for (const name of ["prepare", "activate", "taint", "revoke"] as const) {
      state = await moved(state, name);
      const before = made;
      expect(await move(state, name)).toEqual({ ok: true, changed: false, state });
      expect(made).toBe(before);
    }
  });

  test("a move out of order is refused in words, and changes nothing of either kind", async () => {
    const reasons: [readonly RotationMove[], RotationMove, string][] = [
      [[], "activate", "prepare one first"],
      [[], "taint", "no key is old"],
      [["prepare", "activate"], "prepare", "not revoked yet"],
      [["prepare", "activate"], "revoke", "not tainted yet"],
    ];
    for (const [before, name, reason] of reasons) {
      expect(await move(await moved(first, ...before), name)).toEqual({
        ok: false,
        reason: expect.stringContaining(reason),
      });
    }
    const halfway = await move(first, "prepare", ["x509"]);
    if (!halfway.ok) throw new Error(halfway.reason);
    expect(await move(halfway.state, "activate")).toEqual({ ok: false, reason: expect.stringContaining("JWT: ") });
  });
});
