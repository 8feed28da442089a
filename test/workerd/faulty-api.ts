// The API worker with faults in its bindings, for the market benchmark: the bucket throws, the queue delivers twice and out
// of order. Everything else is the product. It has two routes more: one sets the faults, one compares an entitlement check
// with a bare call of an object. scripts/bench/faulty-stack.ts makes its wrangler.toml out of the API's.

import { DurableObject } from "cloudflare:workers";
import { createRoute, z } from "@hono/zod-openapi";
import { createApp } from "../../workers/api/app.ts";
import { partsOf, sweep } from "../../workers/api/compose.ts";
import type { Door } from "../../workers/api/door.ts";
import type { Env } from "../../workers/api/env.ts";
import { OutboxDrain as RealDrain } from "../../workers/api/index.ts";

export * from "../../workers/api/index.ts";

interface FaultyEnv extends Env {
  readonly ONE_ROW: DurableObjectNamespace<OneRow>;
}

/** Shares of operations, 0 to 1. One isolate holds the worker and its objects here, so that one variable reaches all. */
let faults = { bucket: 0, queue_twice: 0, queue_reordered: 0 };
const injected = { bucket: 0, queue_twice: 0, queue_reordered: 0 };
const faultShares = z.strictObject({
  bucket: z.number().min(0).max(1),
  queue_twice: z.number().min(0).max(1),
  queue_reordered: z.number().min(0).max(1),
});

/** A small generator with a seed, so that two runs meet the same faults as far as their timing is the same. */
let state = 0x2545f491;
function strikes(kind: keyof typeof faults): boolean {
  state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
  const struck = state / 2 ** 32 < faults[kind];
  if (struck) injected[kind] += 1;
  return struck;
}

function faultyBucket(bucket: R2Bucket): R2Bucket {
  return new Proxy(bucket, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (typeof member !== "function") return member;
      return (...args: unknown[]): unknown => {
        if (strikes("bucket")) return Promise.reject(new Error(`injected: ${String(name)} of the bucket failed`));
        return Reflect.apply(member, target, args);
      };
    },
  });
}

function faultyQueue(queue: Queue): Queue {
  return new Proxy(queue, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name);
      if (name !== "sendBatch" || typeof member !== "function") return member;
      return async (messages: Iterable<unknown>, ...rest: unknown[]): Promise<void> => {
        let batch = [...messages];
        if (strikes("queue_reordered")) batch = batch.toReversed();
        await Reflect.apply(member, target, [batch, ...rest]);
        if (strikes("queue_twice")) await Reflect.apply(member, target, [batch.toReversed(), ...rest]);
      };
    },
  });
}

const wrapped = new WeakMap<object, FaultyEnv>();

function faulty(env: FaultyEnv): FaultyEnv {
  const known = wrapped.get(env);
  if (known !== undefined) return known;
  const members = Object.entries(env as unknown as Record<string, unknown>).map(([name, value]) => {
    if (name === "ARTIFACTS") return [name, faultyBucket(value as R2Bucket)];
    if (name.startsWith("AUDIT_QUEUE_")) return [name, faultyQueue(value as Queue)];
    return [name, value];
  });
  const made = Object.fromEntries(members) as unknown as FaultyEnv;
  wrapped.set(env, made);
  return made;
}

/** One row, read by a call: what no check of an object can be cheaper than. */
export class OneRow extends DurableObject {
  constructor(durable: DurableObjectState, env: FaultyEnv) {
    super(durable, env);
    durable.storage.sql.exec("create table if not exists one (id integer primary key, value text)");
    durable.storage.sql.exec("insert or ignore into one values (1, 'stable')");
  }

  read(): string {
    return this.ctx.storage.sql.exec<{ value: string }>("select value from one where id = 1").one().value;
  }
}

class FaultyDrain extends RealDrain {
  constructor(durable: DurableObjectState, env: FaultyEnv) {
    super(durable, faulty(env));
  }
}
export { FaultyDrain as OutboxDrain };

let oneRow: ((tenantId: string) => { read(): Promise<string> }) | null = null;

function comparison(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/bench/{kind}",
      summary: "An entitlement check, or a bare call of an object",
      request: { params: z.strictObject({ kind: z.enum(["check", "bare"]) }) },
      responses: {
        200: {
          description: "Asked",
          content: { "application/json": { schema: z.strictObject({ answer: z.string() }) } },
        },
      },
    }),
    action: "entitlement.read",
    idempotency: "none",
    handler: async (call) => {
      const tenantId = call.caller.tenant_id;
      if (call.input.params.kind === "bare") return { status: 200, body: { answer: await oneRow!(tenantId).read() } };
      const checked = await call.parts.entitlements(tenantId).check("bench/checked");
      return { status: 200, body: { answer: checked.state } };
    },
  });
}

const app = createApp([comparison]);

export default {
  async fetch(request, env, context) {
    const { pathname } = new URL(request.url);
    if (pathname === "/bench/faults") {
      if (request.method === "PUT") faults = faultShares.parse(await request.json());
      return Response.json({ faults, injected });
    }
    oneRow = (tenantId) => env.ONE_ROW.getByName(tenantId);
    return app.fetch(request, { parts: partsOf(faulty(env)) }, context);
  },
  scheduled: (_controller, env) => sweep(faulty(env)),
} satisfies ExportedHandler<FaultyEnv>;
