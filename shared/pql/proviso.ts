// What has to hold, beside the question, in the very transaction that a question is asked in. The API door gives one with the
// questions of callers whom it has not looked up anew; the room asks it and tells what came of it, and knows nothing else of it.

import type { Condition } from "../tenancy/database.ts";

export interface Proviso {
  readonly condition: Condition;
  /** Called each time that the condition was evaluated, before anything of the answer is used. Does not throw. */
  readonly told: (holds: boolean) => void;
}

/** The question's proviso did not hold: there is no answer, and the question was not one. */
export class ProvisoFailed extends Error {
  override readonly name = "ProvisoFailed";
}
