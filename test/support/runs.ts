// Runs over HTTP and the quick links to their packs, for tests of disclosure on a real stack.

import { setTimeout as pause } from "node:timers/promises";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { DisclosureLink } from "../../shared/contract/http-executions.ts";
import type { CheckedAnswer, Contract } from "./openapi.ts";
import { jsonCall, must } from "./publisher.ts";

const linkMsMax = 60_000;

/** Starts a run of an installed package, and finishes it. */
export async function finishedRun(api: Contract, { keys }: SeededTenant, name: string): Promise<string> {
  const started = must(201, await api.fetch("/api/executions", jsonCall(keys.operator, "POST", { package: name })));
  const { id } = started.json as { id: string };
  const end = { outcome: "succeeded", exit_code: 0 };
  must(200, await api.fetch(`/api/executions/${id}/finish`, jsonCall(keys.operator, "POST", end)));
  return id;
}

export const askForLink = (api: Contract, key: string, id: string, query = ""): Promise<CheckedAnswer> =>
  api.fetch(`/api/executions/${id}/disclosure:link${query}`, jsonCall(key, "GET"));

/** The link, after as long as each 202 says. Throws where there is none within the plan's 60 s. */
export async function linkOf(api: Contract, key: string, id: string, query = ""): Promise<DisclosureLink> {
  const end = Date.now() + linkMsMax;
  for (;;) {
    const answer = await askForLink(api, key, id, query);
    if (answer.status !== 202) return must(200, answer).json as DisclosureLink;
    const waitMs = Number(answer.headers.get("retry-after")) * 1_000;
    if (!(waitMs > 0) || Date.now() + waitMs > end) throw new Error(`no link within ${linkMsMax} ms`);
    await pause(waitMs);
  }
}
