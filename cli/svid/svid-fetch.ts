// HTTP with a client certificate that is an X.509-SVID, to a server whose certificate is the API's own SVID, or one of the Web PKI
// for the host's name. Called by presenter.ts, and through it by http.ts. Over node:https: the global fetch takes no client
// certificate.

import { Agent, request as httpsRequest } from "node:https";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { connect, type ConnectionOptions, type TLSSocket } from "node:tls";
import { parseTrustBundle, type TrustBundle } from "../../shared/identity/trust-bundle.ts";
import { verifyX509Svid } from "../../shared/identity/x509-svid.ts";
import { chainOf } from "./peer-chain.ts";
import type { HeldCertificate } from "./svid-folder.ts";

export interface ApiRequest {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | Uint8Array<ArrayBuffer> | null;
  readonly signal: AbortSignal;
}
/** As the global `fetch` with `redirect: "error"`: throws TypeError with its cause for the network, the signal's reason where it aborts. */
export type ApiFetch = (address: string, request: ApiRequest) => Promise<Response>;

const connectMsMax = 10_000;
const headersBytesMax = 32_768;
const socketsMax = 16;

/** The API's own ID in the trust domain of whoever calls it. */
const serverIdIn = (trustDomain: string): string => `spiffe://${trustDomain}/platform/api`;

/** In http.ts a sentence. */
export const serverRefused = "ERR_SVID_SERVER";

class ServerRefused extends Error {
  readonly code = serverRefused;
}

export async function fetchWithSvid(held: HeldCertificate, clock: () => number): Promise<ApiFetch> {
  const parsed = held.bundle === null ? null : await parseTrustBundle(held.id.trustDomain, held.bundle);
  const agent = new SvidAgent(held, parsed?.ok === true ? parsed.value : null, clock);
  return (address, request) => exchange(agent, address, request);
}

class SvidAgent extends Agent {
  readonly #held: HeldCertificate;
  readonly #bundle: TrustBundle | null;
  readonly #clock: () => number;

  constructor(held: HeldCertificate, bundle: TrustBundle | null, clock: () => number) {
    super({ keepAlive: true, maxSockets: socketsMax });
    this.#held = held;
    this.#bundle = bundle;
    this.#clock = clock;
  }

  /** A connection is given out once its server is known; nothing is sent before. */
  override createConnection(
    options: ConnectionOptions,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | null | undefined {
    const socket = connect({
      ...options,
      cert: this.#held.chainPem,
      key: this.#held.keyPem,
      minVersion: "TLSv1.3",
      ALPNProtocols: ["http/1.1"],
      // Decided below: by SPIFFE, else by what Node says of the Web PKI.
      rejectUnauthorized: false,
    });
    const inTime = setTimeout(() => {
      socket.destroy(Object.assign(new Error("the handshake took too long"), { code: "ETIMEDOUT" }));
    }, connectMsMax);
    const end = (error: Error | null): void => {
      clearTimeout(inTime);
      socket.off("error", end);
      if (error !== null) socket.destroy();
      callback?.(error, socket);
    };
    socket.once("error", end);
    socket.once("secureConnect", () => {
      this.#whyNot(socket).then(end, end);
    });
    return undefined;
  }

  async #whyNot(socket: TLSSocket): Promise<Error | null> {
    // Also the host's name was looked at.
    if (socket.authorized) return null;
    if (this.#bundle === null) {
      return new ServerRefused("the folder has no bundle to verify it with", { cause: socket.authorizationError });
    }
    const verified = await verifyX509Svid(chainOf(socket), this.#bundle, this.#clock());
    if (!verified.ok) return new ServerRefused(`${verified.refusal.reason} (${verified.refusal.section})`);
    const wanted = serverIdIn(this.#held.id.trustDomain);
    const { uri } = verified.value.id;
    return uri === wanted ? null : new ServerRefused(`it is ${uri}, not ${wanted}`);
  }
}

const emptyStatuses = new Set([204, 205, 304]);

function exchange(agent: Agent, address: string, { method, headers, body, signal }: ApiRequest): Promise<Response> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => reject(reasonOf(signal, error));
    const outgoing = httpsRequest(
      address,
      {
        agent,
        method,
        signal,
        maxHeaderSize: headersBytesMax,
        headers: {
          ...headers,
          "accept-encoding": "identity",
          ...(body === null ? {} : { "content-length": Buffer.byteLength(body) }),
        },
      },
      (incoming) => {
        const status = incoming.statusCode ?? 0;
        if (status >= 300 && status < 400 && status !== 304) {
          incoming.destroy();
          return failed(new Error("unexpected redirect"));
        }
        if (emptyStatuses.has(status)) incoming.resume();
        resolve(
          new Response(emptyStatuses.has(status) ? null : bodyOf(incoming, signal), {
            status,
            headers: incoming.rawHeaders.flatMap((_, at, all) =>
              at % 2 === 0 ? [[all[at] ?? "", all[at + 1] ?? ""] as [string, string]] : [],
            ),
          }),
        );
      },
    );
    outgoing.once("error", failed);
    outgoing.end(body ?? undefined);
  });
}

const reasonOf = (signal: AbortSignal, error: unknown): Error =>
  signal.aborted && signal.reason instanceof Error ? signal.reason : new TypeError("fetch failed", { cause: error });

function bodyOf(incoming: IncomingMessage, signal: AbortSignal): ReadableStream<Uint8Array> {
  async function* chunks(): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of incoming as AsyncIterable<Buffer>) yield new Uint8Array(chunk);
    } catch (error) {
      throw reasonOf(signal, error);
    }
  }
  const read = chunks();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await read.next();
      if (done === true) controller.close();
      else controller.enqueue(value);
    },
    cancel: () => void incoming.destroy(),
  });
}
