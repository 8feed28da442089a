// Idempotency-Key at the door: read by the route's rule. What a key stands for is shared/tenancy/idempotency.ts.

import { Problem } from "../../../shared/contract/problems.ts";

/** `required` for what makes something, `optional` for what may be repeated anyway, `none` for what changes nothing. */
export type IdempotencyRule = "required" | "optional" | "none";

/** The key, or null where none was sent and none is needed. A route with rule `none` does not read the header. */
export function idempotencyKey(rule: IdempotencyRule, header: string | null): string | null {
  if (rule === "none") return null;
  if (header === null) {
    if (rule === "optional") return null;
    throw new Problem("idempotency_key_missing", "This call changes something, and has no Idempotency-Key.");
  }
  // A header that came twice reaches us joined by ", ": the space is not visible ASCII, so it is refused here too.
  if (!/^[\x21-\x7e]{1,255}$/.test(header)) {
    throw new Problem(
      "idempotency_key_invalid",
      "The Idempotency-Key is not 1 to 255 visible ASCII characters, sent once.",
    );
  }
  return header;
}
