// Bearer tokens, signed by real keys and published by a real server: what is taken, and each kind that is not.

import { createHmac } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import {
  createLocalJWKSet,
  createRemoteJWKSet,
  customFetch,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  SignJWT,
  UnsecuredJWT,
  type JWK,
  type JWTPayload,
} from "jose";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { Problem } from "../contract/problems.ts";
import { pausedAfterFailure, verifyToken, type TokenIssuer } from "./token.ts";

const issuerUrl = "https://issuer.test";
const audience = "https://api.test";
const now = Date.UTC(2026, 3, 13, 16);
const nowSeconds = now / 1000;

async function signingKey(alg: string, kid: string) {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  const jwk: JWK = { ...(await exportJWK(publicKey)), kid, alg, use: "sig" };
  return { alg, kid, privateKey, publicKey, jwk };
}
type SigningKey = Awaited<ReturnType<typeof signingKey>>;

const es256 = await signingKey("ES256", "es");
const rs256 = await signingKey("RS256", "rs");
const ps256 = await signingKey("PS256", "ps");
const eddsa = await signingKey("EdDSA", "ed");
const es384 = await signingKey("ES384", "es384");
const foreign = await signingKey("ES256", "es");

const published = { keys: [es256, rs256, ps256, eddsa, es384].map(({ jwk }) => jwk) };
const issuer: TokenIssuer = { issuer: issuerUrl, audience, keys: createLocalJWKSet(published) };

interface Claims {
  readonly iss?: string | undefined;
  readonly aud?: string | string[] | undefined;
  readonly sub?: string | undefined;
  readonly exp?: number | undefined;
  readonly nbf?: number | undefined;
}
const good: Claims = { iss: issuerUrl, aud: audience, sub: "user-1", exp: nowSeconds + 600 };

const payload = (claims: Claims): JWTPayload => JSON.parse(JSON.stringify(claims)) as JWTPayload;

const signed = (claims: Claims, key: SigningKey = es256, header: Record<string, unknown> = {}): Promise<string> =>
  new SignJWT({ ...payload(claims), role: "admin" })
    .setProtectedHeader({ alg: key.alg, kid: key.kid, ...header })
    .sign(key.privateKey);

const refusal = async (token: string, by: TokenIssuer = issuer, at = now): Promise<string> => {
  const error: unknown = await verifyToken(by, token, at).then(
    () => null,
    (thrown: unknown) => thrown,
  );
  if (error === null) return "accepted";
  if (!(error instanceof Problem)) throw error;
  const told = JSON.stringify([error.message, error.detail, error.members]);
  for (const part of token.split(".")) if (part.length > 8) expect(told).not.toContain(part);
  return error.code;
};

describe("a token of the issuer", () => {
  test.each([es256, rs256, ps256, eddsa])("is taken when signed with $alg", async (key) => {
    expect(await verifyToken(issuer, await signed(good, key), now)).toBe("user-1");
  });

  test("may name several audiences", async () => {
    expect(await verifyToken(issuer, await signed({ ...good, aud: ["https://other.test", audience] }), now)).toBe(
      "user-1",
    );
  });

  test("is taken up to 60 seconds beside its times, and not a second more", async () => {
    expect(await refusal(await signed({ ...good, exp: nowSeconds - 59 }))).toBe("accepted");
    expect(await refusal(await signed({ ...good, exp: nowSeconds - 60 }))).toBe("token_expired");
    expect(await refusal(await signed({ ...good, nbf: nowSeconds + 60 }))).toBe("accepted");
    expect(await refusal(await signed({ ...good, nbf: nowSeconds + 61 }))).toBe("token_not_yet_valid");
  });
});

describe("refused without a word of the token:", () => {
  test.each<[string, Claims, string]>([
    ["an expired token", { ...good, exp: nowSeconds - 3_600 }, "token_expired"],
    ["a token that is not valid yet", { ...good, nbf: nowSeconds + 3_600 }, "token_not_yet_valid"],
    ["a token for another audience", { ...good, aud: "https://other.test" }, "token_audience"],
    ["a token without an audience", { ...good, aud: undefined }, "token_audience"],
    ["a token of another issuer", { ...good, iss: "https://other.test" }, "token_invalid"],
    ["a token without an issuer", { ...good, iss: undefined }, "token_invalid"],
    ["a token without an expiry", { ...good, exp: undefined }, "token_invalid"],
    ["a token without a subject", { ...good, sub: undefined }, "token_invalid"],
    ["a token with an empty subject", { ...good, sub: "" }, "token_invalid"],
    ["a token with a NUL in its subject", { ...good, sub: "user\0" }, "token_invalid"],
    ["a token whose nbf is not a number", { ...good, nbf: "soon" as unknown as number }, "token_invalid"],
  ])("%s", async (_, claims, code) => {
    expect(await refusal(await signed(claims))).toBe(code);
  });

  test("a token with alg none", async () => {
    expect(await refusal(new UnsecuredJWT(payload(good)).encode())).toBe("token_invalid");
  });

  test("a token with HS256 and the public key as its secret", async () => {
    for (const secret of [await exportSPKI(rs256.publicKey), JSON.stringify(rs256.jwk)]) {
      const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
      const input = `${part({ alg: "HS256", kid: "rs" })}.${part(good)}`;
      const token = `${input}.${createHmac("sha256", secret).update(input).digest("base64url")}`;
      expect(await refusal(token)).toBe("token_invalid");
    }
  });

  test("a token with an algorithm that is not on the list, though its key is published", async () => {
    expect(await refusal(await signed(good, es384))).toBe("token_invalid");
  });

  test("a token signed by another key under a published kid", async () => {
    expect(await refusal(await signed(good, foreign))).toBe("token_invalid");
  });

  test("a token that brings its own key", async () => {
    const token = await signed(good, foreign, { jwk: foreign.jwk, kid: undefined });
    expect(await refusal(token)).toBe("token_invalid");
  });

  test("a token with a critical header that we do not know", async () => {
    const [, payload, signature] = (await signed(good)).split(".");
    const header = Buffer.from(JSON.stringify({ alg: "ES256", kid: "es", crit: ["b65"], b65: true })).toString(
      "base64url",
    );
    expect(await refusal(`${header}.${payload}.${signature}`)).toBe("token_invalid");
  });

  test("a token whose payload was changed", async () => {
    const [header, payload, signature] = (await signed(good)).split(".");
    const changed = Buffer.from(Buffer.from(payload!, "base64url").toString().replace("user-1", "user-2")).toString(
      "base64url",
    );
    expect(await refusal(`${header}.${changed}.${signature}`)).toBe("token_invalid");
  });

  test.each(["", "x", "a.b", "a.b.c", "....", "a.b.c.d.e", "{}", `${"a".repeat(9_000)}.b.c`])(
    "no token: %j",
    async (text) => {
      expect(await refusal(text)).toBe("token_invalid");
    },
  );

  test("any token, where no issuer is configured", async () => {
    expect(await refusal(await signed({ ...good, iss: "" }), { ...issuer, issuer: "" })).toBe("token_invalid");
  });
});

describe("the issuer's keys", () => {
  let server: Server;
  let keys: readonly JWK[];
  let fetched: number;
  let respond: "keys" | "failure" | "nonsense";
  let remote: TokenIssuer;

  beforeEach(async () => {
    vi.useFakeTimers({ toFake: ["Date"], now });
    keys = [es256.jwk];
    fetched = 0;
    respond = "keys";
    server = createServer((_, response) => {
      fetched += 1;
      if (respond === "failure") response.writeHead(500).end();
      else response.end(respond === "keys" ? JSON.stringify({ keys }) : "<html>");
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    remote = {
      issuer: issuerUrl,
      audience,
      keys: createRemoteJWKSet(new URL(`http://127.0.0.1:${port}/jwks.json`), {
        cooldownDuration: 30_000,
        [customFetch]: pausedAfterFailure(
          (url: string, options: RequestInit) => fetch(url, options),
          () => Date.now(),
          2_000,
        ),
      }),
    };
  });

  afterEach(async () => {
    vi.useRealTimers();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  const outcome = (token: string): Promise<string> => refusal(token, remote, Date.now());

  test("are fetched once for many tokens", async () => {
    const token = await signed(good);
    for (let count = 0; count < 5; count += 1) expect(await outcome(token)).toBe("accepted");
    expect(fetched).toBe(1);
  });

  test("are fetched again when a token names a new key: rotation needs no restart", async () => {
    expect(await outcome(await signed(good))).toBe("accepted");
    keys = [es256.jwk, eddsa.jwk];
    vi.setSystemTime(now + 31_000);
    expect(await outcome(await signed(good, eddsa))).toBe("accepted");
    expect(await outcome(await signed(good))).toBe("accepted");
    expect(fetched).toBe(2);
  });

  test("are not fetched again and again for tokens with made-up keys", async () => {
    expect(await outcome(await signed(good))).toBe("accepted");
    for (let count = 0; count < 5; count += 1) {
      expect(await outcome(await signed(good, foreign, { kid: `made-up-${count}` }))).toBe("token_invalid");
    }
    expect(fetched).toBe(1);
  });

  test("that cannot be fetched are our trouble, not the token's", async () => {
    respond = "failure";
    expect(await outcome(await signed(good))).toBe("issuer_unavailable");
    respond = "nonsense";
    vi.setSystemTime(now + 3_000);
    expect(await outcome(await signed(good))).toBe("issuer_unavailable");
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    vi.setSystemTime(now + 6_000);
    expect(await outcome(await signed(good))).toBe("issuer_unavailable");
  });

  test("are asked for at most once in two seconds while the issuer fails, and then come back", async () => {
    respond = "failure";
    for (let count = 0; count < 5; count += 1) expect(await outcome(await signed(good))).toBe("issuer_unavailable");
    expect(fetched).toBe(1);
    respond = "keys";
    vi.setSystemTime(now + 2_000);
    expect(await outcome(await signed(good))).toBe("accepted");
  });
});
