// What a command throws when it cannot go on: an exit code, one sentence, what to do. `main.ts` prints it; nothing
// in it may hold a key, a token or a body.

import { z } from "zod";
import { exitNameOfStatus, type ExitName } from "./exit-codes.ts";

export interface FailureFacts {
  /** What to do about it, in words. */
  readonly advice?: string;
  /** A command line that would do it. */
  readonly command?: string;
  /** Further facts for `--json`. */
  readonly facts?: Readonly<Record<string, unknown>>;
}

export class Failure extends Error {
  override readonly name: string = "Failure";
  readonly exit: ExitName;
  readonly advice: string | null;
  readonly command: string | null;
  readonly facts: Readonly<Record<string, unknown>>;

  constructor(exit: ExitName, sentence: string, more: FailureFacts = {}) {
    super(sentence);
    this.exit = exit;
    this.advice = more.advice ?? null;
    this.command = more.command ?? null;
    this.facts = more.facts ?? {};
  }
}

const fix = z.looseObject({
  words: z.string(),
  method: z.string().nullable().optional(),
  path: z.string().nullable().optional(),
  body: z.unknown().optional(),
});
export type Fix = z.infer<typeof fix>;

/** A problem document as any server may send it: known members typed, the rest kept, wrong ones dropped. */
const problemShape = z.looseObject({
  title: z.string(),
  status: z.int().optional().catch(undefined),
  detail: z.string().optional().catch(undefined),
  code: z.string().optional().catch(undefined),
  action: z.string().optional().catch(undefined),
  request_id: z.string().optional().catch(undefined),
  rule: z.string().optional().catch(undefined),
  fix: fix.nullable().optional().catch(undefined),
  suggestion: z.string().nullable().optional().catch(undefined),
  line: z.int().min(1).optional().catch(undefined),
  column: z.int().min(1).optional().catch(undefined),
});
export type ProblemShape = z.infer<typeof problemShape>;

/** A refusal of the API. */
export class ApiProblem extends Failure {
  override readonly name = "ApiProblem";
  readonly status: number;
  readonly problem: ProblemShape;
  readonly retryAfterMs: number | null;

  constructor(status: number, problem: ProblemShape, retryAfterMs: number | null) {
    super(exitNameOfStatus(status), problem.title);
    this.status = status;
    this.problem = problem;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The problem document in an answer that is not 2xx; one made of the status alone where there is none. */
export function problemOf(status: number, contentType: string | null, text: string): ProblemShape {
  if (contentType !== null && /^application\/(?:problem\+)?json\b/i.test(contentType)) {
    try {
      const parsed = problemShape.safeParse(JSON.parse(text));
      if (parsed.success) return parsed.data;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
  }
  return { title: `The server answered ${status} without a problem document`, status };
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** The `code` of a Node system error (`ENOENT`), or null. */
export function errorCode(error: unknown): string | null {
  const code = error !== null && typeof error === "object" && "code" in error ? error.code : null;
  return typeof code === "string" ? code : null;
}
