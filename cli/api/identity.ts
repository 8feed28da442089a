// Trust domains, bundles and workloads as the CLI calls them. Part of `cli/api.ts`.

import type { z } from "zod";
import {
  bundleTaken,
  bundleView,
  trustDomainList,
  workload,
  workloadList,
  type BundleTaken,
  type TrustDomainPut,
  type TrustDomainView,
  type Workload,
} from "../../shared/contract/http-identity.ts";
import type { Role } from "../../shared/contract/names.ts";
import { send, type Call } from "../http.ts";
import { apiPath, type Client } from "./client.ts";

export const identityApi = ({ json, wire }: Client) => {
  const done = (call: Call): Promise<void> => send(wire, { ...call, idempotent: true }, () => Promise.resolve());
  const domain = (name: string): string => apiPath("identity", "trust-domains", name);
  return {
    trustDomains: async (): Promise<TrustDomainView[]> =>
      (await json({ method: "GET", path: "/api/identity/trust-domains" }, trustDomainList)).trust_domains,
    stateTrustDomain: (name: string, body: TrustDomainPut): Promise<void> =>
      done({ method: "PUT", path: domain(name), json: body }),
    removeTrustDomain: (name: string): Promise<void> => done({ method: "DELETE", path: domain(name) }),
    trustBundle: (name: string): Promise<z.infer<typeof bundleView>> =>
      json({ method: "GET", path: `${domain(name)}/bundle` }, bundleView),
    handInBundle: (name: string, document: string): Promise<BundleTaken> =>
      json({ method: "PUT", path: `${domain(name)}/bundle`, json: { document }, idempotent: true }, bundleTaken),
    workloads: async (): Promise<Workload[]> =>
      (await json({ method: "GET", path: "/api/identity/workloads" }, workloadList)).workloads,
    registerWorkload: (body: { spiffe_id: string; role: Role }): Promise<Workload> =>
      json({ method: "POST", path: "/api/identity/workloads", json: body, idempotent: true }, workload),
    removeWorkload: (id: string): Promise<void> =>
      done({ method: "DELETE", path: apiPath("identity", "workloads", id) }),
  };
};
