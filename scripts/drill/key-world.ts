// The tenant of the drill of rotating keys: policies at both edges, a trust domain with an authority of its own in a folder, and a
// fetcher that is registered. Calls the API as the tenant's admin does. Made by key-rotation.ts.

import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { initAuthority, readAuthority } from "../../cli/svid/authority-folder.ts";
import { mintSvid } from "../../cli/svid/mint.ts";
import { base64Bytes } from "../../shared/contract/bytes.ts";
import { policyKey } from "../../shared/edge/serving-path.ts";
import { activeKey, type AuthorityState } from "../../shared/identity/issue/authority-state.ts";
import { pemOfCertificates } from "../../shared/identity/pem.ts";
import { parseSpiffeId, type SpiffeId } from "../../shared/identity/spiffe-id.ts";
import type { Stack } from "../stack/index.ts";
import type { SeededTenant } from "../stack/seed.ts";
import type { Credentials } from "./key-load.ts";
import type { KeySetting } from "./key-plan.ts";
import { policyNamed, policyWorld } from "./policy-world.ts";

export type KeyStack = Pick<Stack, "folder" | "apiUrl" | "edge" | "tls" | "seedTenant" | "miniflare">;

/** A call of the admin's that had to be sent again. */
export interface Trouble {
  readonly at: number;
  readonly status: number;
  readonly words: string;
}

export interface KeyWorld {
  readonly tenant: SeededTenant;
  readonly trustDomain: string;
  readonly authorityFolder: string;
  readonly bundles: readonly { readonly path: string; readonly sha256: string }[];
  /** The authority of the TLS front's certificate. */
  readonly serverAuthorityPem: string;
  /** As the tenant's admin. What is a 5xx is asked again, and noted in `troubles`. Throws where the answer stays no 2xx. */
  admin(method: string, path: string, body?: unknown): Promise<unknown>;
  mint(state: AuthorityState, generation: number): Promise<Credentials>;
  readonly troubles: readonly Trouble[];
}

const slug = "key-rotation";
const trustDomain = "key-rotation.example";
const attemptsMax = 10;
const againMs = 200;

export async function keyWorld(
  stack: KeyStack,
  setting: KeySetting,
  authorityFolder: string,
  signal: AbortSignal,
): Promise<KeyWorld> {
  const policies = await policyWorld(stack, slug, signal);
  const bundles: { path: string; sha256: string }[] = [];
  for (let count = 0; count < setting.policies; count += 1) {
    const { sha256 } = await policies.publish(policyNamed(count), setting.bundle_bytes);
    bundles.push({ path: `/${policyKey(slug, sha256)}`, sha256 });
  }
  const tenant = await stack.seedTenant(slug);
  const troubles: Trouble[] = [];
  // As a script around `maestro` would: it is asked again, under the same Idempotency-Key.
  const admin = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const headers = {
      authorization: `Bearer ${tenant.keys.admin}`,
      ...(method === "POST" ? { "idempotency-key": randomUUID() } : {}),
      ...(body === undefined ? {} : { "content-type": "application/json" }),
    };
    for (let attempt = 1; ; attempt += 1) {
      const sent = { method, headers, signal, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
      const response = await fetch(`${stack.apiUrl}${path}`, sent);
      const text = await response.text();
      if (response.ok) return text === "" ? null : JSON.parse(text);
      const words = `${method} ${path} answered ${response.status} ${text}`;
      if (response.status < 500 || attempt === attemptsMax) throw new Error(words);
      troubles.push({ at: Date.now(), status: response.status, words });
      await sleep(againMs, undefined, { signal });
    }
  };
  await initAuthority(authorityFolder, idOf(fetcher).trustDomain, Date.now());
  await admin("PUT", `/api/identity/trust-domains/${trustDomain}`, {});
  const front = await readAuthority(stack.tls.authorityFolder);
  return {
    tenant,
    trustDomain,
    authorityFolder,
    bundles,
    troubles,
    serverAuthorityPem: pemOfCertificates([base64Bytes(activeKey(front.x509).certificate ?? "")]),
    admin,
    async mint(state, generation) {
      const { files } = await mintSvid(
        state,
        { id: idOf(fetcher), ttlSeconds: setting.svid_ttl_s, audiences: ["maestro-edge", "maestro-api"] },
        Date.now(),
      );
      const tokenFor = (wanted: string): string => files.tokens.find(({ audience }) => audience === wanted)!.token;
      const { chainPem, keyPem } = files;
      return {
        generation,
        edgeToken: tokenFor("maestro-edge"),
        apiToken: tokenFor("maestro-api"),
        chainPem,
        keyPem,
      };
    },
  };
}

export const fetcher = `spiffe://${trustDomain}/fetcher/one`;

function idOf(text: string): SpiffeId {
  const parsed = parseSpiffeId(text);
  if (!parsed.ok) throw new TypeError(parsed.refusal.reason);
  return parsed.value;
}
