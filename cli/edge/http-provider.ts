// Reads objects of CDN providers over HTTP, as a client that trusts none of them: no redirect followed, no coding accepted,
// head, silence, time and bytes bounded. Made by cli/edge/fetching.ts; what came is judged by shared/edge.

import http from "node:http";
import https from "node:https";
import { Gathered } from "../../shared/contract/gather.ts";
import type { Wanted } from "../../shared/edge/fetcher-parts.ts";
import { refusedRead, type Read } from "../../shared/edge/refusal.ts";
import type { Attempt } from "../../shared/edge/route-object.ts";
import { whyUnreachable } from "../http.ts";

export interface ReadBounds {
  /** Until the head of the answer is here. */
  readonly headMsMax: number;
  /** Between two pieces of a body. */
  readonly idleMsMax: number;
  /** A whole answer: so long, and a ms more for each `bytesPerMs` that it may have. */
  readonly totalMs: number;
  readonly bytesPerMs: number;
}

export const readBounds: ReadBounds = { headMsMax: 3_000, idleMsMax: 3_000, totalMs: 5_000, bytesPerMs: 256 };

const socketsMax = 64;
const headBytesMax = 16 * 1024;

export interface HttpProviders {
  readonly start: (provider: string, wanted: Wanted) => Attempt;
  close(): void;
}

/** Told of each head of an answer: which provider's, and its Cache-Status. */
export type OnHead = (provider: string, cacheStatus: string | undefined) => void;

/** `bearer`: what each request comes with, a fetcher's key or its JWT-SVID of the moment; null: none. */
export function httpProviders(
  providers: readonly { readonly name: string; readonly baseUrl: string }[],
  bearer: () => string | null,
  bounds: ReadBounds = readBounds,
  onHead: OnHead = () => undefined,
): HttpProviders {
  const baseUrls = new Map(providers.map(({ name, baseUrl }) => [name, baseUrl]));
  const options = { keepAlive: true, maxSockets: socketsMax };
  const agents = { "http:": new http.Agent(options), "https:": new https.Agent(options) } as const;
  return {
    start(provider, wanted) {
      const url = new URL(`${baseUrls.get(provider)}/${wanted.key}`);
      const protocol = url.protocol === "https:" ? "https:" : "http:";
      const { request } = protocol === "https:" ? https : http;
      const credential = bearer();
      const sent = request(url, {
        agent: agents[protocol],
        maxHeaderSize: headBytesMax,
        headers: {
          ...(credential === null ? {} : { authorization: `Bearer ${credential}` }),
          accept: wanted.contentType,
          "accept-encoding": "identity",
        },
      });
      sent.on("response", ({ headers }) => onHead(provider, headers["cache-status"] as string | undefined));
      sent.end();
      return attemptOf(sent, provider, wanted, bounds);
    },
    close() {
      for (const agent of Object.values(agents)) agent.destroy();
    },
  };
}

function attemptOf(sent: http.ClientRequest, provider: string, wanted: Wanted, bounds: ReadBounds): Attempt {
  let settle: (read: Read) => void = () => undefined;
  const answer = new Promise<Read>((resolve) => {
    settle = resolve;
  });
  const of = `${wanted.key} of ${provider}`;
  const totalMs = bounds.totalMs + wanted.bytesMax / bounds.bytesPerMs;
  let silence = setTimeout(() => end(late(`no head came within ${bounds.headMsMax} ms`)), bounds.headMsMax);
  const whole = setTimeout(() => end(late(`it was not whole within ${Math.round(totalMs)} ms`)), totalMs);
  const late = (what: string): Read => refusedRead("late", `${of}: ${what}`);
  let isOver = false;

  function end(read: Read): void {
    if (isOver) return;
    isOver = true;
    clearTimeout(silence);
    clearTimeout(whole);
    // A whole answer leaves its connection for the next one; any other takes it along.
    if (!read.ok) sent.destroy();
    settle(read);
  }

  // After the end these come too, from the connection that was cut: they change nothing.
  sent.on("error", (error) =>
    end(refusedRead("unreachable", `${provider} cannot be reached: ${whyUnreachable(error)}`)),
  );
  sent.on("response", (response) => {
    const refused = headRefusal(response, of, wanted);
    if (refused !== null) {
      response.on("error", () => end(refused));
      end(refused);
      return;
    }
    const listen = (): void => {
      clearTimeout(silence);
      silence = setTimeout(() => end(late(`nothing more came within ${bounds.idleMsMax} ms`)), bounds.idleMsMax);
    };
    listen();
    const gathered = new Gathered();
    response.on("data", (piece: Buffer) => {
      if (isOver) return;
      listen();
      if (gathered.length + piece.length > wanted.bytesMax) end(tooLarge(of, wanted));
      else gathered.add(piece);
    });
    const broken = (): void => end(refusedRead("truncated", `${of} broke off after ${gathered.length} bytes`));
    response.on("error", broken);
    response.on("close", broken);
    response.on("end", () => {
      if (response.complete) end({ ok: true, bytes: gathered.take() });
      else broken();
    });
  });
  return { answer, abandon: () => end(late("nobody waited for it any more")) };
}

const tooLarge = (of: string, { bytesMax }: Wanted): Read =>
  refusedRead("too_large", `${of} has more than ${bytesMax} bytes`);

function headRefusal({ statusCode = 0, headers }: http.IncomingMessage, of: string, wanted: Wanted): Read | null {
  if (statusCode >= 300 && statusCode < 400)
    return refusedRead("redirected", `${of} answers ${statusCode}, a redirect`);
  if (statusCode === 401 || statusCode === 403) return refusedRead("denied", `${of} answers ${statusCode}`);
  if (statusCode === 404) return refusedRead("missing", `${of} is not there`);
  if (statusCode !== 200) return refusedRead("bad_status", `${of} answers ${statusCode}`);
  const contentType = (headers["content-type"] ?? "").split(";")[0]!.trim().toLowerCase();
  if (contentType !== wanted.contentType)
    return refusedRead(
      "wrong_content_type",
      `${of} is served as ${JSON.stringify(contentType)}, not ${wanted.contentType}`,
    );
  const coding = headers["content-encoding"] ?? "identity";
  if (coding !== "identity") return refusedRead("encoded", `${of} comes as ${JSON.stringify(coding)}`);
  return Number(headers["content-length"] ?? 0) > wanted.bytesMax ? tooLarge(of, wanted) : null;
}
