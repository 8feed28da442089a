// Edge policies as the CLI calls them: bundles, channels, the root of trust. Part of `cli/api.ts`.

import type { SignedBundle } from "../../shared/contract/events.ts";
import {
  policy,
  policyChanged,
  policyDelta,
  policyList,
  policyRemoved,
  type Policy,
  type PolicyChanged,
  type PolicyDelta,
  type PolicyList,
  type PolicyRemoved,
} from "../../shared/contract/http-policies.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { policyKeys, policyRootPut, type PolicyKeys, type PolicyRootPut } from "../../shared/edge/answers.ts";
import type { RootDocument } from "../../shared/edge/tuf.ts";
import { readBytes, send } from "../http.ts";
import { apiPath, type Client } from "./client.ts";
import { transferWithinMs } from "./market.ts";

export const policiesApi = ({ wire, json }: Client) => ({
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
  publishedPolicy: (name: string, sha256: string, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> =>
    send(
      wire,
      {
        method: "GET",
        path: apiPath("policies", name, "bundles", sha256),
        headers: { accept: "application/gzip, application/problem+json" },
        withinMs: transferWithinMs,
      },
      readBytes(bytesMax),
    ),
  putPolicyDelta: (
    name: string,
    { from, to }: { readonly from: string; readonly to: string },
    delta: Uint8Array<ArrayBuffer>,
    sha256: string,
  ): Promise<PolicyDelta> =>
    json(
      {
        method: "PUT",
        path: apiPath("policies", name, "deltas", from, to),
        bytes: { body: delta, contentType: "application/zstd" },
        headers: { "maestro-delta-sha256": sha256, "maestro-delta-bytes": String(delta.length) },
        idempotent: true,
        withinMs: transferWithinMs,
      },
      policyDelta,
    ),
  removePolicy: (name: string): Promise<PolicyRemoved> =>
    json({ method: "DELETE", path: apiPath("policies", name), idempotent: true }, policyRemoved),
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
