// The door: the only way to add a route to the API. A route names its action and cannot run before the policy allowed
// it; a route without an action is declared `open`, asks for no credential, and cannot run either before the policy's table of those
// lets it, which a test pins. Route modules call it from `register(door)`; app.ts makes it.

import type { RouteConfig, z } from "@hono/zod-openapi";
import type { StatusCode } from "hono/utils/http-status";
import { Problem, type ProblemCode } from "../../shared/contract/problems.ts";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import {
  decisionInput,
  type Action,
  type ActionFacts,
  type DecisionInput,
  type FactsOf,
} from "../../shared/policy/actions.ts";
import { decide, type Decision, type Policy } from "../../shared/policy/decide.ts";
import { rememberedCaller } from "../../shared/tenancy/authenticate.ts";
import type { Caller } from "../../shared/tenancy/caller.ts";
import { outboxInsert } from "../../shared/outbox/outbox.ts";
import { asTenant } from "../../shared/tenancy/database.ts";
import { answerOnce, type IdempotencyClaim } from "../../shared/tenancy/idempotency.ts";
import { identify } from "./identify.ts";
import { acceptableOrThrow, mediaTypesOf } from "./middleware/accept.ts";
import { checkContentType, jsonBytesMax, parseJson } from "./middleware/body.ts";
import type { AppContext } from "./middleware/context.ts";
import type { Decided } from "./event-context.ts";
import { decisionEvent, denied } from "./middleware/deny.ts";
import { idempotencyKey, type IdempotencyRule } from "./middleware/idempotency.ts";
import { parseBody, parseParams, parseQuery, schemasOf } from "./middleware/input.ts";
import type { Parts } from "./parts.ts";
import { answerProvisionally, type CredentialCheck } from "./provisional.ts";

type PartOf<R, K extends "params" | "query"> = R extends { request: { [P in K]: infer S extends z.ZodType } }
  ? z.output<S>
  : Record<string, never>;
type JsonOf<R> = R extends {
  request: { body: { content: { "application/json": { schema: infer S extends z.ZodType } } } };
}
  ? z.output<S>
  : undefined;

/** Parsed by the route's schemas. */
export interface Input<R> {
  readonly params: PartOf<R, "params">;
  readonly query: PartOf<R, "query">;
  readonly json: JsonOf<R>;
}

type BodyOf<Response> = Response extends {
  content: infer C extends { "application/json": { schema: z.ZodType } };
}
  ? z.input<C["application/json"]["schema"]> | (keyof C extends "application/json" ? never : Uint8Array | string)
  : Uint8Array | ReadableStream | string | null;

/** The media types that a route answers in with status 200; a route that declares several negotiates. */
export type MediaTypeOf<R> = R extends { responses: { 200: { content: infer C } } } ? keyof C & string : never;

/**
 * An answer, of a status that the route declares. JSON where the declared content is `application/json`; bytes, a
 * stream or a text go out as they are, under the `content-type` that `headers` names. Both may come where the route
 * declares both.
 */
export type AnswerOf<R extends RouteConfig> = {
  [S in keyof R["responses"]]: {
    // The intersection keeps a handler's `status: 200` a literal while R is inferred.
    readonly status: S & StatusCode;
    readonly body: BodyOf<R["responses"][S]>;
    readonly headers?: Readonly<Record<string, string>>;
  };
}[keyof R["responses"]];

export interface OpenCall<R = RouteConfig> {
  /** The request's one reading of the clock. */
  readonly now: number;
  readonly request_id: string;
  readonly parts: Parts;
  readonly input: Input<R>;
  readonly request: Request;
}

export interface Call<R = RouteConfig, A extends Action = Action> extends OpenCall<R> {
  readonly caller: Caller;
  readonly action: A;
  /** Null: the caller is certain, as on every route that does not have its credential checked with the answer. */
  readonly check: CredentialCheck | null;
  /** Put `rememberAnswer(claim, …)` into the batch of the change; null where no key was sent. */
  readonly claim: IdempotencyClaim | null;
  /** The body of a `stream` route; it fails with `too_large` beyond the route's bound. Null on every other route. */
  readonly stream: ReadableStream<Uint8Array> | null;
  /** What `Accept` chose of the types that the route declares; the first of them where it declares one, or none. */
  readonly mediaType: MediaTypeOf<R>;
  /** What `eventContext` puts beside each event of the call: whoever commits one commits the decision with it. */
  readonly decided: Decided;
  /** The whole decision, with the facts of the case. On a deny: `await denied(call, decision, { facts, … })`. */
  decide(facts: FactsOf<A>): Promise<Decision>;
}

/**
 * When the log is told of an allow. `with_the_change`: in the transaction that has the change's event, and not at all where
 * nothing changes. `before_the_change`: in one of its own, before the handler runs, since an object commits the change.
 * `batched`: some seconds later, alike ones in one event.
 */
export type DecisionRule = "with_the_change" | "before_the_change" | "batched";

/** When a route's credential is looked up. */
export type CredentialRule = "looked_up_first" | "checked_with_the_answer";

export interface RouteSpec<R extends RouteConfig, A extends Action> {
  readonly route: R;
  readonly action: A;
  readonly idempotency: IdempotencyRule;
  /**
   * Absent: looked up before anything else. `checked_with_the_answer`: a key that this isolate remembers is let on, and `call.check`
   * is to be put into what the handler reads; what the handler comes to is held back until the key was found to stand. Only for
   * a route that changes nothing (its idempotency is "none", it tells the log nothing) and decides by role alone; the handler may run twice.
   */
  readonly credential?: A extends keyof ActionFacts ? never : "checked_with_the_answer";
  /** Absent: `batched` where the idempotency is "none", `with_the_change` elsewhere. */
  readonly decision?: DecisionRule;
  /** What it may answer beside the problems that every route of its kind has. */
  readonly problems?: readonly ProblemCode[];
  /** The body is not JSON, but bytes that the handler streams, at most so many. */
  readonly stream?: {
    readonly bytesMax: number;
    /** Headers that stand for the body where two requests with one Idempotency-Key are compared. */
    readonly fingerprintHeaders: readonly string[];
  };
  /** Headers that follow from an answer's body (ETag, Location): given on the first answer and on each replay. */
  readonly headersOf?: (body: unknown) => Readonly<Record<string, string>>;
  readonly handler: (call: Call<R, A>) => Promise<AnswerOf<R>>;
}

export interface OpenSpec<R extends RouteConfig> {
  readonly route: R;
  readonly problems?: readonly ProblemCode[];
  readonly handler: (call: OpenCall<R>) => Promise<AnswerOf<R>>;
}

export interface Door {
  route<R extends RouteConfig, A extends Action>(spec: RouteSpec<R, A>): void;
  open<R extends RouteConfig>(spec: OpenSpec<R>): void;
}

/** An answer of any route. */
export interface Answer {
  readonly status: number;
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A declared route, its types laid aside. `action` null: open. */
export interface Entry {
  readonly route: RouteConfig;
  readonly action: Action | null;
  readonly idempotency: IdempotencyRule;
  readonly credential: CredentialRule;
  /** Null: open. */
  readonly decision: DecisionRule | null;
  readonly problems: readonly ProblemCode[];
  readonly bodyBytesMax: number;
  readonly answer: (c: AppContext) => Promise<Response>;
}

export class RouteTable implements Door {
  readonly entries: Entry[] = [];

  route<R extends RouteConfig, A extends Action>(spec: RouteSpec<R, A>): void {
    const { route, action, idempotency, credential = "looked_up_first", problems = [] } = spec;
    const answer = (c: AppContext): Promise<Response> => answerDecided(c, spec);
    const bodyBytesMax = spec.stream?.bytesMax ?? jsonBytesMax;
    const decision = decisionRule(spec);
    this.entries.push({ route, action, idempotency, credential, decision, problems, bodyBytesMax, answer });
  }

  open<R extends RouteConfig>(spec: OpenSpec<R>): void {
    const { route, problems = [] } = spec;
    const schemas = schemasOf(route);
    const name = `${route.method.toUpperCase()} ${route.path}`;
    const answer = async (c: AppContext): Promise<Response> => {
      const decision = c.env.parts.openRoutes(name);
      if (!decision.allow) throw new Problem("denied", decision.reason, { reasons: [decision.reason], fix: null });
      const input = {
        params: parseParams(schemas.params, pathNames(route), c.req.param()),
        query: parseQuery(schemas.query, c.req.url),
        json: undefined,
      } as Input<R>;
      const { now, request_id } = c.var.visit;
      return toResponse(await spec.handler({ now, request_id, parts: c.env.parts, input, request: c.req.raw }));
    };
    const rules = { idempotency: "none", credential: "looked_up_first", decision: null } as const;
    this.entries.push({ route, action: null, ...rules, problems, bodyBytesMax: jsonBytesMax, answer });
  }
}

const decisionRule = (spec: { idempotency: IdempotencyRule; decision?: DecisionRule }): DecisionRule =>
  spec.decision ?? (spec.idempotency === "none" ? "batched" : "with_the_change");

/** Who is it → what `answerTo` has. */
async function answerDecided<R extends RouteConfig, A extends Action>(
  c: AppContext,
  spec: RouteSpec<R, A>,
): Promise<Response> {
  const { parts } = c.env;
  const { visit } = c.var;
  const authorization = c.req.raw.headers.get("authorization");
  const { callers } = parts;
  const { now } = visit;
  const lookUp = (): Promise<Caller> => identify(parts, c.req.raw, now);
  const certain = (caller: Caller): void => {
    visit.tenant_id = caller.tenant_id;
    visit.principal_id = caller.principal_id;
  };
  const decided = decidedOnce(parts.policy, spec.action);
  if (spec.credential === "checked_with_the_answer") {
    const remembered = await rememberedCaller({ callers, now }, authorization);
    // A deny is told to the log, so it is decided about a caller who is certain.
    if (remembered !== null && decided(remembered.caller).decision.allow) {
      const attempt = (caller: Caller, check: CredentialCheck | null): Promise<Response> =>
        answerTo(c, spec, caller, check, decided(caller).decision);
      const known = (caller: Caller): void => {
        certain(caller);
        noteAllowed(c, spec, decided(caller));
      };
      return await answerProvisionally({ remembered, attempt, authenticate: lookUp, certain: known });
    }
  }
  const caller = await lookUp();
  certain(caller);
  noteAllowed(c, spec, decided(caller));
  return await answerTo(c, spec, caller, null, decided(caller).decision);
}

interface ByRole {
  readonly input: DecisionInput;
  readonly decision: Decision;
}

/** May this role do it: the policy is asked once for a caller. One who is looked up anew is another one than was remembered. */
function decidedOnce(policy: Policy, action: Action): (caller: Caller) => ByRole {
  let last: (ByRole & { readonly caller: Caller }) | null = null;
  return (caller) => {
    if (last?.caller === caller) return last;
    const input = decisionInput(action, caller);
    last = { caller, input, decision: decide(policy, input) };
    return last;
  };
}

/** An allow that is told in a batch. A deny is told by `answerTo`. */
function noteAllowed(
  c: AppContext,
  spec: Parameters<typeof decisionRule>[0],
  { input, decision: { allow, rule } }: ByRole,
): void {
  if (allow && decisionRule(spec) === "batched") c.env.parts.decisionNotes.note(input, rule, c.var.visit.now);
}

/** It was decided by role → is the request well made → was it answered before → the handler. */
async function answerTo<R extends RouteConfig, A extends Action>(
  c: AppContext,
  spec: RouteSpec<R, A>,
  caller: Caller,
  check: CredentialCheck | null,
  decision: Decision,
): Promise<Response> {
  const { parts } = c.env;
  const { visit } = c.var;
  const request = c.req.raw;
  const { action } = spec;
  const base = { now: visit.now, request_id: visit.request_id, parts, caller, action, request };
  if (!decision.allow) return denied(base, decision);
  const rule = decisionRule(spec);
  const decided: Decided = { event: rule === "batched" ? null : await decisionEvent(base, decision) };

  const key = idempotencyKey(spec.idempotency, request.headers.get("idempotency-key"));
  const schemas = schemasOf(spec.route);
  const params = parseParams(schemas.params, pathNames(spec.route), c.req.param());
  const query = parseQuery(schemas.query, request.url);
  const mediaTypes = mediaTypesOf(spec.route);
  const negotiates = mediaTypes.length > 1;
  const mediaType = negotiates ? acceptableOrThrow(request.headers.get("accept"), mediaTypes) : mediaTypes[0];
  if (schemas.contentTypes.length > 0) checkContentType(request, schemas.contentTypes);
  let json: unknown;
  let stream: ReadableStream<Uint8Array> | null = null;
  /** Of the body, or of what stands for it: asked for where two requests are compared. */
  let compared: Uint8Array<ArrayBuffer>;
  if (spec.stream !== undefined) {
    stream = c.var.body.stream(spec.stream.bytesMax);
    compared = utf8(JSON.stringify(spec.stream.fingerprintHeaders.map((name) => request.headers.get(name))));
  } else {
    compared = schemas.json === null ? new Uint8Array(0) : await c.var.body.bytes(jsonBytesMax);
    if (schemas.json !== null) json = parseBody(schemas.json, parseJson(compared));
  }
  const claim: IdempotencyClaim | null =
    key === null
      ? null
      : {
          tenant_id: caller.tenant_id,
          principal_id: caller.principal_id,
          route: `${spec.route.method.toUpperCase()} ${filledPath(spec.route.path, params)}`,
          key,
          body_sha256: await sha256Hex(asked(query), compared),
        };
  const call: Call<R, A> = {
    ...base,
    check,
    claim,
    stream,
    mediaType: mediaType as MediaTypeOf<R>,
    input: { params, query, json } as Input<R>,
    decided,
    decide: async (facts) => {
      const whole = decide(parts.policy, decisionInput(action, caller, facts));
      if (whole.allow && decided.event !== null) decided.event = await decisionEvent(base, whole, { facts });
      return whole;
    },
  };
  const { answer, replayed } = await answerOnce(parts.database, claim, visit.now, async () => {
    if (rule === "before_the_change") await tellDecision(call);
    return await spec.handler(call);
  });
  visit.replayed = replayed;
  const response = toResponse(answer);
  for (const [name, value] of Object.entries(spec.headersOf?.(answer.body) ?? {})) response.headers.set(name, value);
  if (negotiates) response.headers.append("vary", "accept");
  if (replayed) response.headers.set("idempotency-replayed", "true");
  return response;
}

async function tellDecision({ parts, caller, decided }: Pick<Call, "parts" | "caller" | "decided">): Promise<void> {
  if (decided.event === null) return;
  await asTenant(parts.database, caller.tenant_id, [outboxInsert([decided.event], parts.shards)]);
  parts.nudgeDrain(caller.tenant_id);
}

/** `{id}` and `{+path}` of a route's path. Hono has more where a segment has a colon (see `routingPath`). */
const pathNames = (route: RouteConfig): string[] => [...route.path.matchAll(/\{\+?(\w+)\}/g)].map((match) => match[1]!);

/** What a query says beside the body, where it says something: "" without one, so that both are told apart by their first byte. */
const asked = (query: unknown): Uint8Array => {
  const said = JSON.stringify(query);
  return said === "{}" ? new Uint8Array(0) : utf8(`?${said}\n`);
};

const filledPath = (path: string, params: unknown): string =>
  path.replace(/\{\+?(\w+)\}/g, (_, name: string) => String((params as Record<string, unknown>)[name]));

function toResponse(answer: Answer): Response {
  const { status, body } = answer;
  const headers = new Headers(answer.headers);
  if (body === null || body === undefined) return new Response(null, { status, headers });
  if (
    headers.has("content-type") &&
    (typeof body === "string" || body instanceof Uint8Array || body instanceof ReadableStream)
  ) {
    return new Response(body as BodyInit, { status, headers });
  }
  headers.set("content-type", "application/json");
  return new Response(JSON.stringify(body), { status, headers });
}
