// What the market benchmark starts from: packages with an old release on stable and a new one on canary, tenants that are
// entitled to all of them and have the old one installed. All of it over the API, before any fault.

import { contractOf, type Contract } from "../../test/support/openapi.ts";
import {
  jsonCall,
  manifestOf,
  must,
  newSigner,
  packageOf,
  signRelease,
  uploadOf,
} from "../../test/support/publisher.ts";
import { base64 } from "../../shared/contract/bytes.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import type { SeededTenant } from "../stack/seed.ts";
import type { Stack } from "../stack/index.ts";

export const oldVersion = "1.0.0";
export const newVersion = "1.1.0";
/** Calls at once while preparing. */
const lanes = 8;
/** Rows that one PUT of entitlements takes. */
const rowsMax = 100;

export interface Market {
  readonly packages: readonly string[];
  readonly tenants: readonly SeededTenant[];
}

export async function prepareMarket(
  stack: Stack,
  sizes: { readonly tenants: number; readonly packages: number },
  signal: AbortSignal,
  progress: (words: string) => void,
): Promise<Market> {
  const api = await contractOf(stack.apiUrl);
  const publisher = await stack.seedTenant("market-publisher");
  const signer = await newSigner();
  const spki = base64(signer.spki);
  must(201, await api.fetch("/api/market/publisher-keys", jsonCall(publisher.keys.publisher, "POST", { spki })));
  const packages = Array.from({ length: sizes.packages }, (_, at) => `bench/package-${at}`);
  await eachOf(packages, signal, progress, "publishing", async (name) => {
    await publish(api, publisher, signer, name, oldVersion, "stable");
    await publish(api, publisher, signer, name, newVersion, "canary");
  });
  const tenants: SeededTenant[] = [];
  for (let at = 0; at < sizes.tenants; at += 1) tenants.push(await stack.seedTenant(`market-${at}`));
  await eachOf(tenants, signal, progress, "entitling", async ({ keys }) => {
    for (let at = 0; at < packages.length; at += rowsMax) {
      const entitlements = packages
        .slice(at, at + rowsMax)
        .map((name) => ({ package: name, channel: "canary", allowed: true }));
      must(200, await api.fetch("/api/market/entitlements", jsonCall(keys.admin, "PUT", { entitlements })));
    }
  });
  const installs = packages.flatMap((name) => tenants.map(({ keys }) => ({ name, key: keys.operator })));
  await eachOf(installs, signal, progress, "installing", async ({ name, key }) => {
    must(201, await api.fetch("/api/market/installs", jsonCall(key, "POST", { package: name })));
  });
  return { packages, tenants };
}

async function publish(
  api: Contract,
  { keys }: SeededTenant,
  signer: Signer,
  name: string,
  version: string,
  channel: "stable" | "canary",
): Promise<void> {
  const manifest = manifestOf(name, { version, channel });
  const artifact = await packageOf(manifest);
  const bundle = await signRelease(signer, manifest, artifact);
  const { json } = must(201, await api.fetch("/api/market/releases", uploadOf(keys.publisher, bundle, artifact)));
  const path = `/api/market/reviews/${String(json.id)}/approve`;
  must(200, await api.fetch(path, jsonCall(keys.reviewer, "POST", { reason: "a benchmark" })));
}

async function eachOf<T>(
  items: readonly T[],
  signal: AbortSignal,
  progress: (words: string) => void,
  name: string,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const left = [...items.entries()].toReversed();
  const lane = async (): Promise<void> => {
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      signal.throwIfAborted();
      if (next[0] % 50 === 0) progress(`${name} ${next[0]} of ${items.length}`);
      await work(next[1]);
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
