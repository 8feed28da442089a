// A folder of SVIDs as a workload has it: svid.pem (the leaf, then intermediates), svid.key (PKCS #8), bundle.json and
// jwt-AUDIENCE.txt. Written by `maestro svid mint`, or by spiffe-helper in production; read by every command that presents an
// SVID, again at each request: it may be renewed beneath a running command.

import { createPrivateKey, createPublicKey, X509Certificate } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { claimedIdOfToken, claimsOfToken } from "../../shared/identity/claimed-id.ts";
import { certificatesInPem } from "../../shared/identity/pem.ts";
import { parseSpiffeId, type SpiffeId } from "../../shared/identity/spiffe-id.ts";
import { bundleBytesMax } from "../../shared/identity/trust-bundle.ts";
import { errorCode, Failure } from "../failure.ts";
import { writePrivate } from "../folders.ts";

const svidBytesMax = 262_144;
const keyBytesMax = 16_384;
export const tokenBytesMax = 16_384;
const secondsMax = 8_640_000_000_000;
/** The certificate and its key are two files: a reader that finds one of each age, or half of one, looks again. */
const readAttemptsMax = 20;
const readAgainMs = 25;

const audiencePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/;
/** An audience is part of a file's name. */
export const isFileAudience = (audience: string): boolean => audiencePattern.test(audience);

export const tokenFile = (audience: string): string => `jwt-${audience}.txt`;

export interface SvidFiles {
  readonly chainPem: string;
  readonly keyPem: string;
  readonly bundle: string;
  readonly tokens: readonly { readonly audience: string; readonly token: string }[];
}

/** Each file whole; the bundle first: whoever reads the new SVID finds what it is believed by. */
export async function writeSvidFolder(folder: string, { chainPem, keyPem, bundle, tokens }: SvidFiles): Promise<void> {
  await writeBundleFile(folder, bundle);
  await writePrivate(join(folder, "svid.key"), keyPem);
  await writePrivate(join(folder, "svid.pem"), chainPem);
  for (const { audience, token } of tokens) await writePrivate(join(folder, tokenFile(audience)), `${token}\n`);
}

export const writeBundleFile = (folder: string, bundle: string): Promise<void> =>
  writePrivate(join(folder, "bundle.json"), bundle);

/** What a folder says of its holder; nothing here is verified but that the key is the certificate's. */
export interface HeldSvid {
  readonly id: SpiffeId;
  /** Milliseconds since 1970 UTC. */
  readonly issuedAtMs: number;
  readonly expiresAtMs: number;
}

export interface HeldCertificate extends HeldSvid {
  readonly chain: readonly Bytes[];
  readonly chainPem: string;
  readonly keyPem: string;
  /** The bundle document of its trust domain, or null where the folder has none. */
  readonly bundle: string | null;
}

export interface HeldToken extends HeldSvid {
  readonly token: string;
  /** The key that signed it, as it says; null where it does not. */
  readonly kid: string | null;
}

async function textIn(path: string, bytesMax: number): Promise<string | null> {
  try {
    const { size } = await stat(path);
    if (size > bytesMax) throw new Failure("usage", `${path} has ${size} bytes; the most is ${bytesMax}`);
    return await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return null;
    if (error instanceof Failure || errorCode(error) === null) throw error;
    throw new Failure("usage", `${path} cannot be read (${errorCode(error)})`);
  }
}

const none = (folder: string, name: string): Failure =>
  new Failure("denied", `There is no SVID in ${folder}: it has no ${name}`, {
    advice: "spiffe-helper writes one in production; for development a small authority does:",
    command: `maestro svid mint --authority DIR --id spiffe://… --out ${folder}`,
  });

/** The X.509-SVID. Throws Failure `denied` where there is none, or where it is broken. */
export async function readCertificate(folder: string): Promise<HeldCertificate> {
  for (let attempt = 1; ; attempt += 1) {
    const chainPem = await textIn(join(folder, "svid.pem"), svidBytesMax);
    if (chainPem === null) throw none(folder, "svid.pem");
    const keyPem = await textIn(join(folder, "svid.key"), keyBytesMax);
    if (keyPem === null) throw none(folder, "svid.key");
    const found = certificateOf(chainPem, keyPem);
    if (typeof found !== "string")
      return { ...found, bundle: await textIn(join(folder, "bundle.json"), bundleBytesMax) };
    if (attempt >= readAttemptsMax) throw new Failure("denied", `The SVID in ${folder} is none: ${found}`);
    await delay(readAgainMs);
  }
}

/** Or why it is none. */
function certificateOf(chainPem: string, keyPem: string): Omit<HeldCertificate, "bundle"> | string {
  const chain = certificatesInPem(chainPem);
  if (!chain.ok) return chain.refusal.reason;
  let leaf: X509Certificate;
  let own: Buffer;
  try {
    leaf = new X509Certificate(chain.value[0]!);
    own = createPublicKey(createPrivateKey(keyPem)).export({ type: "spki", format: "der" });
  } catch (error) {
    return `its certificate or its key cannot be read (${errorCode(error) ?? "unknown"})`;
  }
  if (!own.equals(leaf.publicKey.export({ type: "spki", format: "der" }))) return "svid.key is not the key of svid.pem";
  const uris = [...(leaf.subjectAltName ?? "").matchAll(/(?:^|, )URI:([^,]+)/g)].map((match) => match[1] ?? "");
  const id = parseSpiffeId(uris[0] ?? "");
  if (uris.length !== 1 || !id.ok) return "its certificate has not exactly one SPIFFE ID";
  return {
    id: id.value,
    issuedAtMs: leaf.validFromDate.getTime(),
    expiresAtMs: leaf.validToDate.getTime(),
    chain: chain.value,
    chainPem,
    keyPem,
  };
}

/** The JWT-SVID for an audience, as it says of itself. Throws Failure `denied` where there is none. */
export async function readToken(folder: string, audience: string): Promise<HeldToken> {
  const name = tokenFile(audience);
  const token = (await textIn(join(folder, name), tokenBytesMax))?.trim();
  if (token === undefined) throw none(folder, name);
  const held = heldTokenOf(token, null);
  if (held === null) throw new Failure("denied", `${join(folder, name)} is no JWT-SVID`);
  return held;
}

/** What a JWT-SVID says of itself; where it does not say when it was issued, `writtenMs` does, or its end. Null: it is none. */
export function heldTokenOf(token: string, writtenMs: number | null): HeldToken | null {
  const id = claimedIdOfToken(token);
  const { header, claims } = claimsOfToken(token) ?? { header: null, claims: {} };
  const { iat, exp } = claims;
  const kid = header?.["kid"];
  if (id === null || !id.ok || !isTime(exp) || (iat !== undefined && !isTime(iat))) return null;
  const issuedAtMs = iat === undefined ? (writtenMs ?? exp * 1_000) : iat * 1_000;
  const expiresAtMs = exp * 1_000;
  return { id: id.value, issuedAtMs, expiresAtMs, token, kid: typeof kid === "string" && kid !== "" ? kid : null };
}

/** Seconds since 1970 that a date can have. */
const isTime = (value: unknown): value is number => typeof value === "number" && Math.abs(value) <= secondsMax;
