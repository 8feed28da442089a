// /api/executions/{id}/disclosure:link, and /api/disclosures/{token}: the quick link and what it opens.

import { createRoute, z } from "@hono/zod-openapi";
import { disclosureLink, disclosurePending, executionId } from "../../../shared/contract/http-executions.ts";
import { Problem } from "../../../shared/contract/problems.ts";
import { tokenLengthMax } from "../../../shared/disclosure/link.ts";
import { readExecution } from "../../../shared/executions/store.ts";
import type { Door } from "../door.ts";

const zip = { "application/zip": { schema: z.string().openapi({ format: "binary" }) } };

export function register(door: Door): void {
  door.route({
    route: createRoute({
      method: "get",
      path: "/api/executions/{id}/disclosure:link",
      summary: "Get a signed quick-link to disclosure pack",
      description: "200 with a link that works for 15 minutes; 202 while the log does not hold the receipt yet.",
      request: { params: z.strictObject({ id: executionId }) },
      responses: {
        200: { description: "A link", content: { "application/json": { schema: disclosureLink } } },
        202: {
          description: "Ask again after Retry-After seconds",
          content: { "application/json": { schema: disclosurePending } },
        },
      },
    }),
    action: "disclosure.link",
    idempotency: "none",
    problems: ["not_found", "execution_running", "audit_unavailable"],
    handler: async (call) => {
      const { parts, caller } = call;
      const { id } = call.input.params;
      const run = await readExecution(parts.database, caller.tenant_id, id);
      if (run === null) throw new Problem("not_found", "There is no such execution.");
      if (run.status === "running") throw new Problem("execution_running", "A pack tells how a run ended.");
      const link = await parts.audit.disclosureLink(caller.tenant_id, caller.principal_id, id);
      if (link.state === "building") {
        return {
          status: 202,
          body: { state: "building" as const, retry_after_s: link.retry_after_s },
          headers: { "retry-after": String(link.retry_after_s) },
        };
      }
      const { token, sha256, bytes, expires_at, grant_id } = link;
      return {
        status: 200,
        body: { url: `${parts.publicUrl}/api/disclosures/${token}`, sha256, bytes, expires_at, grant_id },
      };
    },
  });

  door.open({
    route: createRoute({
      method: "get",
      path: "/api/disclosures/{token}",
      summary: "Download a disclosure pack by its quick link",
      description: "The link is the credential. One Range is honoured, so that a download can be resumed.",
      request: { params: z.strictObject({ token: z.string().max(tokenLengthMax) }) },
      responses: {
        200: { description: "The pack", content: zip },
        206: { description: "The part of it that Range asked for", content: zip },
        416: { description: "The range is beyond the pack's end; Content-Range has its size" },
      },
    }),
    problems: ["link_invalid", "link_expired"],
    handler: async ({ input, request, parts }) => {
      const method = request.method === "HEAD" ? "HEAD" : "GET";
      const range = method === "HEAD" ? null : parseRange(request.headers.get("range"));
      const answer = await parts.audit.disclosureDownload(input.params.token, range, method);
      if (answer.state === "refused") {
        throw new Problem(
          answer.code,
          answer.code === "link_expired"
            ? "Its 15 minutes are over."
            : "It was not made by us, or altered, or is used up or gone.",
        );
      }
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
      if (range === null) return { status: 200, body: answer.bytes, headers };
      const part = `bytes ${answer.from}-${answer.to}/${answer.total}`;
      return { status: 206, body: answer.bytes, headers: { ...headers, "content-range": part } };
    },
  });
}

/** `bytes=from-` and `bytes=from-to`; anything else is as if it were not there (RFC 9110, 14.2). */
function parseRange(header: string | null): { from: number; to: number | null } | null {
  const match = /^bytes=(\d{1,15})-(\d{1,15})?$/.exec(header ?? "");
  if (match === null) return null;
  const to = match[2] === undefined ? null : Number(match[2]);
  return to !== null && to < Number(match[1]) ? null : { from: Number(match[1]), to };
}
