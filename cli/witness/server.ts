// The HTTP server of `maestro witness serve` (https://c2sp.org/tlog-witness): `POST /add-checkpoint` and
// `GET /<hex SHA-256 of the origin>/checkpoint`. What it answers is decided by shared/audit/witness.ts; here are the
// bounds that keep a slow, large or hostile client from anything but its own connection.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { addCheckpoint, readCheckpoint, requestBytesMax, type WitnessParts } from "../../shared/audit/witness.ts";
import { Gathered } from "../../shared/contract/gather.ts";
import { errorCode, Failure } from "../failure.ts";

/** A request must be here, whole, within so long; its head within half of it. */
const requestMsMax = 10_000;
const headMsMax = 5_000;
/** A connection on which nothing moves. Logs ask once a minute: theirs may stay open in between. */
const idleMsMax = 90_000;
const connectionsMax = 256;
/** At the end, requests that are under way get so long to finish. */
const endMsMax = 2_000;

/** One request, for the server's log. */
export interface Served {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly ms: number;
  readonly origin: string | null;
  readonly size: number | null;
}

export interface WitnessServer {
  readonly url: string;
  /** Ends: no new connections, then those under way. */
  close(): Promise<void>;
}

export interface WitnessServerOptions {
  readonly witness: WitnessParts;
  readonly address: string;
  /** 0: any free one. */
  readonly port: number;
  readonly onServed: (served: Served) => void;
  /** A request that failed for a reason of ours: the witness answered 500, and promised nothing. */
  readonly onFault: (error: unknown) => void;
}

type Answer = Pick<Served, "status" | "origin" | "size"> & { readonly contentType: string; readonly body: string };

const plain = "text/plain; charset=utf-8";
const without = (status: number, body: string): Answer => ({
  status,
  contentType: plain,
  body: `${body}\n`,
  origin: null,
  size: null,
});

export async function startWitnessServer(options: WitnessServerOptions): Promise<WitnessServer> {
  const { witness, address, port, onServed, onFault } = options;
  const server = createServer(
    {
      requestTimeout: requestMsMax,
      headersTimeout: headMsMax,
      keepAliveTimeout: idleMsMax,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => void serve(request, response),
  );
  server.maxConnections = connectionsMax;
  server.setTimeout(idleMsMax);

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const startedAt = witness.clock();
    const path = request.url ?? "";
    let answer: Answer;
    try {
      answer = await answerTo(witness, request, path);
    } catch (error) {
      // The client has left, or its time is up.
      if (request.destroyed && !request.complete) return;
      onFault(error);
      answer = without(500, "the witness failed; nothing was cosigned");
    }
    const { status, contentType, body, origin, size } = answer;
    // What is left of a body that is too large is not waited for.
    if (!request.complete) response.setHeader("connection", "close");
    response.writeHead(status, { "content-type": contentType, "content-length": Buffer.byteLength(body) }).end(body);
    onServed({ method: request.method ?? "", path, status, ms: witness.clock() - startedAt, origin, size });
  }

  await listen(server, port, address);
  const bound = server.address() as AddressInfo;
  const shown = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return {
    url: `http://${shown}:${bound.port}`,
    close: () =>
      new Promise((resolve) => {
        const late = setTimeout(() => server.closeAllConnections(), endMsMax);
        server.close(() => {
          clearTimeout(late);
          resolve();
        });
        server.closeIdleConnections();
      }),
  };
}

async function answerTo(witness: WitnessParts, request: IncomingMessage, path: string): Promise<Answer> {
  if (path === "/add-checkpoint") {
    if (request.method !== "POST") return without(405, "POST only");
    const body = await bodyOf(request);
    return body === null
      ? without(413, `a request has at most ${requestBytesMax} bytes`)
      : await addCheckpoint(witness, body);
  }
  if (request.method !== "GET" && request.method !== "HEAD") return without(404, "there is nothing here");
  const note = await readCheckpoint(witness.store, path);
  if (note === null) return without(404, "there is nothing here");
  return { status: 200, contentType: plain, body: note, origin: note.slice(0, note.indexOf("\n")), size: null };
}

/** Null where there is more than a request may have. */
async function bodyOf(request: IncomingMessage): Promise<Uint8Array | null> {
  const gathered = new Gathered();
  for await (const chunk of request as AsyncIterable<Buffer>) {
    if (gathered.length + chunk.length > requestBytesMax) return null;
    gathered.add(chunk);
  }
  return gathered.take();
}

async function listen(server: Server, port: number, address: string): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, address, resolve);
    });
  } catch (error) {
    throw new Failure(
      "conflict",
      `The witness cannot listen on ${address}:${port} (${errorCode(error) ?? "unknown"})`,
      {
        advice: "Name another address with --listen.",
      },
    );
  }
}
