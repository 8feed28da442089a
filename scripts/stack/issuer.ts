// A token issuer for local use, shaped like an OIDC provider: discovery, a key set that rotates, and a token endpoint
// that only holders of a local secret may use. Called by startStack; never part of a deployment.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, SignJWT, type JWK } from "jose";
import { loopback } from "./ports.ts";
import { readJson, writePrivateJson } from "./state.ts";

const bodyBytesMax = 16_384;
const lifetimeDefaultS = 3_600;
const lifetimeMaxS = 24 * 3_600;
/** The signing key and the one before it: tokens of the old key stay good until they expire. */
const keysKept = 2;
export const audience = "maestro-api";

export interface TokenRequest {
  readonly subject: string;
  readonly audience?: string;
  /** From now; may be negative, for tests of expiry. */
  readonly expires_in_s?: number;
  /** From now; may be in the future. */
  readonly not_before_s?: number;
}

export interface Issuer {
  readonly url: string;
  issue(request: TokenRequest): Promise<string>;
  /** Signs with a new key from now on; the old one stays in the key set. Answers the new `kid`. */
  rotate(): Promise<string>;
  stop(): Promise<void>;
}

type PrivateJwk = JWK & { readonly kid: string };

async function newKey(): Promise<PrivateJwk> {
  const pair = await generateKeyPair("ES256", { extractable: true });
  const jwk = await exportJWK(pair.privateKey);
  return { ...jwk, alg: "ES256", use: "sig", kid: await calculateJwkThumbprint(jwk) };
}

const publicPart = ({ kty, crv, x, y, alg, use, kid }: PrivateJwk): JWK => ({ kty, crv, x, y, alg, use, kid }) as JWK;

export async function startIssuer(options: { folder: string; port: number; secret: string }): Promise<Issuer> {
  const path = join(options.folder, "issuer-keys.json");
  let keys = (readJson(path) as PrivateJwk[] | null) ?? [];
  let url = "";

  async function rotate(): Promise<string> {
    const key = await newKey();
    keys = [key, ...keys].slice(0, keysKept);
    writePrivateJson(path, keys);
    return key.kid;
  }
  if (keys.length === 0) await rotate();

  async function issue(request: TokenRequest): Promise<string> {
    const [key] = keys;
    if (key === undefined) throw new Error("the issuer has no key");
    const nowS = Math.floor(Date.now() / 1000);
    return new SignJWT({})
      .setProtectedHeader({ alg: "ES256", kid: key.kid, typ: "JWT" })
      .setIssuer(url)
      .setSubject(request.subject)
      .setAudience(request.audience ?? audience)
      .setIssuedAt(nowS)
      .setNotBefore(nowS + (request.not_before_s ?? 0))
      .setExpirationTime(nowS + Math.min(request.expires_in_s ?? lifetimeDefaultS, lifetimeMaxS))
      .setJti(randomUUID())
      .sign(await importJWK(key, "ES256"));
  }

  async function answer(request: IncomingMessage): Promise<[number, unknown]> {
    const route = `${request.method} ${request.url?.split("?")[0]}`;
    if (route === "GET /.well-known/openid-configuration") return [200, discovery(url)];
    if (route === "GET /jwks.json") return [200, { keys: keys.map(publicPart) }];
    if (route !== "POST /token" && route !== "POST /rotate") return [404, { error: "not_found" }];
    if (!sameText(request.headers.authorization ?? "", `Bearer ${options.secret}`))
      return [401, { error: "invalid_client" }];
    if (route === "POST /rotate") return [200, { kid: await rotate() }];
    const wanted = parseTokenRequest(await readText(request));
    if (wanted === null)
      return [
        400,
        {
          error: "invalid_request",
          error_description: "send JSON: {subject, audience?, expires_in_s?, not_before_s?}",
        },
      ];
    const lifetimeS = Math.min(wanted.expires_in_s ?? lifetimeDefaultS, lifetimeMaxS);
    return [200, { access_token: await issue(wanted), token_type: "Bearer", expires_in: lifetimeS }];
  }

  const server = createServer((request, response: ServerResponse) => {
    answer(request)
      .catch((): [number, unknown] => [500, { error: "server_error" }])
      .then(([status, body]) => {
        response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
        response.end(JSON.stringify(body));
      })
      .catch(() => response.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, loopback, resolve);
  });
  url = `http://${loopback}:${(server.address() as AddressInfo).port}`;
  return {
    url,
    issue,
    rotate,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

const discovery = (url: string): Record<string, unknown> => ({
  issuer: url,
  jwks_uri: `${url}/jwks.json`,
  token_endpoint: `${url}/token`,
  id_token_signing_alg_values_supported: ["ES256"],
  response_types_supported: ["token"],
  subject_types_supported: ["public"],
});

function sameText(left: string, right: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(left), digest(right));
}

async function readText(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request as AsyncIterable<Buffer>) {
    text += chunk.toString("utf8");
    if (text.length > bodyBytesMax) return "";
  }
  return text;
}

function parseTokenRequest(text: string): TokenRequest | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  if (typeof value !== "object" || value === null) return null;
  const { subject, audience: wanted, expires_in_s, not_before_s } = value as Record<string, unknown>;
  if (typeof subject !== "string" || subject === "" || subject.length > 255) return null;
  if (wanted !== undefined && typeof wanted !== "string") return null;
  if (expires_in_s !== undefined && !Number.isSafeInteger(expires_in_s)) return null;
  if (not_before_s !== undefined && !Number.isSafeInteger(not_before_s)) return null;
  return {
    subject,
    ...(wanted === undefined ? {} : { audience: wanted }),
    ...(expires_in_s === undefined ? {} : { expires_in_s: expires_in_s as number }),
    ...(not_before_s === undefined ? {} : { not_before_s: not_before_s as number }),
  };
}
