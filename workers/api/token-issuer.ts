// The issuer whose tokens are taken, and where its keys are fetched. Made by compose.ts, once an isolate.

import { createRemoteJWKSet, customFetch } from "jose";
import type { Clock } from "../../shared/contract/ports.ts";
import { pausedAfterFailure, type TokenIssuer } from "../../shared/tenancy/token.ts";

/**
 * An unknown `kid` makes us fetch the issuer's keys again, but not twice within this time: made-up ones cost the issuer
 * 12 fetches a minute and isolate at most, and a new key is taken after so long at the latest.
 */
const keysCooldownMs = 5_000;
const keysAgeMaxMs = 600_000;
const keysTimeoutMs = 3_000;
const keysPauseMs = 2_000;

/** `keysUrl`: "" without an issuer: no token gets as far as its keys then (shared/tenancy/token.ts). */
export function tokenIssuer(
  named: Pick<TokenIssuer, "issuer" | "audience">,
  keysUrl: string,
  clock: Clock,
): TokenIssuer {
  const keys = createRemoteJWKSet(new URL(keysUrl === "" ? "https://issuer.invalid/" : keysUrl), {
    cooldownDuration: keysCooldownMs,
    cacheMaxAge: keysAgeMaxMs,
    timeoutDuration: keysTimeoutMs,
    [customFetch]: pausedAfterFailure(
      (address: string, options: RequestInit) => fetch(address, options),
      clock,
      keysPauseMs,
    ),
  });
  return { ...named, keys };
}
