// Which of the platform's own workers may call which method of which: decided by the same compiled Rego as all else
// (policy/rego/spiffe_check.rego, rule `worker_call`). Asked by the callee's door. Whatever is not a decision is a no.

import { workerCallEntrypoint, type LoadedPolicy } from "./compiled.ts";
import { yesOrNo, type YesOrNo } from "./yes-or-no.ts";

export interface WorkerCallInput {
  readonly callee: string;
  readonly method: string;
  readonly spiffe_id: string;
  /** The platform's. */
  readonly trust_domain: string;
}

/** Methods × callers that exist are fewer than this. */
const rememberedMax = 500;

export const workerCalls = (loaded: LoadedPolicy): ((input: WorkerCallInput) => YesOrNo) =>
  yesOrNo(
    loaded,
    workerCallEntrypoint,
    ({ callee, method, spiffe_id, trust_domain }) => JSON.stringify([callee, method, spiffe_id, trust_domain]),
    rememberedMax,
  );
