// `maestro pql --all`: page after page of one query, and the cursor where it ended early. Called by commands/pql.ts.

import type { PqlAnswer } from "../../shared/contract/http-pql.ts";
import { ApiProblem } from "../failure.ts";
import { interruptedFailure } from "../http.ts";
import type { Session } from "../session.ts";

/** Pages of one call: ten million rows. */
const pagesMax = 100_000;
/** How often one page waits for a budget that is spent, and how long at a time. */
const waitsMax = 30;
const waitMsMax = 60_000;

export type Ended = { readonly cursor: null } | { readonly cursor: string; readonly error: unknown };

/**
 * Hands over each page in order; each is whole. Never throws for what the API or the person does: then `cursor` begins the
 * page that did not come, and `error` says why, null where `take` wants no more or `pagesMax` is reached.
 */
export async function askAll(
  session: Session,
  query: string,
  first: string | undefined,
  take: (page: PqlAnswer, isFirst: boolean) => Promise<"more" | "enough">,
): Promise<Ended> {
  let cursor = first;
  for (let pages = 0; pages < pagesMax; pages += 1) {
    let page: PqlAnswer;
    try {
      page = await pageAt(session, query, cursor);
    } catch (error) {
      // Without a first page there is nowhere to go on from.
      if (cursor === undefined) throw error;
      return { cursor, error };
    }
    const next = page.kind === "rows" ? page.next_cursor : null;
    const wish = await take(page, pages === 0);
    if (next === null) return { cursor: null };
    cursor = next;
    if (wish === "enough") return { cursor, error: null };
  }
  return { cursor: cursor!, error: null };
}

/** Waits as long as the API asks where the tenant's budget is spent: a walk over all pages is meant to take its time. */
async function pageAt(session: Session, query: string, cursor: string | undefined): Promise<PqlAnswer> {
  const { host } = session;
  for (let waits = 0; ; waits += 1) {
    try {
      return await (await session.api()).pql(query, cursor);
    } catch (error) {
      const asked = error instanceof ApiProblem && error.status === 429 ? error.retryAfterMs : null;
      if (asked === null || waits >= waitsMax) throw error;
      try {
        await host.sleep(Math.min(asked, waitMsMax), host.interrupted);
      } catch (stopped) {
        if (host.interrupted.aborted) throw interruptedFailure();
        throw stopped;
      }
    }
  }
}
