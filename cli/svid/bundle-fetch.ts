// Fetches a trust domain's bundle from an endpoint that proves itself by an SVID (SPIFFE Federation 5.2.2, `https_spiffe`), which a Worker
// cannot. Called by `maestro identity bundle push`. Nothing is asked of a server before it is known.

import { Agent, request } from "node:https";
import type { IncomingMessage } from "node:http";
import { connect, type ConnectionOptions } from "node:tls";
import type { Duplex } from "node:stream";
import { Gathered } from "../../shared/contract/gather.ts";
import { checkBundleServer, redirectedTo } from "../../shared/identity/bundle-endpoint.ts";
import type { SpiffeId } from "../../shared/identity/spiffe-id.ts";
import { bundleBytesMax, type TrustBundle } from "../../shared/identity/trust-bundle.ts";
import { chainOf } from "./peer-chain.ts";

/** From the first connection to the last byte, redirects included. */
const fetchMsMax = 20_000;
const headersBytesMax = 16_384;

export type FetchedBundle =
  | { readonly ok: true; readonly document: string }
  /** A sentence without its full stop; nothing of the server's words is in it. */
  | { readonly ok: false; readonly reason: string };

class NotKnown extends Error {}

/** `known`: the bundle of `serverId`'s own trust domain. Throws the reason of `interrupted` where that ends it. */
export async function fetchBySpiffe(
  url: string,
  serverId: SpiffeId,
  known: TrustBundle,
  clock: () => number,
  interrupted: AbortSignal,
): Promise<FetchedBundle> {
  const late = AbortSignal.timeout(fetchMsMax);
  const signal = AbortSignal.any([late, interrupted]);
  const agent = new KnownServers(serverId, known, clock);
  let at = url;
  try {
    for (let followed = 0; ; followed += 1) {
      const answer = await ask(at, agent, signal);
      if (answer.location !== null) {
        const next = redirectedTo(at, answer.location, followed);
        if (!next.ok) return { ok: false, reason: next.refusal.reason };
        at = next.value;
        continue;
      }
      if (answer.status !== 200) return { ok: false, reason: `the endpoint answered with status ${answer.status}` };
      if (answer.document === null) {
        return { ok: false, reason: `the endpoint gave more than ${bundleBytesMax} bytes, or no UTF-8` };
      }
      return { ok: true, document: answer.document };
    }
  } catch (error) {
    interrupted.throwIfAborted();
    if (error instanceof NotKnown) return { ok: false, reason: error.message };
    return { ok: false, reason: late.aborted ? "the endpoint did not answer in time" : "the endpoint was not reached" };
  } finally {
    agent.destroy();
  }
}

/** Gives out connections to servers that are `serverId` alone. */
class KnownServers extends Agent {
  readonly #serverId: SpiffeId;
  readonly #known: TrustBundle;
  readonly #clock: () => number;

  constructor(serverId: SpiffeId, known: TrustBundle, clock: () => number) {
    super({ keepAlive: false });
    this.#serverId = serverId;
    this.#known = known;
    this.#clock = clock;
  }

  override createConnection(
    options: ConnectionOptions,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): undefined {
    // Whether it is known is decided below; its host's name says nothing here.
    const socket = connect({
      ...options,
      minVersion: "TLSv1.2",
      ALPNProtocols: ["http/1.1"],
      rejectUnauthorized: false,
    });
    const end = (error: Error | null): void => {
      socket.off("error", end);
      if (error !== null) socket.destroy();
      callback?.(error, socket);
    };
    socket.once("error", end);
    socket.once("secureConnect", () => {
      const { trustDomain } = this.#known;
      checkBundleServer(
        this.#serverId,
        chainOf(socket),
        (asked) => (asked === trustDomain ? this.#known : null),
        this.#clock(),
      ).then(
        (checked) => end(checked.ok ? null : new NotKnown(`${checked.refusal.reason} (${checked.refusal.section})`)),
        end,
      );
    });
    return undefined;
  }
}

interface Answer {
  readonly status: number;
  /** Where it is a redirect. */
  readonly location: string | null;
  readonly document: string | null;
}

function ask(url: string, agent: Agent, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { accept: "application/json" };
    const outgoing = request(url, { agent, signal, headers, maxHeaderSize: headersBytesMax }, (incoming) => {
      answerOf(incoming).then(resolve, reject);
    });
    outgoing.once("error", reject);
    outgoing.end();
  });
}

async function answerOf(incoming: IncomingMessage): Promise<Answer> {
  const status = incoming.statusCode ?? 0;
  const location = status >= 300 && status < 400 ? (incoming.headers.location ?? null) : null;
  if (status !== 200) {
    incoming.destroy();
    return { status, location, document: null };
  }
  const gathered = new Gathered();
  for await (const chunk of incoming as AsyncIterable<Uint8Array>) {
    if (gathered.length + chunk.length > bundleBytesMax) {
      incoming.destroy();
      return { status, location, document: null };
    }
    gathered.add(chunk);
  }
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    return { status, location, document: text.decode(gathered.take()) };
  } catch {
    return { status, location, document: null };
  }
}
