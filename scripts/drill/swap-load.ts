// The drill's load as a process of its own, so that what the stack does costs the clients no time of theirs: runs the plan with one
// of the two clients, and sends back what became of each fetch. Started by cdn-swap.ts, which speaks to it by messages.

import { createHash } from "node:crypto";
import type { Provider } from "../../shared/edge/providers.ts";
import { openEdgeClient, type FetchingClient } from "./edge-client.ts";
import { openPlainClient } from "./plain-client.ts";
import { pathOf, policyNamed, type Trust } from "./policy-world.ts";
import type { FetchRecord } from "./swap-figures.ts";
import { fetchPlan, type SwapSetting } from "./swap-plan.ts";

export interface LoadOrder {
  readonly client: "edge" | "plain";
  readonly setting: SwapSetting;
  readonly trust: Trust;
  readonly providers: readonly Provider[];
  /** Where the client holds what it trusts. */
  readonly folder: string;
}
/** After `ready` it waits to be told when to begin, in ms since 1970. */
export type ToLoad = { readonly order: LoadOrder } | { readonly begin_at: number };
export type FromLoad =
  | { readonly state: "ready" }
  | {
      readonly state: "done";
      readonly records: readonly FetchRecord[];
      readonly counts: Readonly<Record<string, number>>;
      /** `provider code` of what was refused, and how often. */
      readonly objections: Readonly<Record<string, number>>;
      /** Processor time of this process, in s. */
      readonly cpu_s: number;
    };

const clock = (): number => performance.timeOrigin + performance.now();

const nextMessage = (): Promise<ToLoad> =>
  new Promise((resolve) => void process.once("message", (message) => resolve(message as ToLoad)));
const send = (message: FromLoad): Promise<void> =>
  new Promise((resolve, reject) => {
    process.send!(message, undefined, undefined, (error) => (error === null ? resolve() : reject(error)));
  });

async function run(client: FetchingClient, setting: SwapSetting, beginAt: number): Promise<FetchRecord[]> {
  const plan = fetchPlan(setting);
  const paths = Array.from({ length: setting.policies }, (_, number) => pathOf(policyNamed(number)));
  const records: FetchRecord[] = [];
  const under: Promise<void>[] = [];
  const fetchOne = async (policy: number, due: number): Promise<void> => {
    const started = clock();
    const had = await client.fetch(paths[policy]!);
    records.push({ policy, due, started, ended: clock(), ...had });
  };
  let next = 0;
  while (next < plan.length) {
    const waitMs = beginAt + plan[next]!.at_ms - clock();
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs));
    const now = clock();
    for (; next < plan.length && beginAt + plan[next]!.at_ms <= now; next += 1) {
      const { policy, at_ms: at } = plan[next]!;
      under.push(fetchOne(policy, beginAt + at));
    }
  }
  await Promise.all(under);
  return records;
}

async function main(): Promise<void> {
  const first = await nextMessage();
  if (!("order" in first)) throw new Error("an order comes first");
  const { client: kind, setting, trust, providers, folder } = first.order;
  const edge = kind === "edge" ? await openEdgeClient(trust, providers, folder, setting.probe_every_ms) : null;
  const client: FetchingClient = edge ?? openPlainClient(trust, providers);
  // The first hash of a process takes some ms.
  createHash("sha256").update("").digest();
  const beginning = nextMessage();
  await send({ state: "ready" });
  const second = await beginning;
  if (!("begin_at" in second)) throw new Error("a beginning comes second");
  const before = process.cpuUsage();
  const records = await run(client, setting, second.begin_at);
  const { user, system } = process.cpuUsage(before);
  await client.close();
  const objections = Object.fromEntries(edge?.objections ?? []);
  await send({ state: "done", records, counts: client.counts(), objections, cpu_s: (user + system) / 1e6 });
  process.disconnect();
}

await main();
