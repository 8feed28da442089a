// The API through the edge's name: what goes on to the API worker, and what comes back. Called by app.ts for /api/*. Nothing of it
// is kept; bodies stream both ways.

/** Twice the largest body that a route of the API takes: what is between the two the API refuses itself, in its own words. */
export const apiBodyBytesMax = 128 * 1024 * 1024;
/** Until the answer's headers are here; a body may take as long as it streams. */
export const apiAnswerMsMax = 120_000;

/** RFC 8586: our name in CDN-Loop. A request that has it has been here, or at the other provider, before. */
const loopName = "maestro-edge";
const loopLengthMax = 1_024;

/** RFC 9110, section 7.6.1: they are between two neighbours, and end here. */
const hopByHop = [
  "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
  "transfer-encoding", "upgrade",
] as const; // prettier-ignore

/** https://fetch.spec.whatwg.org/#methods: no request can be made with them. */
const forbiddenMethods: ReadonlySet<string> = new Set(["CONNECT", "TRACE", "TRACK"]);

export interface ApiLink {
  /** Where the API is: a service binding, or fetch to its origin. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** `https://…` without a slash at the end; null where the binding takes the request's own. */
  readonly origin: string | null;
  /** Shared with the API worker, which then believes who forwarded; "" where none is set. */
  readonly secret: string;
}

export type ForwardOutcome =
  | { readonly state: "answered"; readonly response: Response }
  | { readonly state: "loop" }
  | { readonly state: "too_large" }
  | { readonly state: "method_not_allowed" }
  /** Whoever sent it left before the end of the body. */
  | { readonly state: "broken_off" }
  | { readonly state: "unreachable"; readonly error: unknown };

export async function forwardApi(request: Request, provider: string, link: ApiLink): Promise<ForwardOutcome> {
  const loop = request.headers.get("cdn-loop") ?? "";
  if (loop.length > loopLengthMax || loop.split(",").some((hop) => hop.trim().split(";")[0] === loopName)) {
    return { state: "loop" };
  }
  if (Number(request.headers.get("content-length") ?? "0") > apiBodyBytesMax) return { state: "too_large" };
  if (forbiddenMethods.has(request.method.toUpperCase())) return { state: "method_not_allowed" };
  const headers = passedOn(request.headers);
  // RFC 9110, sections 9.3.1 and 9.3.2: what stands in their bodies means nothing, and no request can be made with one.
  const isBodyless = request.method === "GET" || request.method === "HEAD";
  if (isBodyless) headers.delete("content-length");
  headers.delete("host");
  headers.set("cdn-loop", loop === "" ? loopName : `${loop}, ${loopName}`);
  // The answer is handed on as it is, so it comes without a coding; the CDN may put its own on.
  headers.set("accept-encoding", "identity");
  headers.delete("maestro-edge-provider");
  headers.delete("maestro-edge-link");
  if (link.secret !== "") {
    headers.set("maestro-edge-provider", provider);
    headers.set("maestro-edge-link", link.secret);
  }
  const { pathname, search, origin } = new URL(request.url);
  const seen = { isTooLong: false, isBrokenOff: false };
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(), apiAnswerMsMax);
  try {
    const body = request.body === null || isBodyless ? null : bounded(request.body, apiBodyBytesMax, seen);
    const forwarded = new Request(`${link.origin ?? origin}${pathname}${search}`, {
      method: request.method,
      headers,
      body,
      redirect: "manual",
      signal: late.signal,
      // A stream as a body wants it; the types of workers do not know it.
      ...(body === null ? {} : { duplex: "half" }),
    });
    const response = await link.fetch(forwarded);
    const answerHeaders = passedOn(response.headers);
    const control = answerHeaders.get("cache-control");
    // A coding that is put on underway would make the strong tags of the API's answers weak.
    answerHeaders.set("cache-control", control === null ? "no-store, no-transform" : `${control}, no-transform`);
    answerHeaders.append("cache-status", `maestro-edge-${provider}; fwd=bypass; fwd-status=${response.status}`);
    return {
      state: "answered",
      response: new Response(response.body, { status: response.status, headers: answerHeaders }),
    };
  } catch (error) {
    if (seen.isTooLong) return { state: "too_large" };
    return seen.isBrokenOff ? { state: "broken_off" } : { state: "unreachable", error };
  } finally {
    clearTimeout(timer);
  }
}

/** A copy without what is between two neighbours, and without what Connection names as such. */
function passedOn(headers: Headers): Headers {
  const passed = new Headers(headers);
  for (const name of (headers.get("connection") ?? "").split(",").slice(0, 32)) {
    if (/^[\w-]+$/.test(name.trim())) passed.delete(name.trim());
  }
  for (const name of hopByHop) passed.delete(name);
  return passed;
}

/** The same bytes, failing at the first one beyond `bytesMax`. Tells why it failed before it does. */
function bounded(
  body: ReadableStream<Uint8Array>,
  bytesMax: number,
  told: { isTooLong: boolean; isBrokenOff: boolean },
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let seen = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read().catch((error: unknown) => {
          told.isBrokenOff = true;
          throw error;
        });
        if (done) return controller.close();
        seen += value.byteLength;
        if (seen > bytesMax) {
          told.isTooLong = true;
          await reader.cancel().catch(() => undefined);
          return controller.error(new Error(`the body has more than ${bytesMax} bytes`));
        }
        controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
