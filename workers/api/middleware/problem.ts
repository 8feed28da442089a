// From what was thrown to application/problem+json. The door and app.ts answer every refusal through `problemResponse`.

import { Problem, problemDocument } from "../../../shared/contract/problems.ts";
import type { Log } from "../../../shared/contract/ports.ts";
import { isUnavailable } from "../../../shared/tenancy/database.ts";
import type { Visit } from "./visit.ts";

/** One sentence for everything that is not here: missing, foreign, or never a thing at all. */
const nothingHere = "There is nothing here under this name, or it is not yours to see.";

export const notFound = (): Problem => new Problem("not_found", nothingHere);

/** What was thrown, as a problem; what nobody expected is logged without its message, which may quote a payload. */
export function toProblem(error: unknown, log: Log, requestId: string): Problem {
  if (error instanceof Problem) return error.code === "not_found" ? notFound() : error;
  log("error", isUnavailable(error) ? "database unavailable" : "unexpected error", {
    request_id: requestId,
    ...errorFacts(error),
  });
  if (isUnavailable(error)) {
    return new Problem("database_unavailable", "The database did not answer. Nothing is lost: ask again.");
  }
  return new Problem("internal", "Something that we did not expect went wrong, and was logged under this request id.");
}

export function problemResponse(problem: Problem, visit: Visit): Response {
  visit.code = problem.code;
  const headers = new Headers({ "content-type": "application/problem+json" });
  if (problem.status === 503) headers.set("retry-after", "1");
  if (problem.status === 429) headers.set("retry-after", String(problem.members["retry_after_seconds"]));
  if (problem.status === 401) {
    // RFC 6750, section 3: no error code where no credentials came.
    const known = problem.code === "unauthenticated" ? "" : `, error="invalid_token"`;
    headers.set("www-authenticate", `Bearer realm="maestro"${known}`);
  }
  if (problem.code === "method_not_allowed") headers.set("allow", String(problem.members["allow"]));
  return new Response(JSON.stringify(problemDocument(problem, visit.request_id)), { status: problem.status, headers });
}

/** Names, SQLSTATEs and code positions of an error and its causes: enough to find it, and no word of any payload. */
export function errorFacts(error: unknown): Record<string, string> {
  const names: string[] = [];
  const codes: string[] = [];
  let at = error;
  for (let depth = 0; depth < 8 && at instanceof Error; depth += 1) {
    names.push(at.name);
    const code = (at as { code?: unknown }).code;
    if (typeof code === "string" && /^[A-Z0-9_]{1,40}$/.test(code)) codes.push(code);
    at = at.cause;
  }
  const frames = error instanceof Error ? (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line)) : [];
  return {
    error: names.join(" < ") || typeof error,
    error_code: codes.join(" < "),
    error_at: frames
      .slice(0, 6)
      .map((line) => line.trim())
      .join(" | "),
  };
}
