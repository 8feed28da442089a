// Asks the bundle endpoints that are due, for the cron (compose.ts). Profile https_web alone: a Worker's fetch verifies the host by the
// Web PKI and cannot verify a peer by its SPIFFE ID. What an endpoint gives goes the way of a bundle that is handed in; whatever goes
// wrong leaves the last good one in force, and the trust domain says so.

import { redirectedTo } from "../../../shared/identity/bundle-endpoint.ts";
import { noteRefusal, type DueDomain } from "../../../shared/identity/store.ts";
import { bundleBytesMax } from "../../../shared/identity/trust-bundle.ts";
import { errorFacts } from "../middleware/problem.ts";
import type { Parts } from "../parts.ts";
import { takeBundle } from "./take-bundle.ts";

/** Of one endpoint, redirects and body included. */
const fetchMsMax = 5_000;
/** Domains that are asked at the same time. */
const atOnceMax = 6;

export type FetchBundle = (url: string, init: RequestInit) => Promise<Response>;
export type RefreshParts = Pick<
  Parts,
  "clock" | "database" | "random" | "shards" | "nudgeDrain" | "nudgeTrust" | "log"
>;

/** Every domain is asked once; none holds up another for longer than its time. */
export async function refreshBundles(
  parts: RefreshParts,
  due: readonly DueDomain[],
  fetchBundle: FetchBundle,
): Promise<void> {
  const waiting = [...due];
  const work = async (): Promise<void> => {
    for (let domain = waiting.shift(); domain !== undefined; domain = waiting.shift()) {
      try {
        await refreshBundle(parts, domain, fetchBundle);
      } catch (error) {
        parts.log("error", "a bundle was not refreshed", { trust_domain: domain.name, ...errorFacts(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: atOnceMax }, work));
}

async function refreshBundle(parts: RefreshParts, domain: DueDomain, fetchBundle: FetchBundle): Promise<void> {
  const { name, tenant_id, url } = domain;
  const got = await documentAt(url, fetchBundle);
  const now = parts.clock();
  if (got.document === null) return await noteRefusal(parts.database, tenant_id, name, got.reason, now, url);
  const { document } = got;
  const taken = await takeBundle(parts, {
    tenant_id,
    principal: null,
    name,
    document,
    outcome: "refreshed",
    endpoint: url,
    now,
    claim: null,
    decision: null,
  });
  if (taken.state !== "taken") parts.log("warn", "a bundle was not taken", { trust_domain: name, state: taken.state });
}

type Got = { readonly document: string } | { readonly document: null; readonly reason: string };

/** SPIFFE Federation 5.2.1: redirects are followed within https, each anew from the stated URL. */
async function documentAt(stated: string, fetchBundle: FetchBundle): Promise<Got> {
  const signal = AbortSignal.timeout(fetchMsMax);
  let url = stated;
  try {
    for (let followed = 0; ; followed += 1) {
      const response = await fetchBundle(url, {
        headers: { accept: "application/json" },
        redirect: "manual",
        signal,
      });
      const location = response.headers.get("location");
      if (response.status >= 300 && response.status < 400 && location !== null) {
        await response.body?.cancel();
        const next = redirectedTo(url, location, followed);
        if (!next.ok) return { document: null, reason: `${next.refusal.reason} (${next.refusal.section})` };
        url = next.value;
        continue;
      }
      if (response.status !== 200) {
        await response.body?.cancel();
        return {
          document: null,
          reason: `the endpoint answered with status ${response.status} (SPIFFE Federation 5.2)`,
        };
      }
      const document = await boundedText(response);
      return document === null
        ? { document, reason: `the endpoint gave more than ${bundleBytesMax} bytes, or no UTF-8 (bounds)` }
        : { document };
    }
  } catch {
    // A network's error may quote addresses: what is told is that there was no answer.
    return {
      document: null,
      reason: "the endpoint did not answer in time, or could not be reached (SPIFFE Federation 5.2)",
    };
  }
}

async function boundedText(response: Response): Promise<string | null> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const reader = response.body?.getReader();
  let text = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true as const, value: undefined };
    try {
      if (done) return text + decoder.decode();
      bytes += value.byteLength;
      if (bytes > bundleBytesMax) throw new RangeError("too many bytes");
      text += decoder.decode(value, { stream: true });
    } catch {
      await reader?.cancel();
      return null;
    }
  }
}
