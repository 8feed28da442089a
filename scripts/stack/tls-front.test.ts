// The TLS front before a plain HTTP server: what it tells of a certificate, what it never lets through, how it streams, ends and
// renews. test/contract/mutual-tls.test.ts has it before the API.

import { createPrivateKey } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Agent, request as httpsRequest, type RequestOptions } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { bundleOfState, type AuthorityState } from "../../shared/identity/issue/authority-state.ts";
import { pemOfCertificates } from "../../shared/identity/pem.ts";
import { parseSpiffeId } from "../../shared/identity/spiffe-id.ts";
import { initAuthority } from "../../cli/svid/authority-folder.ts";
import { mintSvid, type Minted } from "../../cli/svid/mint.ts";
import { newAuthority, newKeys, newLeaf } from "../../test/support/svid.ts";
import { bundlePath, clientAuthOf, keptHeaders, startTlsFront, type TlsFront } from "./tls-front.ts";

const folder = mkdtempSync(join(tmpdir(), "maestro-front-"));
let authority: AuthorityState;
let front: TlsFront;
let behind: ReturnType<typeof createServer>;
let answer: (request: IncomingMessage, response: ServerResponse) => void;
let seen: IncomingMessage[];
let client: Minted["files"];

async function mint(id: string): Promise<Minted["files"]> {
  const parsed = parseSpiffeId(id);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return (await mintSvid(authority, { id: parsed.value, ttlSeconds: 600, audiences: [] }, Date.now())).files;
}

beforeAll(async () => {
  const parsed = parseSpiffeId("spiffe://mc.local/platform/api");
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  authority = (await initAuthority(folder, parsed.value.trustDomain, Date.now())).state;
  client = await mint("spiffe://mc.local/tenant/demo/publisher/ci");
  behind = createServer((request, response) => {
    seen.push(request);
    answer(request, response);
  });
  await new Promise<void>((resolve) => behind.listen(0, "127.0.0.1", resolve));
  front = await startTlsFront({
    port: 0,
    target: `http://127.0.0.1:${(behind.address() as AddressInfo).port}`,
    svid: await mint(parsed.value.uri),
    bundle: () => bundleOfState(authority),
  });
});
afterAll(async () => {
  await front.stop();
  behind.closeAllConnections();
  await new Promise((resolve) => behind.close(resolve));
  rmSync(folder, { recursive: true });
});
beforeEach(() => {
  seen = [];
  answer = (request, response) => {
    request.resume();
    request.on("end", () => response.end("done"));
  };
});

interface Got {
  readonly status: number;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

function send(options: RequestOptions & { body?: string } = {}): Promise<Got> {
  return new Promise((resolve, reject) => {
    const { body, ...rest } = options;
    const request = httpsRequest(
      `${front.url}${rest.path ?? "/"}`,
      { rejectUnauthorized: false, agent: false, ...rest },
      (response) => {
        const chunks: Buffer[] = [];
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(chunks).toString("utf8"),
          }),
        );
        response.on("error", reject);
      },
    );
    request.on("error", reject);
    request.end(body);
  });
}
const told = (request: IncomingMessage | undefined): unknown =>
  (JSON.parse(String(request?.headers["mf-cf-blob"])) as { tlsClientAuth: unknown }).tlsClientAuth;

test("the worker is told of the certificate that came, whoever signed it, and of none where none came", async () => {
  const der = client.chainPem.replaceAll(/-----[^-]+-----|\s/g, "");
  await send({ cert: client.chainPem, key: client.keyPem });
  await send();
  expect(told(seen[0])).toEqual({
    certPresented: "1",
    certVerified: "FAILED:unable to get local issuer certificate",
    certRevoked: "0",
    certRFC9440: `:${der}:`,
    certRFC9440TooLarge: false,
    certChainRFC9440: "",
    certChainRFC9440TooLarge: false,
  });
  expect(told(seen[1])).toMatchObject({ certPresented: "0", certVerified: "NONE", certRFC9440: "" });
});

test("an encoded leaf above 10 KiB and a chain above 16 KiB are left out, and said to be too large", () => {
  const text = (length: number): string => `:${"A".repeat(length - 2)}:`;
  expect(clientAuthOf(text(10_240), [text(8_000), text(8_382)])).toMatchObject({
    certRFC9440TooLarge: false,
    certChainRFC9440: expect.stringContaining(":, :"),
    certChainRFC9440TooLarge: false,
  });
  expect(clientAuthOf(text(10_241), [text(8_000), text(8_383)])).toMatchObject({
    certPresented: "1",
    certRFC9440: "",
    certRFC9440TooLarge: true,
    certChainRFC9440: "",
    certChainRFC9440TooLarge: true,
  });
});

test("what only the front may say is never taken from a client", async () => {
  const forged = {
    "cf-client-cert-der-base64": "x",
    "CF-Connecting-IP": "203.0.113.9",
    "MF-CF-Blob": `{"tlsClientAuth":{"certRFC9440":":x:"}}`,
    "MF-Original-URL": "http://elsewhere/",
    "MF-Route-Override": "maestro-signer",
    "client-cert": ":x:",
    "Client-Cert-Chain": ":x:",
    "x-client-cert": "x",
    "x-forwarded-client-cert": "x",
    "X-Forwarded-For": "203.0.113.9",
    forwarded: "for=203.0.113.9",
    "ssl-client-cert": "x",
    "x-kept": "kept",
  };
  await send({ headers: forged });
  const headers = Object.keys(seen[0]?.headers ?? {});
  expect(headers.toSorted()).toEqual(
    ["cf-connecting-ip", "connection", "host", "mf-cf-blob", "x-forwarded-proto", "x-kept"].toSorted(),
  );
  expect(seen[0]?.headers["cf-connecting-ip"]).toBe("127.0.0.1");
  expect(told(seen[0])).toMatchObject({ certPresented: "0" });
  expect(keptHeaders(["Connection", "close, X-Mine", "x-mine", "1", "Keep-Alive", "5", "x-yours", "2"])).toEqual([
    "x-yours",
    "2",
  ]);
});

test("what frames a request is passed on, whatever Connection names: no body is taken for a request of its own", async () => {
  const inner = 'POST /inner HTTP/1.1\r\nhost: x\r\nmf-cf-blob: {"tlsClientAuth":{}}\r\ncontent-length: 0\r\n\r\n';
  const { port } = new URL(front.url);
  for (const method of ["GET", "HEAD", "DELETE", "OPTIONS", "POST"]) {
    const socket = connect({ host: "127.0.0.1", port: Number(port), rejectUnauthorized: false });
    socket.write(
      `${method} /outer HTTP/1.1\r\nhost: x\r\nconnection: close, content-length, host\r\ncontent-length: ${inner.length}\r\n\r\n${inner}`,
    );
    let got = "";
    socket.on("data", (chunk: Buffer) => (got += chunk.toString("latin1")));
    await once(socket, "close");
    expect(got).toMatch(/^HTTP\/1\.1 200 /);
  }
  // Behind it, whatever was sent over the same connection comes before this.
  await send({ path: "/last" });
  expect(seen.map(({ url }) => url)).toEqual(["/outer", "/outer", "/outer", "/outer", "/outer", "/last"]);
  expect(seen.slice(0, 5).map(({ headers }) => headers["content-length"])).toEqual(
    Array.from({ length: 5 }, () => String(inner.length)),
  );
});

test("a session that is taken up again tells of the same certificates as the handshake that began it", async () => {
  const now = Date.now();
  const times = { notBeforeMs: now - 60_000, notAfterMs: now + 600_000 };
  const above = await newAuthority("mc.local", { ...times, name: "root" });
  const between = await newAuthority("mc.local", times, above);
  const keys = await newKeys("P-256");
  const leaf = await newLeaf(between, "spiffe://mc.local/one", { ...times, keys });
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey));
  const key = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" }).export({ format: "pem", type: "pkcs8" });
  const agent = new Agent({ keepAlive: false });
  for (let time = 0; time < 3; time += 1)
    await send({ agent, cert: pemOfCertificates([leaf, between.der]), key: String(key) });
  agent.destroy();
  const expected = {
    certPresented: "1",
    certRFC9440: `:${Buffer.from(leaf).toString("base64")}:`,
    certChainRFC9440: `:${Buffer.from(between.der).toString("base64")}:`,
  };
  for (const request of seen) expect(told(request)).toMatchObject(expected);
  expect(seen.length).toBe(3);
});

test("bodies stream both ways: the answer begins before the request has ended, with whatever method", async () => {
  answer = (request, response) => {
    response.writeHead(200, { "content-type": "text/plain" });
    request.on("data", (chunk: Buffer) => response.write(chunk));
    request.on("end", () => response.end());
  };
  for (const method of ["POST", "DELETE"]) {
    const pieces: string[] = [];
    await new Promise<void>((resolve, reject) => {
      const request = httpsRequest(
        front.url,
        { method, rejectUnauthorized: false, agent: false, headers: { "transfer-encoding": "chunked" } },
        (response) => {
          response.on("data", (chunk: Buffer) => {
            pieces.push(chunk.toString("utf8"));
            if (pieces.length === 1) request.end("second");
          });
          response.on("end", resolve);
        },
      );
      request.on("error", reject);
      request.write("first");
    });
    expect(pieces).toEqual(["first", "second"]);
  }
});

test("a client that leaves ends the request behind, and a worker that does not answer is a 502", async () => {
  const closed = Promise.withResolvers<void>();
  answer = (request) => {
    request.once("close", () => closed.resolve());
    leaving.destroy();
  };
  const leaving = httpsRequest(front.url, { method: "POST", rejectUnauthorized: false, agent: false });
  leaving.once("error", () => {});
  leaving.write("begun");
  await closed.promise;
  answer = (request) => request.socket.destroy();
  expect((await send()).status).toBe(502);
  const large = await send({ headers: { "x-large": "x".repeat(40_000) } });
  expect([large.status, seen.length]).toEqual([431, 2]);
});

test("TLS 1.3 alone is spoken", async () => {
  await expect(send({ maxVersion: "TLSv1.2" })).rejects.toThrow(/protocol version/);
});

test("a renewed certificate counts for new connections, and drops none that is open", async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const serial = (): Promise<string | undefined> => {
    const { port } = new URL(front.url);
    return new Promise((resolve, reject) => {
      const socket: TLSSocket = connect({ host: "127.0.0.1", port: Number(port), rejectUnauthorized: false }, () => {
        resolve(socket.getPeerX509Certificate()?.serialNumber);
        socket.destroy();
      });
      socket.once("error", reject);
    });
  };
  await send({ agent });
  const before = await serial();
  front.renew(await mint("spiffe://mc.local/platform/api"));
  await send({ agent });
  expect(await serial()).not.toBe(before);
  expect(Object.values(agent.freeSockets).flat().length).toBe(1);
  expect(seen.length).toBe(2);
  agent.destroy();
});

test("the bundle is served by the front itself, and no other method of that path", async () => {
  const got = await send({ path: bundlePath });
  expect([got.status, got.headers["content-type"], got.body]).toEqual([
    200,
    "application/json",
    bundleOfState(authority),
  ]);
  expect(seen).toEqual([]);
  await send({ path: bundlePath, method: "POST" });
  expect(seen.length).toBe(1);
});
