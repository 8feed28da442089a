// What a tenant has installed and how it moves, as the CLI calls it. Part of `cli/api.ts`.

import type { z } from "zod";
import {
  install,
  installHistory,
  installList,
  packageStatus,
  rollbackResult,
  rollout,
  rolloutList,
  upgradeResult,
  type barRequest,
  type freezeRequest,
  type Install,
  type installRequest,
  type PackageStatus,
  type pinRequest,
  type rollbackRequest,
  type RollbackResult,
  type Rollout,
  type upgradeRequest,
  type UpgradeResult,
} from "../../shared/contract/http-installs.ts";
import { apiPath, type Client, type Page } from "./client.ts";

export type InstallHistory = z.infer<typeof installHistory>;
export type RolloutPage = z.infer<typeof rolloutList>;

export const installsApi = ({ json }: Client) => ({
  installs: async (): Promise<Install[]> =>
    (await json({ method: "GET", path: "/api/market/installs" }, installList)).installs,
  install: (body: z.infer<typeof installRequest>): Promise<Install> =>
    json({ method: "POST", path: "/api/market/installs", json: body, idempotent: true }, install),
  installHistory: (name: string, installed: string | undefined, page: Page): Promise<InstallHistory> =>
    json(
      { method: "GET", path: "/api/market/installs/history", query: { package: name, name: installed, ...page } },
      installHistory,
    ),

  upgrade: (body: z.infer<typeof upgradeRequest>): Promise<UpgradeResult> =>
    json({ method: "POST", path: "/api/market/upgrades", json: body, idempotent: true }, upgradeResult),
  rollback: (body: z.infer<typeof rollbackRequest>): Promise<RollbackResult> =>
    json({ method: "POST", path: "/api/market/rollbacks", json: body, idempotent: true }, rollbackResult),
  rollouts: (name: string, page: Page): Promise<RolloutPage> =>
    json({ method: "GET", path: "/api/market/rollouts", query: { package: name, ...page } }, rolloutList),
  rollout: (id: string): Promise<Rollout> => json({ method: "GET", path: apiPath("market", "rollouts", id) }, rollout),
  status: (name: string): Promise<PackageStatus> =>
    json({ method: "GET", path: "/api/market/status", query: { package: name } }, packageStatus),

  freeze: (body: z.infer<typeof freezeRequest>): Promise<PackageStatus> =>
    json({ method: "PUT", path: "/api/market/freezes", json: body, idempotent: true }, packageStatus),
  pin: (body: z.infer<typeof pinRequest>): Promise<PackageStatus> =>
    json({ method: "PUT", path: "/api/market/pins", json: body, idempotent: true }, packageStatus),
  bar: (body: z.infer<typeof barRequest>): Promise<PackageStatus> =>
    json({ method: "PUT", path: "/api/market/bars", json: body, idempotent: true }, packageStatus),
});
