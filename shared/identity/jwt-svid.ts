// JWT-SVIDs, verified to the letter of JWT-SVID against one trust domain's bundle at a given time. Called where mTLS cannot
// reach, and by `maestro svid verify`. The form is checked here, the signature and the times by jose.

import { errors, jwtVerify } from "jose";
import { base64Bytes, utf8Text } from "../contract/bytes.ts";
import { jwtAuthorityKid } from "./authorities.ts";
import { checked, refuse, type Checked } from "./refusal.ts";
import { spiffeIdOf, type SpiffeId } from "./spiffe-id.ts";
import { membersOf, strictJson } from "./strict-json.ts";
import type { JwtKey, TrustBundle } from "./trust-bundle.ts";

export interface JwtSvid {
  readonly id: SpiffeId;
  readonly audience: readonly string[];
  /** Milliseconds since 1970 UTC, without the skew. */
  readonly untilMs: number;
  /** The key that signed it: authorities.ts says what it is called. */
  readonly authority: string;
}

export interface JwtExpectation {
  /** What this service is called: one of the token's `aud` must be it, to the letter. */
  readonly audience: string;
  readonly now: number;
}

/** How far two clocks may be apart: `exp` may have passed, `nbf` and `iat` may lie ahead, by so much. As go-spiffe. */
export const skewSeconds = 60;
/** A longer token is not looked at. */
export const tokenCharactersMax = 8_192;
const audiencesMax = 32;
/** The last second that a date can have. */
const secondsMax = 8_640_000_000_000;

/** JWT-SVID 2.1, with the key that each needs (RFC 7518 3.4: a curve for each hash). */
const algorithms: Readonly<Record<string, (key: JwtKey) => boolean>> = {
  RS256: ({ kty }) => kty === "RSA",
  RS384: ({ kty }) => kty === "RSA",
  RS512: ({ kty }) => kty === "RSA",
  PS256: ({ kty }) => kty === "RSA",
  PS384: ({ kty }) => kty === "RSA",
  PS512: ({ kty }) => kty === "RSA",
  ES256: (key) => key.kty === "EC" && key.crv === "P-256",
  ES384: (key) => key.kty === "EC" && key.crv === "P-384",
  ES512: (key) => key.kty === "EC" && key.crv === "P-521",
};
/** JWT-SVID 2: any other header must not be there. */
const headerNames: ReadonlySet<string> = new Set(["alg", "kid", "typ"]);

export const verifyJwtSvid = (
  token: string,
  bundle: TrustBundle,
  expected: JwtExpectation,
): Promise<Checked<JwtSvid>> =>
  checked(async () => {
    if (token.length > tokenCharactersMax) refuse("bounds", `a token has at most ${tokenCharactersMax} characters`);
    const parts = /^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+$/.exec(token);
    if (parts === null) refuse("JWT-SVID 5.1", "the token is not in JWS compact serialization");
    const header = jsonPart(parts[1] ?? "", "the token's header").value;
    const claims = jsonPart(parts[2] ?? "", "the token's payload").value;
    const algorithm = checkHeader(header);
    const { id, audience, exp } = checkClaims(claims, expected);
    if (id.trustDomain !== bundle.trustDomain) {
      refuse(
        "SPIFFE Trust Domain and Bundle 3",
        `the SVID is of ${id.trustDomain}, the bundle of ${bundle.trustDomain}`,
      );
    }
    const key = typeof header["kid"] === "string" ? bundle.jwtKeys.get(header["kid"]) : undefined;
    if (key === undefined) refuse("JWT-SVID 4", "the bundle has no key of the token's kid");
    if (algorithms[algorithm]?.(key) !== true) refuse("JWT-SVID 2.1", "the token's algorithm is not one of its key");
    await checkSignature(token, key, algorithm, expected);
    return { id, audience, untilMs: exp * 1_000, authority: await jwtAuthorityKid(key) };
  });

function jsonPart(part: string, what: string): { readonly value: Readonly<Record<string, unknown>> } {
  const section = "RFC 7515 5.2";
  let text: string;
  try {
    text = utf8Text(
      base64Bytes(part.replaceAll("-", "+").replaceAll("_", "/") + "=".repeat((4 - (part.length % 4)) % 4)),
    );
  } catch {
    refuse(section, `${what} is not base64url of UTF-8`);
  }
  const { value } = strictJson(text, tokenCharactersMax, "RFC 7519 4", what);
  return { value: membersOf(value) ?? refuse(section, `${what} is no JSON object`) };
}

/** The algorithm. */
function checkHeader(header: Readonly<Record<string, unknown>>): string {
  const { alg, typ } = header;
  if (typeof alg !== "string" || !Object.hasOwn(algorithms, alg)) {
    refuse("JWT-SVID 2.1", `the token's algorithm is not one of ${Object.keys(algorithms).join(", ")}`);
  }
  if (typ !== undefined && typ !== "JWT" && typ !== "JOSE")
    refuse("JWT-SVID 2.3", "the token's typ is not JWT or JOSE");
  if (Object.keys(header).some((name) => !headerNames.has(name))) {
    refuse("JWT-SVID 2", "the token's header has more than alg, kid and typ");
  }
  return alg;
}

function checkClaims(
  claims: Readonly<Record<string, unknown>>,
  expected: JwtExpectation,
): { readonly id: SpiffeId; readonly audience: readonly string[]; readonly exp: number } {
  const { sub, aud, exp, iat, nbf, iss, jti } = claims;
  if (typeof sub !== "string") refuse("JWT-SVID 3.1", "the token has no sub");
  const id = spiffeIdOf(sub);
  if (id.path === "") refuse("JWT-SVID 3.1", "the token's sub is a trust domain, and no workload");
  const audience: unknown[] = Array.isArray(aud) ? aud : [aud];
  if (!audience.every((each) => typeof each === "string") || audience.length === 0 || audience.length > audiencesMax) {
    refuse("JWT-SVID 3.2", `the token has not 1 to ${audiencesMax} texts as aud`);
  }
  if (expected.audience === "" || !audience.includes(expected.audience)) {
    refuse("JWT-SVID 3.2", "the token is for another audience");
  }
  if (typeof exp !== "number") refuse("JWT-SVID 3.3", "the token has no exp");
  if (Math.abs(exp) > secondsMax) refuse("JWT-SVID 3.3", "the token's exp is no time");
  if ([iss, jti].some((value) => value !== undefined && typeof value !== "string")) {
    refuse("RFC 7519 4.1", "the token's iss or jti is no text");
  }
  for (const [name, value] of [
    ["iat", iat],
    ["nbf", nbf],
  ] as const) {
    if (value === undefined) continue;
    if (typeof value !== "number") refuse("RFC 7519 4.1", `the token's ${name} is no time`);
    if (value > expected.now / 1_000 + skewSeconds) refuse("RFC 7519 4.1", `the token's ${name} lies ahead`);
  }
  return { id, audience, exp };
}

async function checkSignature(
  token: string,
  key: JwtKey,
  algorithm: string,
  { audience, now }: JwtExpectation,
): Promise<void> {
  try {
    await jwtVerify(token, key, {
      audience,
      algorithms: [algorithm],
      requiredClaims: ["exp", "aud", "sub"],
      clockTolerance: skewSeconds,
      currentDate: new Date(now),
    });
  } catch (error) {
    if (error instanceof errors.JWTExpired) refuse("JWT-SVID 3.3", "the token has expired");
    if (error instanceof errors.JWSSignatureVerificationFailed) {
      refuse("JWT-SVID 4", "the token's signature does not hold");
    }
    // What jose refuses for another reason is refused; what is no refusal of jose's is a fault.
    if (!(error instanceof errors.JOSEError)) throw error;
    refuse("JWT-SVID 4", "the token is no JWT that its key signed");
  }
}
