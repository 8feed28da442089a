// /api/executions/{id}/disclosure:link, and /api/disclosures: the quick link, what it opens, and how it is taken back.

import { createRoute, z } from "@hono/zod-openapi";
import {
  disclosureLink,
  disclosurePending,
  executionId,
  grantId,
  principalId,
  revokedLink,
} from "../../../shared/contract/http-executions.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { tokenLengthMax } from "../../../shared/disclosure/link.ts";
import type { ByteRange, DownloadAnswer, LinkRefusal } from "../../../shared/disclosure/service.ts";
import { linkTold } from "../../../shared/executions/link-store.ts";
import { readExecution } from "../../../shared/executions/store.ts";
import { errorName } from "../../../shared/outbox/drain.ts";
import { authenticate } from "../../../shared/tenancy/authenticate.ts";
import { isUnavailable } from "../../../shared/tenancy/database.ts";
import { rememberOnly } from "../../../shared/tenancy/idempotency.ts";
import type { Call, Door, OpenCall } from "../door.ts";
import { errorFacts, notFound } from "../middleware/problem.ts";

const json = <S extends z.ZodType>(schema: S) => ({ "application/json": { schema } });
const zip = { "application/zip": { schema: z.string().openapi({ format: "binary" }) } };

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/executions/{id}/disclosure:link",
      summary: "Get a signed quick-link to disclosure pack",
      description:
        "200 with a link that works for 15 minutes; 202 while the log does not hold all of the pack yet. With the flag " +
        "audit_rt_export off that is until the end of the log's period, and the pack is of version 2.",
      request: {
        params: z.strictObject({ id: executionId }),
        query: z.strictObject({
          one_time: z
            .enum(["true", "false"])
            .default("false")
            .describe("true: the first download that reaches the end uses it up; for a minute it can be resumed"),
          audience: principalId
            .optional()
            .describe("who alone may use it: a principal, who sends their own credential with it"),
        }),
      },
      responses: {
        200: { description: "A link", content: json(disclosureLink) },
        202: { description: "Ask again after Retry-After seconds", content: json(disclosurePending) },
      },
    }),
    action: "disclosure.link",
    idempotency: "none",
    decision: "before_the_change",
    problems: ["not_found", "execution_running", "audit_unavailable"],
    handler: async (call) => {
      const { parts, caller } = call;
      const { id } = call.input.params;
      const run = await readExecution(parts.database, caller.tenant_id, id);
      if (run === null) throw new Problem("not_found", "There is no such execution.");
      if (run.status === "running") throw new Problem("execution_running", "A pack tells how a run ended.");
      const one_time = call.input.query.one_time === "true";
      const audience = call.input.query.audience ?? null;
      const wish = { principal_id: caller.principal_id, execution_id: id, one_time, audience };
      const link = await reached(call, parts.audit.disclosureLink(caller.tenant_id, wish));
      await measure(call, id, link.state);
      if (link.state === "building") {
        return {
          status: 202,
          body: { state: "building" as const, retry_after_s: link.retry_after_s },
          headers: { "retry-after": String(link.retry_after_s) },
        };
      }
      const { token, sha256, bytes, pack_version, expires_at, grant_id } = link;
      const url = `${parts.publicUrl}/api/disclosures/${token}`;
      return { status: 200, body: { url, sha256, bytes, pack_version, one_time, audience, expires_at, grant_id } };
    },
  });

  door.route({
    route: createRoute({
      method: "delete",
      path: "/api/disclosures/grants/{grant_id}",
      summary: "Revoke a quick link",
      description: "From the moment of the answer the link is refused. Revoking it again changes nothing.",
      request: { params: z.strictObject({ grant_id: grantId }) },
      responses: { 200: { description: "It is revoked", content: json(revokedLink) } },
    }),
    action: "disclosure.link",
    idempotency: "optional",
    decision: "before_the_change",
    problems: ["not_found", "audit_unavailable"],
    handler: async (call) => {
      const { parts, claim, now, input } = call;
      const { tenant_id: tenantId, principal_id } = call.caller;
      const revoked = await reached(call, parts.audit.disclosureRevoke(tenantId, principal_id, input.params.grant_id));
      if (revoked === null) throw notFound();
      // The change is the object's, and made once however often it is asked for: the answer may be remembered behind it.
      if (claim !== null) await rememberOnly(parts.database, claim, now, { status: 200, response: revoked });
      return { status: 200, body: revoked };
    },
  });

  door.open({
    route: createRoute({
      method: "get",
      path: "/api/disclosures/{token}",
      summary: "Download a disclosure pack by its quick link",
      description:
        "The link is the credential; a link that was made for one principal wants theirs beside it, in Authorization. " +
        "One Range is honoured (with If-Range, while the ETag is the pack's), so that a download can be resumed.",
      request: { params: z.strictObject({ token: z.string().max(tokenLengthMax) }) },
      responses: {
        200: { description: "The pack", content: zip },
        206: { description: "The part of it that Range asked for", content: zip },
        416: { description: "The range is beyond the pack's end; Content-Range has its size" },
      },
    }),
    problems: [
      "link_invalid",
      "link_expired",
      "link_used",
      "link_revoked",
      "link_audience",
      "unauthenticated",
      "token_invalid",
      "token_expired",
      "token_not_yet_valid",
      "token_audience",
      "key_revoked",
      "key_expired",
      "principal_disabled",
      "issuer_unavailable",
      "audit_unavailable",
    ],
    handler: async (call) => {
      const answer = await answerTo(call);
      if (answer.state === "range") {
        return { status: 416, body: null, headers: { "content-range": `bytes */${answer.total}` } };
      }
      const headers = {
        "content-type": "application/zip",
        "content-length": String(answer.to - answer.from + 1),
        "content-disposition": `attachment; filename="${answer.execution_id}.zip"`,
        "accept-ranges": "bytes",
        etag: `"${answer.sha256}"`,
      };
      if (!answer.partial) return { status: 200, body: answer.bytes, headers };
      const part = `bytes ${answer.from}-${answer.to}/${answer.total}`;
      return { status: 206, body: answer.bytes, headers: { ...headers, "content-range": part } };
    },
  });
}

/** What the audit worker answers; where it cannot (its bucket or its objects are out of reach), a problem that says so. */
async function reached<T>(
  { parts, request_id }: Pick<OpenCall, "parts" | "request_id">,
  answer: Promise<T>,
): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    parts.log("error", "the audit worker did not answer", { request_id, ...errorFacts(error) });
    throw new Problem("audit_unavailable", "Nothing is lost: what was sealed, packed or granted stands. Ask again.");
  }
}

/** How long the run's first link took is a metric: nothing that the caller has to wait for twice, or to lose a link for. */
async function measure({ parts, caller, now }: Call, id: string, state: "ready" | "building"): Promise<void> {
  try {
    await linkTold(parts.database, caller.tenant_id, id, {
      asked_at: now,
      linked_at: state === "ready" ? parts.clock() : null,
    });
  } catch (error) {
    if (!isUnavailable(error)) throw error;
    parts.log("warn", "how long a link took was not counted", { execution_id: id, error: errorName(error) });
  }
}

const refusals: Record<LinkRefusal, string> = {
  link_invalid: "It was not made by us, or altered, or is gone.",
  link_expired: "Its 15 minutes are over.",
  link_used: "It was used as often as it may be.",
  link_revoked: "Whoever may give links out has taken it back.",
  link_audience: "It was made for one principal, and another one asks.",
};

/** Who calls is asked only where the link is for one principal: a link for all is its own credential. */
async function answerTo(
  call: OpenCall<{ request: { params: z.ZodObject<{ token: z.ZodString }> } }>,
): Promise<Extract<DownloadAnswer, { state: "ok" | "range" }>> {
  const { input, request, parts, now } = call;
  const wanted = {
    token: input.params.token,
    range: parseRange(request.headers.get("range")),
    if_range: request.headers.get("if-range"),
    method: request.method === "HEAD" ? ("HEAD" as const) : ("GET" as const),
  };
  let answer = await reached(call, parts.audit.disclosureDownload({ ...wanted, principal_id: null }));
  if (answer.state === "who") {
    const { authDatabase: database, issuer, callers } = parts;
    const who = { database, issuer, callers, now };
    const { principal_id } = await authenticate(who, request.headers.get("authorization"));
    answer = await reached(call, parts.audit.disclosureDownload({ ...wanted, principal_id }));
  }
  if (answer.state === "who") throw new Error("a caller who is known was asked again who they are");
  if (answer.state === "refused") throw new Problem(answer.code, refusals[answer.code]);
  return answer;
}

/** `bytes=from-`, `bytes=from-to`, `bytes=-last`; anything else is as if it were not there (RFC 9110, 14.2). */
function parseRange(header: string | null): ByteRange | null {
  const suffix = /^bytes=-(\d{1,15})$/.exec(header ?? "");
  if (suffix !== null) return { last: Number(suffix[1]) };
  const match = /^bytes=(\d{1,15})-(\d{1,15})?$/.exec(header ?? "");
  if (match === null) return null;
  const to = match[2] === undefined ? null : Number(match[2]);
  return to !== null && to < Number(match[1]) ? null : { from: Number(match[1]), to };
}
