// Cursors of lists: where the page before ended, opaque to callers. Used by the routes that list.

import { z } from "@hono/zod-openapi";
import { base64, base64Bytes, utf8 } from "../../shared/contract/bytes.ts";
import { Problem } from "../../shared/contract/problems.ts";
import { parseJson } from "./middleware/body.ts";

/** Query parameters of a list with at most `max` entries a page. */
export const pageQuery = (max: number, standard: number) => ({
  limit: z
    .string()
    .regex(/^[1-9]\d{0,3}$/, `a whole number from 1 to ${max}`)
    .refine((text) => Number(text) <= max, `a whole number from 1 to ${max}`)
    .default(String(standard)),
  cursor: z.string().max(400).optional().describe("`next_cursor` of the page before"),
});

export const cursorOf = (place: readonly unknown[]): string => base64(utf8(JSON.stringify(place)));

export function parseCursor<T>(text: string | undefined, shape: z.ZodType<T>): T | null {
  if (text === undefined) return null;
  try {
    const parsed = shape.safeParse(parseJson(base64Bytes(text)));
    if (parsed.success) return parsed.data;
  } catch {
    // Not base64, or not JSON as a body may have it: the same answer.
  }
  throw new Problem("invalid_request", "The cursor is not one of ours.", {
    errors: [{ path: "cursor", message: "send `next_cursor` of the page before, as it was" }],
  });
}
