// The edge as one Hono app that knows no platform: policies, metadata, statements and deltas for authenticated fetchers, the
// current bundle of a channel for clients that know no TUF, and the API through the edge's name. Made once an instance by
// cloudflare.ts and by bunny.ts, with a store and a link of their own; docs/edge/SERVING.md is its reference.

import { Hono } from "hono";
import { hex, sha256Hex, utf8, type Bytes } from "../../shared/contract/bytes.ts";
import { newId } from "../../shared/contract/ids.ts";
import type { Clock, Log, Random } from "../../shared/contract/ports.ts";
import { Problem, problemDocument, type ProblemCode } from "../../shared/contract/problems.ts";
import { decideConditional } from "../../shared/edge/http-conditions.ts";
import { parseEdgePath, policyKey, type EdgeTarget } from "../../shared/edge/serving-path.ts";
import { EdgeCache, type CacheLimits, type CacheRule, type EdgeStore, type Entry, type Source } from "./cache.ts";
import { EdgeCounters } from "./counters.ts";
import { FetcherKeys } from "./fetcher-keys.ts";
import { Fetchers, type WhoIsIt } from "./fetchers.ts";
import { apiBodyBytesMax, forwardApi, type ApiLink } from "./forward-api.ts";
import { bundleBytesMax } from "../../shared/identity/trust-bundle.ts";
import { ChannelResolver, timestampRule, versionedRule } from "./resolve-channel.ts";
import { TrustBundles } from "./trust.ts";
import { Workloads } from "./workloads.ts";

export interface EdgeParts {
  /** The provider's name, as policy/edge.multicdn.json has it: lower-case letters, digits and dashes. */
  readonly provider: string;
  readonly store: EdgeStore;
  readonly api: ApiLink;
  /** Who may read GET /metrics, as a bearer; "" for nobody. */
  readonly metricsKey: string;
  /** What the platform tells of the client certificate that a request came with (`request.cf.tlsClientAuth`); undefined: nothing. */
  readonly tlsClientAuth: (request: Request) => unknown;
  /** Has work that the current request began go on when its client is gone. */
  readonly keepAlive: (work: Promise<unknown>) => void;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
}

export interface Edge {
  fetch(request: Request): Promise<Response>;
}

/** Both platforms give an instance 128 MB. */
export const objectLimits: CacheLimits = {
  bytesMax: 80 * 1024 * 1024,
  entriesMax: 8_192,
  missingMax: 1_024,
  objectBytesMax: 64 * 1024 * 1024,
  readsMax: 256,
  doubtfulReadsMax: 256,
  readMsMax: 10_000,
  sharedReadMsMax: 3_000,
};
export const fetcherLimits: CacheLimits = {
  bytesMax: 4 * 1024 * 1024,
  entriesMax: 8_192,
  missingMax: 8_192,
  objectBytesMax: 4_096,
  readsMax: 64,
  doubtfulReadsMax: 32,
  readMsMax: 3_000,
  sharedReadMsMax: 1_000,
};
const trustLimits: CacheLimits = { ...fetcherLimits, missingMax: 1_024, objectBytesMax: bundleBytesMax };
/** So long it is remembered that the next root is not there: each refresh of a TUF client asks for it. */
export const rootMissingMs = 1_000;
/** Requests that came back have one line in the log in so long. */
const loopLineMs = 60_000;

/** `no-transform`: a coding that is put on underway would make the strong tags weak. */
const immutable = "private, max-age=31536000, immutable, no-transform";
const oneSecond = "private, max-age=1, no-transform";

const worse = ["none", "hit", "collapsed", "miss"] as const;

/** Whether an answer needed the store, as counted and as Cache-Status tells: the worst of its parts. "none": it needed nothing. */
class Trace {
  source: Source | "none" = "none";
  readonly note = (source: Source): void => {
    if (worse.indexOf(source) > worse.indexOf(this.source)) this.source = source;
  };
}

interface Served {
  readonly contentType: string;
  readonly cacheControl: string;
}

export function createEdge(parts: EdgeParts): Edge {
  const { provider, clock, random, log } = parts;
  const counters = new EdgeCounters(provider);
  let instance = "";
  let loopToldMs = Number.NEGATIVE_INFINITY;

  const cacheOf = (kind: "object" | "fetcher" | "workload" | "trust", limits: CacheLimits): EdgeCache =>
    new EdgeCache(
      {
        store: parts.store,
        clock,
        keepAlive: parts.keepAlive,
        onRead: (outcome, error) => {
          counters.add("mc_edge_store_reads_total", `kind="${kind}",outcome="${outcome}"`);
          if (outcome === "corrupt") log("error", "the store's bytes are not what their name says", { provider, kind });
          if (outcome === "failed" || outcome === "late") {
            log("warn", "the store was not read", { provider, kind, outcome, error: errorName(error) });
          }
        },
      },
      limits,
    );
  const objects = cacheOf("object", objectLimits);
  const workloads = new Workloads({
    cache: cacheOf("workload", fetcherLimits),
    bundles: new TrustBundles(cacheOf("trust", trustLimits), ({ section, reason }) =>
      log("error", "a trust bundle of the store is not taken", { provider, section, reason }),
    ),
    onBroken: () => log("error", "a workload's file is broken", { provider }),
    onVerified: (kind, held) =>
      counters.add("mc_edge_svid_verifications_total", `credential="${kind}",outcome="${held ? "held" : "refused"}"`),
  });
  const keys = new FetcherKeys(cacheOf("fetcher", fetcherLimits), () =>
    log("error", "a fetcher's file is broken", { provider }),
  );
  const fetchers = new Fetchers(keys, workloads);
  const channels = new ChannelResolver(objects);

  const refuse = (code: ProblemCode, detail: string, headers: Readonly<Record<string, string>> = {}): Response => {
    const problem = new Problem(code, detail);
    const document = problemDocument(problem, newId("request", clock(), random(10)));
    return new Response(JSON.stringify(document), {
      status: problem.status,
      headers: {
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        ...(problem.status === 503 ? { "retry-after": "1" } : {}),
        ...headers,
      },
    });
  };
  /** One answer for what is missing, foreign, or no name at all. */
  const nothingHere = (): Response =>
    refuse("not_found", "There is nothing here under this name, or it is not yours to see.", vary);
  /** Words for the SVID of a workload that is registered alone: of whoever else comes, nothing is told. */
  const notKnown = (who: Extract<WhoIsIt, { readonly state: "unknown" | "refused" }>): Response =>
    refuse(
      "fetcher_key_needed",
      who.state === "refused"
        ? `The SVID was refused (${who.refusal.section}): ${who.refusal.reason}.`
        : "There is no key or SVID in the request, or it is unknown, expired or revoked.",
      { ...vary, "www-authenticate": 'Bearer realm="maestro-edge"' },
    );
  const unavailable = (): Response => refuse("store_unavailable", "The store did not answer, or is too busy.", vary);
  const corrupt = (): Response => refuse("store_corrupt", "What the store holds is not what its name says.", vary);

  async function answerObject(request: Request, target: EdgeTarget | null, trace: Trace): Promise<Response> {
    const now = clock();
    const credentials = {
      authorization: request.headers.get("authorization"),
      tlsClientAuth: parts.tlsClientAuth(request),
    };
    const who = await fetchers.find(credentials, now);
    counters.add("mc_edge_credentials_total", `credential="${who.kind}",outcome="${who.state}"`);
    if (who.source !== null) trace.note(who.source);
    if (who.state === "unavailable") return unavailable();
    if (who.state === "busy")
      return refuse("identity_busy", "Too many SVIDs are being verified that were not before.", vary);
    if (who.state !== "known") return notKnown(who);
    if (target === null || target.tenant !== who.fetcher.tenant) return nothingHere();

    let key: string;
    let rule: CacheRule;
    if (target.kind === "channel") {
      const channel = await channels.resolve(target.tenant, target.target, now, trace.note);
      if (channel.state === "expired") {
        return refuse("metadata_expired", "The timestamp of this tenant's metadata has expired.", vary);
      }
      if (channel.state === "missing") return nothingHere();
      if (channel.state !== "found") return channel.state === "corrupt" ? corrupt() : unavailable();
      key = policyKey(target.tenant, channel.digest);
      rule = versionedRule(channel.digest);
    } else {
      ({ key } = target);
      rule = ruleOf(target);
    }
    const read = await objects.read(key, rule);
    trace.note(read.source);
    if (read.state === "found") return answerEntry(request, read.entry, servedAs(target), trace);
    if (read.state === "corrupt") return corrupt();
    // A bundle that the metadata names is there, or the store has not got it yet.
    if (read.state === "missing" && target.kind !== "channel") return nothingHere();
    return unavailable();
  }

  function answerEntry(request: Request, entry: Entry, served: Served, trace: Trace): Response {
    const { bytes, etag } = entry;
    const headers: Record<string, string> = {
      etag,
      "cache-control": served.cacheControl,
      "cache-status": cacheStatus[trace.source],
      vary: "Authorization",
    };
    const answer = decideConditional(
      request.method,
      {
        ifNoneMatch: request.headers.get("if-none-match"),
        range: request.headers.get("range"),
        ifRange: request.headers.get("if-range"),
      },
      etag,
      bytes.length,
    );
    if (answer.status === 304) return new Response(null, { status: 304, headers });
    headers["accept-ranges"] = "bytes";
    if (answer.status === 416) {
      headers["content-range"] = `bytes */${bytes.length}`;
      headers["cache-control"] = "no-store";
      return new Response(null, { status: 416, headers });
    }
    headers["content-type"] = served.contentType;
    headers["repr-digest"] = entry.reprDigest;
    headers["x-content-type-options"] = "nosniff";
    if (answer.status === 206) {
      headers["content-range"] = `bytes ${answer.from}-${answer.to}/${bytes.length}`;
      headers["content-length"] = String(answer.to - answer.from + 1);
      return new Response(bodyOf(request, entry, bytes.subarray(answer.from, answer.to + 1)), { status: 206, headers });
    }
    headers["content-length"] = String(bytes.length);
    return new Response(bodyOf(request, entry, bytes), { status: 200, headers });
  }

  const bodyOf = (request: Request, entry: Entry, bytes: Bytes): Bytes | ReadableStream<Uint8Array> | null =>
    request.method === "HEAD" ? null : objects.send(entry, bytes);

  async function answerMetrics(request: Request): Promise<Response> {
    if (parts.metricsKey === "") return nothingHere();
    const given = request.headers.get("authorization") ?? "";
    const [left, right] = await Promise.all([sha256Hex(utf8(given)), sha256Hex(utf8(`Bearer ${parts.metricsKey}`))]);
    if (left !== right) {
      return refuse("operator_key_needed", "There is no key in the request, or it is another one.", {
        "www-authenticate": 'Bearer realm="maestro-edge-metrics"',
      });
    }
    // Chance is to be had in a request only, on workerd.
    if (instance === "") instance = hex(random(8));
    return counters.answer(instance, { mc_edge_cache_bytes: objects.bytes, mc_edge_cache_entries: objects.entries });
  }

  async function answerApi(request: Request): Promise<Response> {
    const outcome = await forwardApi(request, provider, parts.api);
    if (outcome.state === "answered") return outcome.response;
    if (outcome.state === "loop") {
      // Whoever sends the header makes this one: a line a minute tells of a loop, and a flood of them of no more.
      if (clock() - loopToldMs >= loopLineMs) {
        loopToldMs = clock();
        log("error", "a request came back to the edge", { provider });
      }
      return refuse("forwarding_loop", "CDN-Loop says that this request was at the edge before.");
    }
    if (outcome.state === "too_large") return refuse("too_large", `The body has more than ${apiBodyBytesMax} bytes.`);
    if (outcome.state === "method_not_allowed")
      return refuse("method_not_allowed", `The API takes no ${request.method}.`, { allow: apiMethods });
    // Nobody is there to hear it, and the API is well.
    if (outcome.state === "broken_off") return refuse("invalid_request", "The body broke off before its end.");
    log("error", "the API was not reached", { provider, error: errorName(outcome.error) });
    return refuse("api_unreachable", "The API did not answer.", { "retry-after": "1" });
  }

  const cacheStatus: Readonly<Record<Trace["source"], string>> = {
    none: `maestro-edge-${provider}`,
    hit: `maestro-edge-${provider}; hit`,
    miss: `maestro-edge-${provider}; fwd=miss; stored`,
    collapsed: `maestro-edge-${provider}; fwd=miss; collapsed`,
  };

  const app = new Hono();
  app.all("/api/*", async (c) => counted("api", c.req.raw, new Trace(), await answerApi(c.req.raw)));
  app.all("*", async (c) => {
    const request = c.req.raw;
    const path = pathOf(request.url);
    const isMetrics = path === "/metrics";
    if (!isMetrics && !/^\/(?:tuf|policies|statements|deltas|opa)\//.test(path)) {
      return counted("other", request, new Trace(), nothingHere());
    }
    const trace = new Trace();
    const target = isMetrics ? null : parseEdgePath(path);
    const kind = isMetrics ? "metrics" : (target?.kind ?? "other");
    if (request.method !== "GET" && request.method !== "HEAD") {
      const refusal = refuse("method_not_allowed", "This path takes GET, HEAD.", { allow: "GET, HEAD" });
      return counted(kind, request, trace, refusal);
    }
    const response = isMetrics ? await answerMetrics(request) : await answerObject(request, target, trace);
    return counted(kind, request, trace, response);
  });
  app.onError((error) => {
    log("error", "unexpected error", { provider, error: errorName(error) });
    return refuse("internal", "Something that we did not expect went wrong.");
  });

  function counted(
    kind: EdgeTarget["kind"] | "api" | "metrics" | "other",
    request: Request,
    trace: Trace,
    response: Response,
  ): Response {
    const { status } = response;
    counters.add("mc_edge_requests_total", `kind="${kind}",status="${status}",cache="${trace.source}"`);
    if (request.method !== "HEAD" || response.body === null) return response;
    return new Response(null, { status, headers: response.headers });
  }

  return {
    async fetch(request) {
      // A host that is none: whoever sends such a request is told so, and the log is not.
      if (!URL.canParse(request.url)) return refuse("invalid_request", "The request's Host is none.");
      return app.fetch(request);
    },
  };
}

/** What the API's routes have between them. */
const apiMethods = "GET, HEAD, OPTIONS, POST, PUT, DELETE";

const vary = { vary: "Authorization" } as const;

/** What stands between host and query, as it is written: Hono's own path is decoded. */
function pathOf(url: string): string {
  const start = url.indexOf("/", url.indexOf("//") + 2);
  const end = url.slice(start).search(/[?#]/);
  return end < 0 ? url.slice(start) : url.slice(start, start + end);
}

function ruleOf(target: Exclude<EdgeTarget, { kind: "channel" }>): CacheRule {
  if (target.kind === "content") return versionedRule(target.digest);
  if (target.kind === "metadata" && target.role === "timestamp") return timestampRule;
  if (target.kind === "metadata" && target.role === "root") return { ...versionedRule(null), missingMs: rootMissingMs };
  return versionedRule(null);
}

function servedAs(target: EdgeTarget): Served {
  if (target.kind === "metadata") {
    return { contentType: "application/json", cacheControl: target.role === "timestamp" ? oneSecond : immutable };
  }
  if (target.kind === "content") {
    const contentType = target.content === "policy" ? "application/gzip" : "application/json";
    return { contentType, cacheControl: immutable };
  }
  if (target.kind === "delta") return { contentType: "application/zstd", cacheControl: immutable };
  // OPA goes on with long polling only where it is exactly this.
  return { contentType: "application/vnd.openpolicyagent.bundles", cacheControl: oneSecond };
}

const errorName = (error: unknown): string => (error instanceof Error ? error.name : typeof error);
