// A caller whom this isolate remembers is let on at once, and their key is checked in the transaction that the answer is read
// in: one round trip instead of two (ADR-1223). Called by the door, for routes that have their credential checked with the answer.
// Nothing that the route came to, an answer, a refusal or an error, leaves before the key was found to stand.

import type { RememberedCaller } from "../../shared/tenancy/authenticate.ts";
import type { Caller } from "../../shared/tenancy/caller.ts";
import type { Condition } from "../../shared/tenancy/database.ts";

/** What a route does for a caller who is not certain yet. */
export interface CredentialCheck {
  /** To be read in the answer's transaction, not after the answer. */
  readonly condition: Condition;
  /** To be told each time what the condition was; what was read where it was false may not be used. */
  readonly told: (holds: boolean) => void;
}

export interface ProvisionalAnswer<T> {
  readonly remembered: RememberedCaller;
  /** What the route comes to. `check` null: the caller is certain. */
  readonly attempt: (caller: Caller, check: CredentialCheck | null) => Promise<T>;
  /** Looks the caller up; throws where there is none. */
  readonly authenticate: () => Promise<Caller>;
  /** Told who it was, before anything leaves; not told where nobody was let in. */
  readonly certain: (caller: Caller) => void;
}

/** Throws what `authenticate` or, for a caller who is certain, `attempt` throws. */
export async function answerProvisionally<T>({
  remembered,
  attempt,
  authenticate,
  certain,
}: ProvisionalAnswer<T>): Promise<T> {
  const told: boolean[] = [];
  const check = { condition: remembered.stands, told: (holds: boolean): void => void told.push(holds) };
  const [outcome] = await Promise.allSettled([attempt(remembered.caller, check)]);
  const failed = told.includes(false);
  if (told.length > 0 && !failed) {
    certain(remembered.caller);
    return settled(outcome);
  }
  if (failed) remembered.forget();
  const caller = await authenticate();
  certain(caller);
  // What came of an attempt that was never checked is what this caller would get; what was read beside a failed check is not.
  if (!failed && isSame(caller, remembered.caller)) return settled(outcome);
  return await attempt(caller, null);
}

function settled<T>(outcome: PromiseSettledResult<T>): T {
  if (outcome.status === "rejected") throw outcome.reason;
  return outcome.value;
}

const isSame = (left: Caller, right: Caller): boolean =>
  (Object.keys(left) as (keyof Caller)[]).every((name) => JSON.stringify(left[name]) === JSON.stringify(right[name]));
