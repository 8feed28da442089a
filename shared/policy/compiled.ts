// A compiled Rego policy as a `Policy`. The platform's side compiles the module (workerd: at deploy; Node: from the file)
// and loads it with opa-wasm; this names the entry point. Called by workers' compose.ts and by tests.

import type { Policy } from "./decide.ts";

/** The rule that scripts/generate/policy.ts compiles: package mc.authz, rule `decision`. */
export const policyEntrypoint = "mc/authz/decision";
/** Rule `worker_call` of the same package: calls between the platform's own workers (worker-calls.ts). */
export const workerCallEntrypoint = "mc/authz/worker_call";
/** Rule `open_route` of the same package: routes that ask for no credential (open-routes.ts). */
export const openRouteEntrypoint = "mc/authz/open_route";

/** opa-wasm's LoadedPolicy. */
export interface LoadedPolicy {
  evaluate(input: unknown, entrypoint: string): unknown;
}

export const compiledPolicy = (loaded: LoadedPolicy, sourceSha256: string): Policy => ({
  sha256: sourceSha256,
  evaluate: (input) => loaded.evaluate(input, policyEntrypoint),
});
