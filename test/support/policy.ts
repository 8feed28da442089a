// The committed policy, loaded under Node as the API worker loads it. Tests of decisions use it.

import { loadPolicy } from "@open-policy-agent/opa-wasm";
import { committedPolicyBuild } from "../../scripts/generate/policy.ts";
import { compiledPolicy } from "../../shared/policy/compiled.ts";
import type { Policy } from "../../shared/policy/decide.ts";

export async function loadCommittedPolicy(): Promise<Policy> {
  const { wasm, source_sha256 } = await committedPolicyBuild();
  return compiledPolicy(await loadPolicy(new WebAssembly.Module(wasm)), source_sha256);
}
