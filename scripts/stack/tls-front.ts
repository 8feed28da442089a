// What Cloudflare is before a Worker, on this machine: TLS 1.3 that asks for a client certificate and tells the Worker of it in
// `request.cf.tlsClientAuth`, believed or not. The Worker decides. Started by startStack before the API; the target is an argument.

import { constants } from "node:crypto";
import { createServer } from "node:https";
import { Agent, request as httpRequest, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import { loopback } from "./ports.ts";

const headersBytesMax = 32_768;
const handshakeMsMax = 10_000;
const connectionsMax = 1_024;
const chainCertificatesMax = 8;
/** https://developers.cloudflare.com/ruleset-engine/rules-language/fields/reference/: of the encoded texts. */
const certificateTextMax = 10 * 1_024;
const chainTextMax = 16 * 1_024;
export const bundlePath = "/.well-known/spiffe/bundle";

export interface FrontSvid {
  readonly chainPem: string;
  readonly keyPem: string;
}

export interface TlsFrontOptions {
  readonly port: number;
  /** Where the Worker answers in plain HTTP: `http://127.0.0.1:8787`, a port of Miniflare's. */
  readonly target: string;
  readonly svid: FrontSvid;
  /** The bundle document of the front's own trust domain, served at `bundlePath` by itself (https_spiffe); null serves none. */
  readonly bundle: (() => string) | null;
}

export interface TlsFront {
  readonly url: string;
  /** New connections get the new certificate; those that are open stay. */
  renew(svid: FrontSvid): void;
  stop(): Promise<void>;
}

export async function startTlsFront(options: TlsFrontOptions): Promise<TlsFront> {
  const agent = new Agent({ keepAlive: true });
  const server = createServer(
    {
      ...contextOf(options.svid),
      requestCert: true,
      // Cloudflare lets a certificate that it cannot validate through, too, and says so.
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
      handshakeTimeout: handshakeMsMax,
      maxHeaderSize: headersBytesMax,
    },
    (request, response) => {
      const document = request.url === bundlePath ? (options.bundle?.() ?? null) : null;
      if (document !== null && (request.method === "GET" || request.method === "HEAD")) {
        response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(document) });
        response.end(document);
      } else pass(agent, options.target, request, response);
    },
  );
  server.maxConnections = connectionsMax;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.port, loopback, resolve);
  });
  return {
    url: `https://${loopback}:${(server.address() as AddressInfo).port}`,
    renew: (svid) => server.setSecureContext(contextOf(svid)),
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      agent.destroy();
    },
  };
}

/** No session is taken up again: OpenSSL keeps the leaf of one alone, and a chain without its intermediates leads nowhere. */
const contextOf = ({ chainPem, keyPem }: FrontSvid) =>
  ({ cert: chainPem, key: keyPem, minVersion: "TLSv1.3", secureOptions: constants.SSL_OP_NO_TICKET }) as const;

const unanswered = JSON.stringify({
  type: "about:blank",
  title: "The worker behind the TLS front does not answer",
  status: 502,
});

function pass(agent: Agent, target: string, request: IncomingMessage, response: ServerResponse): void {
  const { hostname, port } = new URL(target);
  const outgoing = httpRequest({
    agent,
    hostname,
    port,
    method: request.method,
    path: request.url,
    headers: [
      ...keptHeaders(request.rawHeaders),
      ...(request.headers["transfer-encoding"] === undefined ? [] : ["transfer-encoding", "chunked"]),
      "x-forwarded-proto",
      "https",
      "cf-connecting-ip",
      request.socket.remoteAddress ?? loopback,
      // Miniflare makes `request.cf` of it.
      "mf-cf-blob",
      JSON.stringify({ tlsClientAuth: tlsClientAuth(request.socket as TLSSocket) }),
    ],
  });
  outgoing.once("response", (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.statusMessage, keptHeaders(answer.rawHeaders));
    answer.once("error", () => response.destroy());
    answer.pipe(response);
  });
  outgoing.once("error", () => {
    if (response.headersSent) response.destroy();
    else response.writeHead(502, { "content-type": "application/problem+json" }).end(unanswered);
  });
  // The client has gone, or has its answer: then there is nothing left to end.
  response.once("close", () => outgoing.destroy());
  request.pipe(outgoing);
}

/** Of the request whatever Connection says of them: without its length a body would be taken for the next request. */
const framing: ReadonlySet<string> = new Set(["content-length", "host"]);
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);
/** What only the front itself may say, of where a request comes from and who sent it; `mf-` is Miniflare's own. */
const ofTheFront =
  /^(?:cf-|mf-|forwarded$|x-forwarded-|x-real-ip$|x-ssl-|ssl-client|(?:x-)?client-cert|x-client-verify)/;

/** Names and values in turn, as Node has them raw: without what belongs to one connection, or to the front. */
export function keptHeaders(raw: readonly string[]): string[] {
  const pairs = raw.flatMap((name, at) => (at % 2 === 0 ? [[name, raw[at + 1] ?? ""] as const] : []));
  const named = pairs
    .filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) => value.split(",").map((each) => each.trim().toLowerCase()))
    .filter((name) => !framing.has(name));
  const dropped = new Set([...hopByHop, ...named]);
  return pairs.filter(([name]) => !dropped.has(name.toLowerCase()) && !ofTheFront.test(name.toLowerCase())).flat();
}

interface TlsClientAuth {
  readonly certPresented: "0" | "1";
  readonly certVerified: string;
  readonly certRevoked: "0";
  readonly certRFC9440: string;
  readonly certRFC9440TooLarge: boolean;
  readonly certChainRFC9440: string;
  readonly certChainRFC9440TooLarge: boolean;
}

/** As https://developers.cloudflare.com/ssl/client-certificates/client-certificate-variables/ where no CA is configured. */
function tlsClientAuth(socket: TLSSocket): TlsClientAuth {
  const [leaf, ...others] = chainOf(socket).map((der) => `:${der.toString("base64")}:`);
  return clientAuthOf(leaf ?? null, others);
}

/** Of certificates as RFC 9440 has them. */
export function clientAuthOf(leaf: string | null, others: readonly string[]): TlsClientAuth {
  const chain = others.join(", ");
  const leafTooLarge = (leaf?.length ?? 0) > certificateTextMax;
  const chainTooLarge = chain.length > chainTextMax;
  return {
    certPresented: leaf === null ? "0" : "1",
    certVerified: leaf === null ? "NONE" : "FAILED:unable to get local issuer certificate",
    certRevoked: "0",
    certRFC9440: leafTooLarge ? "" : (leaf ?? ""),
    certRFC9440TooLarge: leafTooLarge,
    certChainRFC9440: chainTooLarge ? "" : chain,
    certChainRFC9440TooLarge: chainTooLarge,
  };
}

/** What the client sent, the leaf first. */
function chainOf(socket: TLSSocket): Buffer[] {
  const chain: Buffer[] = [];
  let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (certificate?.raw !== undefined && chain.length < chainCertificatesMax) {
    chain.push(certificate.raw);
    const issuer: DetailedPeerCertificate | undefined = certificate.issuerCertificate;
    certificate = issuer === certificate ? undefined : issuer;
  }
  return chain;
}
