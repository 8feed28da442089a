// A tenant with policies on the real stack, for the drill and the benchmark of the edge: a root of trust, a publisher's key, and
// bundles published through the API, which go to both providers' own stores.

import { createHash, randomBytes, randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { base64, utf8, type Bytes } from "../../shared/contract/bytes.ts";
import type { PolicyChanged } from "../../shared/contract/http-policies.ts";
import type { PolicyKeys } from "../../shared/edge/answers.ts";
import { metadataKey } from "../../shared/edge/serving-path.ts";
import { policyStatement } from "../../shared/edge/statement.ts";
import { documentText, rootOf, targetPath } from "../../shared/edge/tuf.ts";
import { tufSignerOf } from "../../shared/edge/tuf-keys.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { bundleManifest, bundleOf } from "../../test/support/bundles.ts";
import { newSigner } from "../../test/support/publisher.ts";
import type { Stack } from "../stack/index.ts";

/** What a fetcher is given: how it is reached is told apart. */
export interface Trust {
  readonly tenant: string;
  /** 1.root.json. */
  readonly pin: string;
  /** SPKI in base64. */
  readonly publisher: string;
  /** The fetcher's key. */
  readonly key: string;
}

export interface Published {
  readonly path: string;
  /** Of the tar.gz, lower-case hex. */
  readonly sha256: string;
  readonly bytes: number;
  readonly revision: number;
  /** When the API had answered that both providers serve it: ms since 1970. */
  readonly at: number;
}

export interface PolicyWorld {
  readonly trust: Trust;
  /**
   * Publishes a bundle on `stable`, and waits until both providers' stores have it. `bytes`: of its data, which no compression
   * makes smaller. Throws where it is not on both within `confirmMsMax`.
   */
  publish(policy: string, bytes: number): Promise<Published>;
}

type PolicyStack = Pick<Stack, "apiUrl" | "edge" | "seedTenant">;

const confirmMsMax = 20_000;
const pollMs = 20;
const noiseBytesMax = 5_000_000;
const attemptsMax = 10;
const againMs = 200;
const readableMsMax = 10_000;

export const policyNamed = (number: number): string => `policy-${number}`;
export const pathOf = (policy: string): string => targetPath(policy, "stable");
const clock = (): number => performance.timeOrigin + performance.now();
const sha256Of = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

export async function policyWorld(stack: PolicyStack, slug: string, signal: AbortSignal): Promise<PolicyWorld> {
  const { keys } = await stack.seedTenant(slug);
  // As a script around `maestro` would: a 503 is asked again, under the same Idempotency-Key.
  const call = async (method: string, path: string, key: string, init: RequestInit = {}): Promise<unknown> => {
    const headers = {
      authorization: `Bearer ${key}`,
      ...(method === "POST" ? { "idempotency-key": randomUUID() } : {}),
      ...(typeof init.body === "string" ? { "content-type": "application/json" } : {}),
      ...(init.headers as Record<string, string> | undefined),
    };
    for (let attempt = 1; ; attempt += 1) {
      const response = await fetch(`${stack.apiUrl}${path}`, { ...init, method, headers, signal });
      const text = await response.text();
      if (response.ok) return JSON.parse(text);
      if (response.status !== 503 || attempt === attemptsMax)
        throw new Error(`${method} ${path} answered ${response.status} ${text}`);
      await sleep(againMs, undefined, { signal });
    }
  };

  const told = (await call("GET", "/api/policies/keys", keys.admin)) as PolicyKeys;
  const keeper = await tufSignerOf(new Uint8Array(randomBytes(32)));
  const signed = await rootOf({ version: 1, root: [keeper.key], threshold: 1, online: told.keys }, Date.now());
  const root = { signed, signatures: [await keeper.sign(signed)] };
  await call("PUT", "/api/policies/root", keys.admin, { body: JSON.stringify(root) });
  const signer = await newSigner();
  const publisher = base64(signer.spki);
  await call("POST", "/api/market/publisher-keys", keys.publisher, { body: JSON.stringify({ spki: publisher }) });
  const trust = { tenant: told.tenant, pin: documentText(root), publisher, key: keys.fetcher };
  await untilReadable(stack, trust, signal);
  let count = 0;

  return {
    trust,
    async publish(policy, bytes) {
      const version = `r${(count += 1)}`;
      const bundle = bundleOf([
        { name: ".manifest", body: bundleManifest({ revision: version }) },
        { name: "app/authz.rego", body: "package app.authz\n\nallow if input.user in data.app.allowed\n" },
        { name: "app/data.json", body: JSON.stringify({ allowed: [version] }) },
        ...noise(bytes).map((text, at) => ({ name: `app/noise/${at}/data.json`, body: JSON.stringify({ text }) })),
      ]);
      const statement = await signStatement(signer, policyStatement(signedOf(policy, version, bundle)));
      let answer = (await call("POST", `/api/policies/${policy}/bundles`, keys.publisher, {
        headers: {
          "content-type": "application/gzip",
          "maestro-policy-statement": base64(utf8(JSON.stringify(statement))),
          "maestro-policy-channel": "stable",
        },
        body: bundle,
      })) as Pick<PolicyChanged, "providers" | "revision" | "bundle_sha256">;
      const { revision, bundle_sha256: sha256 } = answer;
      const endsAt = clock() + confirmMsMax;
      while (answer.providers.some(({ state }) => state !== "current")) {
        if (clock() > endsAt) throw new Error(`${policy} was not at both providers within ${confirmMsMax} ms`);
        await sleep(pollMs, undefined, { signal });
        const { providers } = (await call("GET", `/api/policies/${policy}`, keys.publisher)) as PolicyChanged;
        answer = { ...answer, providers };
      }
      return { path: pathOf(policy), sha256, bytes: bundle.length, revision, at: clock() };
    },
  };
}

function signedOf(policy: string, version: string, bundle: Bytes) {
  const tar = gunzipSync(bundle);
  return {
    policy,
    version,
    bundle_sha256: sha256Of(bundle),
    bundle_bytes: bundle.length,
    tar_sha256: sha256Of(tar),
    tar_bytes: tar.length,
  };
}

/** Texts of which gzip saves nothing but base64's quarter, none larger than one file of data may be. */
function noise(bytes: number): string[] {
  const count = Math.ceil(bytes / noiseBytesMax);
  return Array.from({ length: count }, () => randomBytes(Math.round(bytes / count)).toString("base64"));
}

/** The fetcher's key is mirrored into both stores some moments after the root. */
async function untilReadable(stack: PolicyStack, { tenant, key }: Trust, signal: AbortSignal): Promise<void> {
  const endsAt = clock() + readableMsMax;
  for (const base of [stack.edge.a, stack.edge.b])
    for (;;) {
      const url = `${base}/${metadataKey(tenant, "1.root.json")}`;
      const response = await fetch(url, { headers: { authorization: `Bearer ${key}` }, signal });
      await response.arrayBuffer();
      if (response.ok) break;
      if (clock() > endsAt) throw new Error(`${url} answered ${response.status} for ${readableMsMax} ms`);
      // Longer than an edge remembers that a key is unknown.
      await sleep(againMs, undefined, { signal });
    }
}
