// The API as `maestro` calls it: one function a route, answers parsed by the contract's own schemas; the marketplace's
// part is in api/. Made by `session.ts`, used by the commands.

import type { z } from "zod";
import { anchoringList, publishedKeys, manifestList, type PublishedKeys } from "../shared/contract/http-audit.ts";
import { decisionRecord, type DecisionRecord } from "../shared/contract/http-decisions.ts";
import {
  disclosureLink,
  disclosurePending,
  execution,
  executionList,
  revokedLink,
  type DisclosureLink,
  type Execution,
  type FinishExecution,
  type RevokedLink,
  type StartExecution,
} from "../shared/contract/http-executions.ts";
import { pqlAnswer, pqlExplanation, type PqlAnswer, type PqlExplanation } from "../shared/contract/http-pql.ts";
import { privacyBudget, type PrivacyBudget } from "../shared/contract/http-privacy.ts";
import {
  apiKey,
  apiKeyList,
  newApiKey,
  principalList,
  whoami,
  type ApiKey,
  type Principal,
  type Whoami,
} from "../shared/contract/http-tenancy.ts";
import { health, type Health } from "../shared/contract/http-health.ts";
import type { Role } from "../shared/contract/names.ts";
import { apiPath as path, createClient, fits, type Page } from "./api/client.ts";
import { entitlementsApi } from "./api/entitlements.ts";
import { fleetApi } from "./api/fleet.ts";
import { identityApi } from "./api/identity.ts";
import { installsApi } from "./api/installs.ts";
import { marketApi, transferWithinMs } from "./api/market.ts";
import { rotationsApi } from "./api/rotations.ts";
import { policiesApi } from "./api/policies.ts";
import { readBytes, readJson, readText, send, type Call, type Wire } from "./http.ts";

const tileBytesMax = 64 * 1024;
const manifestBytesMax = 1024 * 1024;
const segmentBytesMax = 256 * 1024 * 1024;

export type Api = ReturnType<typeof createApi>;
export interface LinkWish {
  readonly oneTime?: boolean | undefined;
  readonly audience?: string | undefined;
}
export type LinkAnswer =
  | { readonly state: "ready"; readonly link: DisclosureLink }
  | { readonly state: "building"; readonly retryAfterMs: number };

export function createApi(wire: Wire) {
  const client = createClient(wire);
  const { json } = client;

  return {
    /** Throws Failure `unavailable` where the service is not well. */
    health: (): Promise<Health> => json({ method: "GET", path: "/healthz" }, health),
    whoami: (): Promise<Whoami> => json({ method: "GET", path: "/api/whoami" }, whoami),

    keys: async (): Promise<ApiKey[]> => (await json({ method: "GET", path: "/api/keys" }, apiKeyList)).keys,
    createKey: (body: { role: Role; expires_in_days: number | null }): Promise<z.infer<typeof newApiKey>> =>
      json({ method: "POST", path: "/api/keys", json: body, idempotent: true }, newApiKey),
    /** The API may answer the key or nothing. */
    revokeKey: (id: string): Promise<ApiKey | null> => {
      const call: Call = { method: "DELETE", path: path("keys", id), idempotent: true };
      return send(wire, call, async (response) =>
        response.status === 204 ? null : fits(call, apiKey, await readJson(response)),
      );
    },

    principals: async (): Promise<Principal[]> =>
      (await json({ method: "GET", path: "/api/principals" }, principalList)).principals,
    erasePrincipal: (id: string): Promise<void> =>
      send(wire, { method: "DELETE", path: path("principals", id, "identities"), idempotent: true }, () =>
        Promise.resolve(),
      ),

    decision: (id: string): Promise<DecisionRecord> =>
      json({ method: "GET", path: path("decisions", id) }, decisionRecord),

    ...marketApi(client),
    ...entitlementsApi(client),
    ...installsApi(client),
    ...policiesApi(client),
    ...fleetApi(client),
    ...identityApi(client),
    ...rotationsApi(client),

    startExecution: (body: StartExecution): Promise<Execution> =>
      json({ method: "POST", path: "/api/executions", json: body, idempotent: true }, execution),
    finishExecution: (id: string, body: FinishExecution): Promise<Execution> =>
      json({ method: "POST", path: path("executions", id, "finish"), json: body, idempotent: true }, execution),
    execution: (id: string): Promise<Execution> => json({ method: "GET", path: path("executions", id) }, execution),
    executions: (page: Page): Promise<z.infer<typeof executionList>> =>
      json({ method: "GET", path: "/api/executions", query: { ...page } }, executionList),

    disclosureLink: (id: string, { oneTime, audience }: LinkWish = {}): Promise<LinkAnswer> => {
      const query = { one_time: oneTime === true ? "true" : undefined, audience };
      const call: Call = { method: "GET", path: `${path("executions", id)}/disclosure:link`, query };
      return send(wire, call, async (response): Promise<LinkAnswer> => {
        const value = await readJson(response);
        if (response.status !== 202) return { state: "ready", link: fits(call, disclosureLink, value) };
        return { state: "building", retryAfterMs: fits(call, disclosurePending, value).retry_after_s * 1000 };
      });
    },

    revokeDisclosure: (grantId: string): Promise<RevokedLink> =>
      json({ method: "DELETE", path: path("disclosures", "grants", grantId), idempotent: true }, revokedLink),

    pql: (query: string, cursor?: string): Promise<PqlAnswer> =>
      json({ method: "POST", path: "/api/pql", json: cursor === undefined ? { query } : { query, cursor } }, pqlAnswer),

    explainPql: (query: string): Promise<PqlExplanation> =>
      json({ method: "POST", path: "/api/pql", json: { query, explain: true } }, pqlExplanation),

    budget: (): Promise<PrivacyBudget> => json({ method: "GET", path: "/api/privacy/budget" }, privacyBudget),
    setBudget: (body: { limit_units: number; leak_units_per_hour: number }): Promise<PrivacyBudget> =>
      json({ method: "PUT", path: "/api/privacy/budget", json: body, idempotent: true }, privacyBudget),

    publishedKeys: (): Promise<PublishedKeys> => json({ method: "GET", path: "/api/audit/keys" }, publishedKeys),
    checkpoint: (): Promise<string> =>
      send(
        wire,
        { method: "GET", path: "/api/audit/checkpoint", headers: { accept: "text/plain, application/problem+json" } },
        readText,
      ),
    anchor: (): Promise<z.infer<typeof anchoringList>> =>
      json({ method: "GET", path: "/api/audit/anchor" }, anchoringList),
    manifests: (after: string | null): Promise<z.infer<typeof manifestList>> =>
      json({ method: "GET", path: "/api/audit/manifests", query: { after: after ?? undefined } }, manifestList),
    manifest: (range: string): Promise<Uint8Array<ArrayBuffer>> =>
      send(wire, { method: "GET", path: path("audit", "manifests", range) }, readBytes(manifestBytesMax)),
    segment: (range: string): Promise<Uint8Array<ArrayBuffer>> =>
      send(
        wire,
        {
          method: "GET",
          path: path("audit", "segments", range),
          headers: { accept: "application/vnd.apache.parquet, application/problem+json" },
          withinMs: transferWithinMs,
        },
        readBytes(segmentBytesMax),
      ),
    tile: (name: string): Promise<Uint8Array<ArrayBuffer>> =>
      send(
        wire,
        {
          method: "GET",
          path: path("audit", "tiles", ...name.split("/")),
          headers: { accept: "application/octet-stream, application/problem+json" },
        },
        readBytes(tileBytesMax),
      ),
  };
}
