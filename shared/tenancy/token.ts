// Bearer JWTs: checked by jose against the one configured issuer. Called by authentication. A token says who, never what
// they may do: the role is read from the principal's row.

import { errors, jwtVerify, type JWTVerifyGetKey } from "jose";
import type { Clock } from "../contract/ports.ts";
import { Problem } from "../contract/problems.ts";

export interface TokenIssuer {
  /** `iss`, to the letter. */
  readonly issuer: string;
  /** This API, as `aud` names it. */
  readonly audience: string;
  /** The issuer's keys: jose's remote set (cached, refetched for an unknown `kid` after a cooldown), or a local one. */
  readonly keys: JWTVerifyGetKey;
}

/** Asymmetric only: no `none`, and no HMAC that a public key could be the secret of (RFC 8725, sections 2.1 and 3.1). */
const algorithms = ["ES256", "EdDSA", "RS256", "PS256"];
const skewSeconds = 60;
/** A longer one is not looked at. */
const tokenCharactersMax = 8_192;

/** The token's subject. Throws a `Problem` that never quotes the token. */
export async function verifyToken(issuer: TokenIssuer, token: string, now: number): Promise<string> {
  if (token.length > tokenCharactersMax) throw new Problem("token_invalid", "The token is too long.");
  if (issuer.issuer === "")
    throw new Problem("token_invalid", "No issuer is configured here: only API keys are taken.");
  try {
    const { payload } = await jwtVerify(token, issuer.keys, {
      issuer: issuer.issuer,
      audience: issuer.audience,
      algorithms,
      requiredClaims: ["iss", "aud", "exp", "sub"],
      clockTolerance: skewSeconds,
      currentDate: new Date(now),
    });
    if (typeof payload.sub !== "string" || payload.sub === "" || payload.sub.includes("\0")) {
      throw new Problem("token_invalid", "The token names no subject.");
    }
    return payload.sub;
  } catch (error) {
    throw refusal(error);
  }
}

function refusal(error: unknown): unknown {
  if (error instanceof Problem) return error;
  if (error instanceof errors.JWTExpired) return new Problem("token_expired", "The token's `exp` has passed.");
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.claim === "aud") return new Problem("token_audience", "The token's `aud` is not this API.");
    if (error.claim === "nbf" && error.reason === "check_failed") {
      return new Problem("token_not_yet_valid", "The token's `nbf` lies ahead.");
    }
    return new Problem("token_invalid", "A claim of the token is missing or not what it must be.", {
      claim: /^[a-z]{1,16}$/.test(error.claim) ? error.claim : null,
    });
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    return new Problem("token_invalid", `The token's algorithm is not one of ${algorithms.join(", ")}.`);
  }
  if (
    error instanceof errors.JWKSTimeout ||
    !(error instanceof errors.JOSEError) ||
    error.code === "ERR_JOSE_GENERIC"
  ) {
    // jose lets a failed fetch of the key set through as it is: its answer was not 200, not JSON, or there was none.
    return isTokenDefect(error)
      ? malformed()
      : new Problem("issuer_unavailable", "The issuer's keys cannot be fetched.");
  }
  return malformed();
}

const malformed = (): Problem => new Problem("token_invalid", "The token is not a JWT that the issuer signed.");

/** Where the token itself made a decoder throw, before any key was asked for. */
const isTokenDefect = (error: unknown): boolean => error instanceof SyntaxError || error instanceof errors.JWTInvalid;

type Fetch<Options, Answer> = (url: string, options: Options) => Promise<Answer>;

/**
 * A fetch that, once it failed, fails at once for `pauseMs`: bad tokens cannot make us hammer an issuer that is down.
 * (jose's own cooldown starts at a fetch that succeeded.)
 */
export function pausedAfterFailure<Options, Answer extends { readonly status: number }>(
  fetch: Fetch<Options, Answer>,
  clock: Clock,
  pauseMs: number,
): Fetch<Options, Answer> {
  let failedAt = Number.NEGATIVE_INFINITY;
  return async (url, options) => {
    if (clock() - failedAt < pauseMs) throw new errors.JWKSTimeout("the issuer failed a moment ago");
    try {
      const answer = await fetch(url, options);
      if (answer.status !== 200) failedAt = clock();
      return answer;
    } catch (error) {
      failedAt = clock();
      throw error;
    }
  };
}
