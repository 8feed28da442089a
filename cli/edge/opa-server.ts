// OPA's bundle API for OPAs on this machine: GET /bundles/{name}/{channel}, always whole snapshots, with ETag and long polling
// (https://www.openpolicyagent.org/docs/management-bundles); and GET /healthz. Started by `maestro edge serve`, which decides what is served.

import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { decideConditional } from "../../shared/edge/http-conditions.ts";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { errorCode, Failure } from "../failure.ts";
import { isLoopback } from "../http.ts";
import { BodiesInFlight } from "./bodies-in-flight.ts";

/** OPA goes on with long polling only where it is exactly this. */
export const bundleContentType = "application/vnd.openpolicyagent.bundles";
/** However long a client would wait. */
export const waitMsMax = 60_000;
const connectionsMax = 256;
const headMsMax = 5_000;
const idleMsMax = 90_000;
/** Until a body has been taken: a client that reads drop by drop holds no memory for longer. */
const answerMsMax = 120_000;

/** What there is for a path at this moment. */
export type Available =
  | { readonly state: "ready"; readonly sha256: string; readonly bytes: () => Promise<Bytes | null> }
  /** `why`: a sentence; nothing may be served now. */
  | { readonly state: "unavailable"; readonly why: string }
  | { readonly state: "unknown" };

/** `isWell` false is a 503. */
export interface Health {
  readonly isWell: boolean;
  readonly value: object;
}

export interface OpaServer {
  readonly url: string;
  /** Something may have changed: whoever waits looks again. */
  wake(): void;
  close(): Promise<void>;
}

export interface OpaServerOptions {
  readonly address: string;
  /** 0: any free one. */
  readonly port: number;
  /** `target`: `{name}/{channel}/bundle.tar.gz`. */
  readonly available: (target: string) => Available;
  readonly health: () => Health;
  readonly onFault: (error: unknown) => void;
}

export async function startOpaServer({
  address,
  port,
  available,
  health,
  onFault,
}: OpaServerOptions): Promise<OpaServer> {
  const waiting = new Set<() => void>();
  const bodies = new BodiesInFlight();
  const server = createServer(
    { headersTimeout: headMsMax, requestTimeout: headMsMax, keepAliveTimeout: idleMsMax },
    (request, response) =>
      void answer(request, response).catch((error: unknown) => {
        onFault(error);
        response.destroy();
      }),
  );
  server.maxConnections = connectionsMax;
  server.setTimeout(idleMsMax);

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // A page in this machine's browser reaches this port under a name of its own (DNS rebinding); OPA asks for this machine.
    if (!isThisMachine(request.headers.host))
      return refuse(response, 421, "Bundles are served under 127.0.0.1, localhost and [::1] alone.");
    const path = (request.url ?? "").split("?")[0]!;
    const target = /^\/bundles\/([a-z0-9.-]{1,64}\/[a-z]{1,16})$/.exec(path)?.[1];
    if (request.method !== "GET" && request.method !== "HEAD")
      return refuse(response, 405, "This path takes GET, HEAD.", { allow: "GET, HEAD" });
    if (path === "/healthz") return answerHealth(request, response, health());
    const key = target === undefined ? null : `${target}/bundle.tar.gz`;
    const now = (): Available => (key === null ? { state: "unknown" } : available(key));
    const known = request.headers["if-none-match"] ?? null;
    await waitForNews(response, () => isKnown(now(), known), waitMsOf(request.headers["prefer"]));
    if (response.destroyed) return;
    // Between the look and the reading a newer one may have come, and the older one's bytes be gone: look once more then.
    for (const isLast of [false, true]) {
      const there = now();
      if (there.state === "unknown")
        return refuse(response, 404, "No policy is served under this name. The paths are /bundles/NAME/CHANNEL.");
      if (there.state === "unavailable") return refuse(response, 503, there.why, { "retry-after": "1" });
      const etag = etagOf(there.sha256);
      const headers = { etag, "content-type": bundleContentType, "cache-control": "no-cache" };
      if (isKnown(there, known)) return void response.writeHead(304, headers).end();
      const body = await bodies.take(there.sha256, there.bytes);
      if (body === "no_room")
        return refuse(response, 503, "Too many bundles are on their way to others; ask again.", { "retry-after": "1" });
      const { bytes, done } = body;
      if (bytes === null) {
        if (isLast) return refuse(response, 503, "The bundle is not whole on this machine's disk.");
        continue;
      }
      // A client that has gone meanwhile has had its "close" already.
      if (response.destroyed) return done();
      const late = setTimeout(() => response.destroy(), answerMsMax);
      response.once("close", () => {
        clearTimeout(late);
        done();
      });
      response.writeHead(200, { ...headers, "content-length": bytes.length });
      return void (request.method === "HEAD" ? response.end() : response.end(bytes));
    }
  }

  /** Returns as soon as `isOld` is false, after `waitMs`, or when the client has gone. */
  async function waitForNews(response: ServerResponse, isOld: () => boolean, waitMs: number): Promise<void> {
    if (waitMs === 0 || !isOld()) return;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        waiting.delete(look);
        response.off("close", end);
        resolve();
      };
      const look = (): void => {
        if (!isOld()) end();
      };
      const timer = setTimeout(end, waitMs);
      waiting.add(look);
      response.on("close", end);
    });
  }

  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, address, resolve);
    });
  } catch (error) {
    throw new Failure("conflict", `Bundles cannot be served on ${address}:${port} (${errorCode(error) ?? "unknown"})`, {
      advice: "Name another address with --listen.",
    });
  }
  const bound = server.address() as AddressInfo;
  const host = bound.family === "IPv6" ? `[${bound.address}]` : bound.address;
  return {
    url: `http://${host}:${bound.port}`,
    wake() {
      for (const look of waiting) look();
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        // Who waits for news has nothing under way that could be lost.
        server.closeAllConnections();
      }),
  };
}

function answerHealth({ method }: IncomingMessage, response: ServerResponse, { isWell, value }: Health): void {
  const text = `${JSON.stringify(value)}\n`;
  response.writeHead(isWell ? 200 : 503, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(method === "HEAD" ? "" : text);
}

/** `host`: as the header has it, with a port or without. */
const isThisMachine = (host: string | undefined): boolean =>
  isLoopback((host ?? "").toLowerCase().replace(/:\d*$/, ""));

const etagOf = (sha256: string): string => `"${sha256}"`;

const isKnown = (there: Available, ifNoneMatch: string | null): boolean =>
  there.state === "ready" &&
  decideConditional("GET", { ifNoneMatch, range: null, ifRange: null }, etagOf(there.sha256), 0).status === 304;

/** `Prefer: modes=snapshot,delta;wait=30` (RFC 7240): whole seconds. */
function waitMsOf(prefer: string | string[] | undefined): number {
  const seconds = /(?:^|[;,\s])wait=(\d{1,6})(?:$|[;,\s])/.exec([prefer ?? []].flat().join(", "))?.[1];
  return Math.min(waitMsMax, Number(seconds ?? 0) * 1_000);
}

function refuse(
  response: ServerResponse,
  status: 404 | 405 | 421 | 503,
  detail: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  const titles = {
    404: "Not Found",
    405: "Method Not Allowed",
    421: "Misdirected Request",
    503: "Service Unavailable",
  } as const;
  response.writeHead(status, { "content-type": "application/problem+json", "cache-control": "no-store", ...headers });
  response.end(JSON.stringify({ type: "about:blank", title: titles[status], status, detail }));
}
