// Edge policies as the CLI calls them: bundles, channels, the root of trust. Part of `cli/api.ts`.

import type { SignedBundle } from "../../shared/contract/events.ts";
import {
  policy,
  policyChanged,
  policyList,
  type Policy,
  type PolicyChanged,
  type PolicyList,
} from "../../shared/contract/http-policies.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { policyKeys, policyRootPut, type PolicyKeys, type PolicyRootPut } from "../../shared/edge/answers.ts";
import type { RootDocument } from "../../shared/edge/tuf.ts";
import { apiPath, type Client } from "./client.ts";
import { transferWithinMs } from "./market.ts";

export const policiesApi = ({ json }: Client) => ({
  policies: (): Promise<PolicyList> => json({ method: "GET", path: "/api/policies" }, policyList),
  policy: (name: string): Promise<Policy> => json({ method: "GET", path: apiPath("policies", name) }, policy),
  policyKeys: (): Promise<PolicyKeys> => json({ method: "GET", path: "/api/policies/keys" }, policyKeys),
  putPolicyRoot: (root: RootDocument): Promise<PolicyRootPut> =>
    json({ method: "PUT", path: "/api/policies/root", json: root, idempotent: true }, policyRootPut),
  publishPolicy: (
    name: string,
    channel: Channel,
    bundle: Uint8Array<ArrayBuffer>,
    statement: SignedBundle,
  ): Promise<PolicyChanged> =>
    json(
      {
        method: "POST",
        path: apiPath("policies", name, "bundles"),
        bytes: { body: bundle, contentType: "application/gzip" },
        headers: {
          "maestro-policy-statement": Buffer.from(JSON.stringify(statement)).toString("base64"),
          "maestro-policy-channel": channel,
        },
        idempotent: true,
        withinMs: transferWithinMs,
      },
      policyChanged,
    ),
  promotePolicy: (name: string, from: Channel, to: Channel): Promise<PolicyChanged> =>
    json(
      { method: "POST", path: apiPath("policies", name, "promote"), json: { from, to }, idempotent: true },
      policyChanged,
    ),
  rollbackPolicy: (name: string, channel: Channel, revision: number | null): Promise<PolicyChanged> =>
    json(
      { method: "POST", path: apiPath("policies", name, "rollback"), json: { channel, revision }, idempotent: true },
      policyChanged,
    ),
});
