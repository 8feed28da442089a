// One request to the API and what may go wrong on the way: retries under one Idempotency-Key, time limits, bounded
// bodies, problem documents, network errors as one sentence. Called by `api.ts` and `download.ts`.

import { randomUUID } from "node:crypto";
import { Gathered } from "../shared/contract/gather.ts";
import { ApiProblem, errorCode, Failure, messageOf, problemOf } from "./failure.ts";
import type { Host } from "./host.ts";
import type { Presenter } from "./svid/presenter.ts";
import { serverRefused, type ApiFetch } from "./svid/svid-fetch.ts";

const attemptsMax = 5;
const backoffFirstMs = 250;
const backoffMaxMs = 4_000;
const retryAfterMaxMs = 10_000;
const answerWithinMs = 30_000;
/** The largest JSON or text answer that is read into memory. */
const answerBytesMax = 32 * 1024 * 1024;

export interface Call {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  /** Begins with a slash. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly json?: unknown;
  readonly bytes?: { readonly body: Uint8Array<ArrayBuffer>; readonly contentType: string };
  readonly headers?: Readonly<Record<string, string>>;
  /** For what changes state: sent as Idempotency-Key, the same on each attempt. */
  readonly idempotent?: boolean;
  /** How long until the answer's head must be here. */
  readonly withinMs?: number;
}

export interface Wire {
  readonly baseUrl: string;
  /** What goes behind `Authorization: Bearer`, or null for public routes. */
  readonly secret: string | null;
  /** Where an SVID speaks instead of `secret`: asked at each attempt. */
  readonly presenter?: Presenter | null;
  readonly host: Pick<Host, "sleep" | "interrupted">;
  /** Aborts the call and its retries. `null` where the call must be tried even after Ctrl-C. */
  readonly signal: AbortSignal | null;
}

const refusals: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ECONNRESET: "the connection was cut",
  UND_ERR_SOCKET: "the connection was cut",
  EPIPE: "the connection was cut",
  ENOTFOUND: "there is no host of that name",
  EAI_AGAIN: "the name cannot be looked up now",
  EHOSTUNREACH: "there is no way to that host",
  ENETUNREACH: "there is no way to that network",
  ETIMEDOUT: "it did not answer in time",
  UND_ERR_CONNECT_TIMEOUT: "it did not answer in time",
  UND_ERR_HEADERS_TIMEOUT: "it did not answer in time",
  CERT_HAS_EXPIRED: "its certificate has expired",
  DEPTH_ZERO_SELF_SIGNED_CERT: "its certificate is self-signed",
  SELF_SIGNED_CERT_IN_CHAIN: "its certificate chain is not trusted",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "its certificate is not trusted",
  ERR_TLS_CERT_ALTNAME_INVALID: "its certificate is for another name",
  [serverRefused]: "its certificate is neither the API's SVID nor one of the Web PKI for that name",
};

export const isLoopback = (hostname: string): boolean => /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])$/.test(hostname);

const causeOf = (error: unknown): unknown =>
  error instanceof Error && error.cause !== undefined ? error.cause : error;

function causeCode(error: unknown): string | null {
  const cause = causeOf(error);
  const causes: unknown[] = cause instanceof AggregateError ? cause.errors : [cause];
  return causes.map(errorCode).find((name) => name !== null) ?? null;
}

/** Why `fetch` threw, in words without any of the request. */
export function whyUnreachable(error: unknown): string {
  if (error instanceof Error && error.name === "TimeoutError") return "it did not answer in time";
  const code = causeCode(error);
  return refusals[code ?? ""] ?? code ?? "the connection failed";
}

/** The network's refusal in one sentence; nothing of the request but its origin is in it. */
export function networkFailure(origin: string, error: unknown): Failure {
  const code = causeCode(error);
  const redirected = messageOf(causeOf(error)) === "unexpected redirect";
  const why = redirected ? "it redirects, which the API never does" : whyUnreachable(error);
  return new Failure("unavailable", `The API at ${origin} cannot be reached: ${why}`, {
    advice: /\/\/(?:localhost|127\.|\[::1\])/.test(origin)
      ? "Is the local stack up? `npm start` starts it."
      : "Check the address and the network.",
    facts: { api_url: origin, cause: code },
  });
}

export const interruptedFailure = (): Failure => new Failure("interrupted", "Interrupted");

export function addressOf(call: Pick<Call, "path" | "query">, baseUrl: string): string {
  const url = new URL(call.path, baseUrl);
  for (const [name, value] of Object.entries(call.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  return url.href;
}

/** Reads at most `bytesMax` of an answer. */
export async function readBounded(response: Response, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const gathered = new Gathered();
  for await (const chunk of response.body ?? []) {
    if (gathered.length + chunk.length > bytesMax)
      throw new Failure("failure", `The API's answer is larger than ${bytesMax} bytes`);
    gathered.add(chunk);
  }
  return gathered.take();
}

const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

function retryAfterMs(response: Response): number | null {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null;
}

/** The wait before attempt `attempt` + 1: exponential with full jitter, never less than what the server asked for. */
export function backoffMs(attempt: number, askedMs: number | null): number {
  const ceiling = Math.min(backoffMaxMs, backoffFirstMs * 2 ** (attempt - 1));
  return Math.max(Math.min(askedMs ?? 0, retryAfterMaxMs), Math.random() * ceiling);
}

const mayPass = (error: Failure): boolean =>
  error.exit === "unavailable" && !(error instanceof ApiProblem && error.status === 429);

/**
 * Sends `call` and answers what `read` makes of a 2xx (or 304) response; throws ApiProblem for any other status and
 * Failure `unavailable` for the network. Unavailable answers are asked again, at most `attemptsMax` times in all, under
 * the same Idempotency-Key, so that an effect happens once even where the first answer was lost.
 */
export async function send<T>(wire: Wire, call: Call, read: (response: Response) => Promise<T>): Promise<T> {
  const headers: Record<string, string> = { accept: "application/json, application/problem+json", ...call.headers };
  if (call.idempotent === true) headers["idempotency-key"] = randomUUID();
  let body: string | Uint8Array<ArrayBuffer> | null = null;
  if (call.json !== undefined) {
    headers["content-type"] = "application/json";
    body = JSON.stringify(call.json);
  } else if (call.bytes !== undefined) {
    headers["content-type"] = call.bytes.contentType;
    body = call.bytes.body;
  }
  for (let attempt = 1; ; attempt += 1) {
    let failed: Failure;
    try {
      return await attemptOnce(wire, call, headers, body, read);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      failed = error;
    }
    if (!mayPass(failed) || attempt >= attemptsMax) throw failed;
    const asked = failed instanceof ApiProblem ? failed.retryAfterMs : null;
    try {
      await wire.host.sleep(backoffMs(attempt, asked), wire.signal ?? undefined);
    } catch (error) {
      if (wire.signal?.aborted === true) throw interruptedFailure();
      throw error;
    }
  }
}

/** A redirect would carry the credential and the body to where nobody agreed. */
const plainFetch: ApiFetch = (address, request) => fetch(address, { ...request, redirect: "error" });

async function attemptOnce<T>(
  wire: Wire,
  call: Call,
  headers: Readonly<Record<string, string>>,
  body: string | Uint8Array<ArrayBuffer> | null,
  read: (response: Response) => Promise<T>,
): Promise<T> {
  const inTime = AbortSignal.timeout(call.withinMs ?? answerWithinMs);
  const signal = wire.signal === null ? inTime : AbortSignal.any([wire.signal, inTime]);
  const presented = await wire.presenter?.present(wire.baseUrl);
  const secret = presented === undefined ? wire.secret : presented.secret;
  try {
    const response = await (presented?.fetch ?? plainFetch)(addressOf(call, wire.baseUrl), {
      method: call.method,
      headers: secret === null ? headers : { ...headers, authorization: `Bearer ${secret}` },
      body,
      signal,
    });
    if (response.ok || response.status === 304) return await read(response);
    const text = decode(await readBounded(response, answerBytesMax));
    throw new ApiProblem(
      response.status,
      problemOf(response.status, response.headers.get("content-type"), text),
      retryAfterMs(response),
    );
  } catch (error) {
    if (wire.signal?.aborted === true) throw interruptedFailure();
    if (error instanceof Failure) throw error;
    // undici throws TypeError for the network, DOMException for the time limit; anything else is a defect of ours.
    if (error instanceof TypeError || (error instanceof Error && error.name === "TimeoutError")) {
      throw networkFailure(new URL(wire.baseUrl).origin, error);
    }
    throw error;
  }
}

export const readBytes =
  (bytesMax: number) =>
  (response: Response): Promise<Uint8Array<ArrayBuffer>> =>
    readBounded(response, bytesMax);

export const readText = async (response: Response): Promise<string> =>
  decode(await readBounded(response, answerBytesMax));

export async function readJson(response: Response): Promise<unknown> {
  const text = await readText(response);
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    if (error instanceof SyntaxError)
      throw new Failure("failure", `The API answered ${response.status}, but not with JSON`);
    throw error;
  }
}
