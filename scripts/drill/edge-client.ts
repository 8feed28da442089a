// A fetcher that keeps no bundle: each fetch gets the bytes that are current now from whichever provider has them first, and
// believes none that are not signed for: metadata and statements when they change, the bytes by their digest each time. The parts of
// `maestro edge` with its localhost cache left out; run by swap-load.ts.

import { createHash } from "node:crypto";
import { openHeldFolder } from "../../cli/edge/held-folder.ts";
import { httpProviders } from "../../cli/edge/http-provider.ts";
import { edgeTools, nodeTimer } from "../../cli/edge/node-parts.ts";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { EdgeCounters } from "../../shared/edge/edge-counters.ts";
import { openEdgeFetcher } from "../../shared/edge/edge-fetcher.ts";
import { contentTypes } from "../../shared/edge/fetcher-parts.ts";
import type { Provider } from "../../shared/edge/providers.ts";
import { refusal, type Refusal } from "../../shared/edge/refusal.ts";
import { routeObject, type Objection } from "../../shared/edge/route-object.ts";
import { Routing } from "../../shared/edge/routing.ts";
import { policyKey, statementKey } from "../../shared/edge/serving-path.ts";
import { parseTargetPath, type PolicyTarget } from "../../shared/edge/tuf.ts";
import { checkStatement, statementBytesMax } from "../../shared/edge/verify-policy.ts";
import type { Trust } from "./policy-world.ts";

export interface Had {
  /** Null where nothing was had that holds. */
  readonly sha256: string | null;
  readonly attempts: number;
  readonly hedges: number;
}

export interface FetchingClient {
  /** The current bytes of that target path. Never rejects for what a provider does. */
  fetch(path: string): Promise<Had>;
  /** What it counted, by name. */
  counts(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

export interface EdgeClient extends FetchingClient {
  readonly objections: ReadonlyMap<string, number>;
}

const statementsAtOnce = 8;

/** `folder`: where the trusted metadata is held. Throws where the first metadata is not to be had. */
export async function openEdgeClient(
  trust: Trust,
  providers: readonly Provider[],
  folder: string,
  probeEveryMs: number,
): Promise<EdgeClient> {
  const { tenant } = trust;
  const clock = (): number => Date.now();
  const counters = new EdgeCounters();
  const http = httpProviders(providers, () => trust.key);
  const names = providers.map(({ name }) => name);
  const routing = new Routing(names);
  const parts = {
    tenant,
    providers: names,
    publishers: [trust.publisher],
    start: http.start,
    store: await openHeldFolder(folder),
    tools: edgeTools,
    clock,
    timer: nodeTimer,
    counters,
    routing,
  };
  const opened = await openEdgeFetcher(parts, trust.pin, null);
  if (!opened.ok) throw new Error(opened.reason);
  const { fetcher } = opened;
  const objections = new Map<string, number>();
  const note = (list: readonly Objection[]): void => {
    for (const { provider, refusal } of list) {
      const name = `${provider} ${refusal.code}`;
      objections.set(name, (objections.get(name) ?? 0) + 1);
    }
  };
  async function one(key: string, bytesMax: number, contentType: string, sha256: string, bytes: number | null) {
    const routed = await routeObject(routing, clock, nodeTimer, {
      providers: names,
      start: (provider) => http.start(provider, { key, bytesMax, contentType }),
      accept: async (body) => wrongBytes(body, sha256, bytes),
      bytes,
    });
    note(routed.objections);
    return routed;
  }

  /** Digests of statements by which the publisher has vouched for what the metadata names. */
  const stated = new Set<string>();
  async function state([path, target]: readonly [string, PolicyTarget]): Promise<void> {
    const { statement_sha256: digest } = target.custom;
    const routed = await one(statementKey(tenant, digest), statementBytesMax, contentTypes.statement, digest, null);
    if (!routed.ok) return;
    const vouched = await checkStatement(parseTargetPath(path)!.policy, target, routed.bytes, [trust.publisher]);
    if (vouched.ok) stated.add(digest);
    else tally.refused += 1;
  }

  const tally = { refused: 0, statements: 0 };
  let text: string | null = null;
  let current: Readonly<Record<string, PolicyTarget>> = {};

  /** Refreshes the metadata; of what it names newly, the publishers' statements are read before it counts. */
  async function follow(): Promise<void> {
    note((await fetcher.refresh([])).objections);
    const { targets } = fetcher.state.trusted;
    if (targets === null || targets === text) return;
    const named = (JSON.parse(targets) as { signed: { targets: Record<string, PolicyTarget> } }).signed.targets;
    const isNew = ([, { custom }]: readonly [string, PolicyTarget]): boolean => !stated.has(custom.statement_sha256);
    const fresh = Object.entries(named).filter(isNew);
    tally.statements += fresh.length;
    for (let at = 0; at < fresh.length; at += statementsAtOnce)
      await Promise.all(fresh.slice(at, at + statementsAtOnce).map(state));
    // One that is missing is asked for with the next probe; until then the policy stays what it was.
    current = { ...current, ...Object.fromEntries(Object.entries(named).filter((target) => !isNew(target))) };
    if (!fresh.some(isNew)) text = targets;
  }

  await follow();
  if (text === null) throw new Error("no provider had metadata and statements that hold");
  // Begun at equal distances: one that takes longer than that is waited for, and the next begins then.
  let following: Promise<void> | null = null;
  const timer = setInterval(() => {
    following ??= follow().finally(() => {
      following = null;
    });
  }, probeEveryMs);

  return {
    objections,
    async fetch(path) {
      const target = current[path];
      if (target === undefined) return { sha256: null, attempts: 0, hedges: 0 };
      const { sha256 } = target.hashes;
      const routed = await one(policyKey(tenant, sha256), target.length, contentTypes.policy, sha256, target.length);
      return {
        sha256: routed.ok ? sha256 : null,
        attempts: routed.attempts.length,
        hedges: routed.attempts.filter((reason) => reason === "hedge").length,
      };
    },
    counts() {
      const { refreshes, behind } = counters.read();
      return { refreshes, behind, ...tally };
    },
    async close() {
      clearInterval(timer);
      await following;
      http.close();
    },
  };
}

/** As `checkDigest` of shared/edge, in this thread: for some kB that costs less than handing them to another one. */
function wrongBytes(bytes: Bytes, sha256: string, length: number | null): Refusal | null {
  if (length !== null && bytes.length !== length) return refusal("wrong_length", `${bytes.length} bytes came`);
  const digest = createHash("sha256").update(bytes).digest("hex");
  return digest === sha256 ? null : refusal("wrong_digest", `what came has the digest ${digest}`);
}
