// A fetcher that keeps no bundle: each fetch gets the bytes that are current now from whichever provider has them first, and
// believes none that are not signed for. The parts of `maestro edge` with its localhost cache left out; run by swap-load.ts.

import { openHeldFolder } from "../../cli/edge/held-folder.ts";
import { httpProviders } from "../../cli/edge/http-provider.ts";
import { edgeTools, nodeTimer } from "../../cli/edge/node-parts.ts";
import { EdgeCounters } from "../../shared/edge/edge-counters.ts";
import { contentTypes, openEdgeFetcher, type EdgeFetcher } from "../../shared/edge/edge-fetcher.ts";
import type { Provider } from "../../shared/edge/providers.ts";
import type { Refusal } from "../../shared/edge/refusal.ts";
import { routeObject, type Objection } from "../../shared/edge/route-object.ts";
import { Routing, type ProviderStanding } from "../../shared/edge/routing.ts";
import { policyKey, statementKey } from "../../shared/edge/serving-path.ts";
import { parseTargetPath, type PolicyTarget } from "../../shared/edge/tuf.ts";
import { checkDigest, checkStatement, checkTar, statementBytesMax } from "../../shared/edge/verify-policy.ts";
import type { Trust } from "./policy-world.ts";

export interface Had {
  /** Null where nothing was had that holds. */
  readonly sha256: string | null;
  readonly attempts: number;
  readonly hedges: number;
  readonly beside: number;
}

export interface FetchingClient {
  /** The current bytes of that target path. Never rejects for what a provider does. */
  fetch(path: string): Promise<Had>;
  /** What it counted, by name. */
  counts(): Readonly<Record<string, number>>;
  close(): Promise<void>;
}

export interface EdgeClient extends FetchingClient {
  standings(): ProviderStanding[];
  readonly objections: ReadonlyMap<string, number>;
}

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
  const http = httpProviders(providers, trust.key);
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
  note((await fetcher.refresh([])).objections);
  if (fetcher.state.trusted.targets === null) throw new Error("no provider had metadata that holds");

  // Begun at equal distances: one that takes longer than that is waited for, and the next begins then.
  let probing: Promise<void> | null = null;
  const probe = async (): Promise<void> => note((await fetcher.refresh([])).objections);
  const timer = setInterval(() => {
    probing ??= probe().finally(() => {
      probing = null;
    });
  }, probeEveryMs);

  const targetsOf = lastTargets(fetcher);
  /** What a bundle's own content was found to be: the same for each time that these bytes come. */
  const judged = new Map<string, Promise<Refusal | null>>();
  const tally = { refused: 0 };

  async function one(key: string, bytesMax: number, contentType: string, sha256: string, bytes: number | null) {
    const routed = await routeObject(routing, clock, nodeTimer, {
      providers: names,
      start: (provider) => http.start(provider, { key, bytesMax, contentType }),
      accept: async (body) => await checkDigest(body, sha256, bytes),
      bytes,
    });
    note(routed.objections);
    return routed;
  }

  return {
    objections,
    standings: () => routing.standings(clock()),
    async fetch(path) {
      const target = targetsOf()[path];
      if (target === undefined) return { sha256: null, attempts: 0, hedges: 0, beside: 0 };
      const { sha256 } = target.hashes;
      let [attempts, hedges, beside] = [0, 0, 0];
      const counted = async (...args: Parameters<typeof one>) => {
        const routed = await one(...args);
        attempts += routed.attempts.length;
        hedges += routed.attempts.filter((reason) => reason === "hedge").length;
        return routed;
      };
      const { policy: policyType, statement: statementType } = contentTypes;
      const bundle = await counted(policyKey(tenant, sha256), target.length, policyType, sha256, target.length);
      if (!bundle.ok) return { sha256: null, attempts, hedges, beside };
      const judge = async (): Promise<Refusal | null> => {
        const { statement_sha256: digest } = target.custom;
        beside += 1;
        const statement = await counted(statementKey(tenant, digest), statementBytesMax, statementType, digest, null);
        if (!statement.ok) return statement.objections[0]!.refusal;
        const policy = parseTargetPath(path)!.policy;
        return (
          (await checkStatement(policy, target, statement.bytes, [trust.publisher])) ??
          (await checkTar(target.custom, bundle.bytes, edgeTools))
        );
      };
      const known = judged.get(sha256) ?? judge();
      judged.set(sha256, known);
      const refused = await known;
      if (refused !== null) {
        judged.delete(sha256);
        tally.refused += 1;
      }
      return { sha256: refused === null ? sha256 : null, attempts, hedges, beside };
    },
    counts() {
      const { refreshes, behind } = counters.read();
      return { refreshes, behind, refused: tally.refused };
    },
    async close() {
      clearInterval(timer);
      await probing;
      http.close();
    },
  };
}

/** The targets of the metadata that is trusted now, read once for each version of it. */
function lastTargets(fetcher: EdgeFetcher): () => Readonly<Record<string, PolicyTarget>> {
  let text = "";
  let targets: Readonly<Record<string, PolicyTarget>> = {};
  return () => {
    const now = fetcher.state.trusted.targets;
    if (now !== null && now !== text) {
      text = now;
      ({ targets } = (JSON.parse(now) as { signed: { targets: Record<string, PolicyTarget> } }).signed);
    }
    return targets;
  };
}
