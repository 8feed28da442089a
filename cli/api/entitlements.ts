// A tenant's entitlements as the CLI calls them: the set, its history, reviewed changes, explanations; flags and metrics
// beside them. Part of `cli/api.ts`.

import type { z } from "zod";
import {
  entitlementChange,
  entitlementChangeList,
  entitlementHistory,
  entitlementSet,
  explanation,
  type Entitlement,
  type EntitlementChange,
  type EntitlementSet,
  type Explanation,
  type explainRequest,
} from "../../shared/contract/http-entitlements.ts";
import { flagList, type FlagChange, type FlagList } from "../../shared/contract/http-flags.ts";
import { readText, send } from "../http.ts";
import { apiPath, type Client, type Page } from "./client.ts";

export type Question = z.input<typeof explainRequest>;
export type EntitlementHistory = z.infer<typeof entitlementHistory>;
export type ChangePage = z.infer<typeof entitlementChangeList>;
export type ChangeStep = "approve" | "reject" | "apply" | "revert";

export const entitlementsApi = ({ wire, json }: Client) => ({
  entitlements: (): Promise<EntitlementSet> =>
    json({ method: "GET", path: "/api/market/entitlements" }, entitlementSet),
  /** Replaces the row as a whole, if the set is still at that version. */
  entitle: (row: Entitlement, reason: string, ifMatch: number): Promise<EntitlementSet> =>
    json(
      {
        method: "PUT",
        path: "/api/market/entitlements",
        json: { entitlements: [row], reason },
        headers: { "if-match": `"v${ifMatch}"` },
        idempotent: true,
      },
      entitlementSet,
    ),
  entitlementHistory: (name: string | undefined, page: Page): Promise<EntitlementHistory> =>
    json(
      { method: "GET", path: "/api/market/entitlements/history", query: { package: name, ...page } },
      entitlementHistory,
    ),

  proposeChange: (row: Entitlement, reason: string): Promise<EntitlementChange> =>
    json(
      {
        method: "POST",
        path: "/api/market/entitlement-changes",
        json: { entitlements: [row], reason },
        idempotent: true,
      },
      entitlementChange,
    ),
  changes: (page: Page): Promise<ChangePage> =>
    json({ method: "GET", path: "/api/market/entitlement-changes", query: { ...page } }, entitlementChangeList),
  change: (id: string): Promise<EntitlementChange> =>
    json({ method: "GET", path: apiPath("market", "entitlement-changes", id) }, entitlementChange),
  stepChange: (id: string, step: ChangeStep): Promise<EntitlementChange> =>
    json(
      { method: "POST", path: apiPath("market", "entitlement-changes", id, step), idempotent: true },
      entitlementChange,
    ),

  explain: (question: Question): Promise<Explanation> =>
    json({ method: "POST", path: "/api/market/explain", json: question }, explanation),

  flags: (): Promise<FlagList> => json({ method: "GET", path: "/api/flags" }, flagList),
  setFlag: (change: FlagChange): Promise<FlagList> =>
    json({ method: "PUT", path: "/api/flags", json: change, idempotent: true }, flagList),
  metrics: (): Promise<string> =>
    send(
      wire,
      { method: "GET", path: "/api/metrics", headers: { accept: "text/plain, application/problem+json" } },
      readText,
    ),
});
