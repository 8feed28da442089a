// The committed policy, loaded under Node as the API worker loads it. Tests of decisions use it.

import { loadPolicy } from "@open-policy-agent/opa-wasm";
import { committedPolicyBuild } from "../../scripts/generate/policy.ts";
import { compiledPolicy } from "../../shared/policy/compiled.ts";
import type { Policy } from "../../shared/policy/decide.ts";
import { openRoutes, type OpenRoutes } from "../../shared/policy/open-routes.ts";

export async function loadCommittedPolicy(): Promise<Policy> {
  return (await loadCommittedRules()).policy;
}

/** Decisions about callers, and about routes that ask for no credential. */
export async function loadCommittedRules(): Promise<{ readonly policy: Policy; readonly openRoutes: OpenRoutes }> {
  const { wasm, source_sha256 } = await committedPolicyBuild();
  const loaded = await loadPolicy(new WebAssembly.Module(wasm));
  return { policy: compiledPolicy(loaded, source_sha256), openRoutes: openRoutes(loaded) };
}
