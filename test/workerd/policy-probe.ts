// The compiled policy in a worker of its own: asked a list of inputs, it answers what each comes to. Run in workerd by
// test/support/policy-worker.ts, for the test that holds it against OPA.

import { loadPolicy } from "@open-policy-agent/opa-wasm";
import policyBuild from "../../policy/generated/authz.json";
import policyModule from "../../policy/generated/authz.wasm";
import { compiledPolicy } from "../../shared/policy/compiled.ts";

const policy = compiledPolicy(await loadPolicy(policyModule), policyBuild.source_sha256);

export default {
  async fetch(request) {
    const inputs: unknown[] = await request.json();
    return Response.json(inputs.map((input) => policy.evaluate(input)));
  },
} satisfies ExportedHandler;
