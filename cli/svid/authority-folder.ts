// The folder of a small authority for development: one file, `authority.json`, 0600, with its keys and their states, replaced by
// one rename. Called by `maestro svid authority`, `mint` and `bundle`, and by the local stack.

import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { chmod, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { base64, base64Bytes, hex, toBytes } from "../../shared/contract/bytes.ts";
import {
  authorityStateShape,
  moveAuthority,
  type AuthorityKey,
  type AuthorityState,
  type KeyKind,
  type RotationMove,
} from "../../shared/identity/issue/authority-state.ts";
import { backdateMs, issueAuthority, keyIdentifier, type IssuingKey } from "../../shared/identity/issue/issue-svid.ts";
import type { TrustDomain } from "../../shared/identity/spiffe-id.ts";
import { errorCode, Failure } from "../failure.ts";
import { makeFolder, writePrivate } from "../folders.ts";
import { jsonThatFits } from "../json-file.ts";

const stateBytesMax = 65_536;
/** How long a key of the authority is good. */
export const authorityLifeMs = 365 * 86_400_000;

export const authorityFile = (folder: string): string => join(folder, "authority.json");

const importPrivate = (pkcs8: Uint8Array): Promise<CryptoKey> =>
  crypto.subtle.importKey("pkcs8", toBytes(pkcs8), { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);

export const issuingKeyOf = async ({ private_key, spki }: AuthorityKey): Promise<IssuingKey> => ({
  privateKey: await importPrivate(base64Bytes(private_key)),
  spki: base64Bytes(spki),
});

/** A new pair on P-256, in DER. */
export function newKeyPair(): { readonly pkcs8: Buffer; readonly spki: Buffer; readonly pem: string } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return {
    pkcs8: privateKey.export({ type: "pkcs8", format: "der" }),
    spki: publicKey.export({ type: "spki", format: "der" }),
    pem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
  };
}

async function newAuthorityKey(
  trustDomain: string,
  kind: KeyKind,
  state: "prepared" | "active",
  now: number,
): Promise<AuthorityKey> {
  const { pkcs8, spki } = newKeyPair();
  const expiresAt = now + authorityLifeMs;
  const key = { privateKey: await importPrivate(pkcs8), spki };
  const times = { fromMs: now - backdateMs, untilMs: expiresAt, serial: randomBytes(16) };
  return {
    id: hex(await keyIdentifier(spki)),
    state,
    private_key: base64(pkcs8),
    spki: base64(spki),
    certificate: kind === "x509" ? base64(await issueAuthority(trustDomain, key, times)) : null,
    prepared_at: now,
    activated_at: state === "active" ? now : null,
    tainted_at: null,
    expires_at: expiresAt,
  };
}

const write = (folder: string, state: AuthorityState): Promise<void> =>
  writePrivate(authorityFile(folder), `${JSON.stringify(state, null, 2)}\n`);

/** Makes an authority, or leaves the one that is there: `made` is false then. Throws Failure `conflict` where it is of another domain. */
export async function initAuthority(
  folder: string,
  trustDomain: TrustDomain,
  now: number,
): Promise<{ readonly state: AuthorityState; readonly made: boolean }> {
  await makeFolder(folder);
  const kept = await readAuthorityOrNull(folder);
  if (kept !== null) {
    if (kept.trust_domain === trustDomain) return { state: kept, made: false };
    throw new Failure("conflict", `${folder} has the authority of ${kept.trust_domain} already`, {
      advice: "An authority has one trust domain: name another folder.",
    });
  }
  await chmod(folder, 0o700);
  const state: AuthorityState = {
    schema: 1,
    purpose: "development",
    trust_domain: trustDomain,
    sequence: 1,
    x509: [await newAuthorityKey(trustDomain, "x509", "active", now)],
    jwt: [await newAuthorityKey(trustDomain, "jwt", "active", now)],
  };
  await write(folder, state);
  return { state, made: true };
}

async function readAuthorityOrNull(folder: string): Promise<AuthorityState | null> {
  const path = authorityFile(folder);
  let text: string;
  try {
    const { size } = await stat(path);
    if (size > stateBytesMax) throw new Failure("usage", `${path} has ${size} bytes; the most is ${stateBytesMax}`);
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return null;
    throw error;
  }
  const broken = new Failure("failure", `${path} is not what \`maestro svid authority init\` writes`);
  const state = jsonThatFits(text, authorityStateShape, broken);
  // What the file says to be a pair is one: else all that it signs is refused elsewhere, and nobody sees why.
  for (const { id, private_key, spki } of [...state.x509, ...state.jwt]) {
    const key = createPrivateKey({ key: Buffer.from(private_key, "base64"), format: "der", type: "pkcs8" });
    const own = createPublicKey(key).export({ type: "spki", format: "der" });
    if (own.toString("base64") !== spki || hex(await keyIdentifier(own)) !== id) throw broken;
  }
  return state;
}

/** Throws Failure `not_found` where there is none. */
export async function readAuthority(folder: string): Promise<AuthorityState> {
  const state = await readAuthorityOrNull(folder);
  if (state !== null) return state;
  throw new Failure("not_found", `There is no authority in ${folder}`, {
    advice: "Make one, for development and drills:",
    command: `maestro svid authority init ${folder} --trust-domain NAME`,
  });
}

/** One move of its rotation. Throws Failure `conflict` with the reason where it may not be. Durable when it returns. */
export async function rotateAuthority(
  folder: string,
  move: RotationMove,
  kinds: readonly KeyKind[],
  now: number,
): Promise<{ readonly state: AuthorityState; readonly changed: boolean }> {
  const before = await readAuthority(folder);
  const moved = await moveAuthority(before, move, kinds, now, (kind) =>
    newAuthorityKey(before.trust_domain, kind, "prepared", now),
  );
  if (!moved.ok) throw new Failure("conflict", `The authority cannot ${move}: ${moved.reason}`);
  if (moved.changed) await write(folder, moved.state);
  return moved;
}
