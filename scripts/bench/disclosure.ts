// A run's disclosure, as an impatient auditor gets it: the link is asked for in the moment in which the finish is
// answered, and again after as long as a 202 says. Called by the benchmarks of the chain and of the audit log.

import { setTimeout as sleep } from "node:timers/promises";
import { createHash, randomUUID } from "node:crypto";
import { join } from "node:path";
import { World } from "../demo/world.ts";
import type { SeededTenant } from "../stack/seed.ts";
import type { Stack } from "../stack/index.ts";
import { projectFolder } from "../stack/workers.ts";
import type { Bench, Figures } from "./benchmark.ts";
import { percentile, rounded } from "./statistics.ts";

/** Runs before those: the policy, the package's rows and the log's object are loaded by then. */
const warmUpRuns = 3;
const askingMsMax = 20_000;
const packageName = "tools/sbom-inventory";
const budgetUnits = 1_000_000;

export async function measureDisclosure({ stack, signal, progress }: Bench, runCount: number): Promise<Figures> {
  progress("disclosure: publishing a package");
  const tenant = await stack.seedTenant("disclosure");
  await installPackage(stack, tenant, signal);
  const runs: Run[] = [];
  for (let at = -warmUpRuns; at < runCount; at += 1) {
    signal.throwIfAborted();
    progress(`disclosure: run ${Math.max(at + 1, 0)} of ${runCount}`);
    const run = await oneRun(stack, tenant, signal);
    if (at >= 0) runs.push(run);
  }
  const figures = (name: string, pick: (run: Run) => number): Record<string, number> => ({
    [`${name}_p50_ms`]: rounded(percentile(runs.map(pick), 0.5)),
    [`${name}_p95_ms`]: rounded(percentile(runs.map(pick), 0.95)),
    [`${name}_max_ms`]: rounded(percentile(runs.map(pick), 1)),
  });
  return {
    runs: runs.length,
    ...figures("disclosure", ({ linkMs }) => linkMs),
    ...figures("disclosure_download", ({ packMs }) => packMs),
    ...figures("finish", ({ finishMs }) => finishMs),
    asked_again: runs.reduce((sum, { asked }) => sum + asked - 1, 0),
  };
}

/** By the CLI, as anyone would. */
async function installPackage(stack: Stack, tenant: SeededTenant, signal: AbortSignal): Promise<void> {
  const world = new World(stack, tenant);
  try {
    const packed = world.path("package.tar.gz");
    const steps = [
      ["publisher", "market", "keygen"],
      ["publisher", "market", "pack", join(projectFolder, "test/fixtures/sbom-inventory"), "--out", packed],
      ["publisher", "market", "publish", packed],
      ["reviewer", "market", "review", "approve", `${packageName}@1.0.0`],
      ["admin", "market", "entitle", packageName, "--reason", "a benchmark"],
      ["operator", "market", "install", packageName, "--channel", "stable"],
      ["admin", "budget", "set", "--limit", String(budgetUnits), "--leak-per-hour", "0"],
    ] as const;
    for (const [role, ...args] of steps) {
      signal.throwIfAborted();
      await world.run(role, ...args);
    }
  } finally {
    world.close();
  }
}

interface Run {
  /** How long the finish took to be answered. */
  readonly finishMs: number;
  /** From that answer to the link's, and to the last byte of the pack behind it. */
  readonly linkMs: number;
  readonly packMs: number;
  readonly asked: number;
}

async function oneRun(stack: Stack, { keys }: SeededTenant, signal: AbortSignal): Promise<Run> {
  const post = async (path: string, status: number, body: unknown): Promise<Record<string, unknown>> => {
    const response = await fetch(stack.apiUrl + path, {
      method: "POST",
      headers: {
        authorization: `Bearer ${keys.operator}`,
        "content-type": "application/json",
        "idempotency-key": randomUUID(),
      },
      body: JSON.stringify(body),
      signal,
    });
    return await answered(response, status);
  };
  const { id } = await post("/api/executions", 201, { package: packageName });
  const askedToFinishAt = performance.now();
  await post(`/api/executions/${String(id)}/finish`, 200, { outcome: "succeeded", exit_code: 0 });
  const finishedAt = performance.now();
  const { link, asked } = await askForLink(stack, keys.auditor, String(id), signal);
  const linkMs = performance.now() - finishedAt;
  const pack = new Uint8Array(await (await fetch(String(link["url"]), { signal })).arrayBuffer());
  const packMs = performance.now() - finishedAt;
  if (createHash("sha256").update(pack).digest("hex") !== link["sha256"])
    throw new Error("the link does not open the pack that it names");
  return { finishMs: finishedAt - askedToFinishAt, linkMs, packMs, asked };
}

async function askForLink(
  stack: Stack,
  key: string,
  id: string,
  signal: AbortSignal,
): Promise<{ link: Record<string, unknown>; asked: number }> {
  const end = performance.now() + askingMsMax;
  for (let asked = 1; performance.now() < end; asked += 1) {
    const response = await fetch(`${stack.apiUrl}/api/executions/${id}/disclosure:link`, {
      headers: { authorization: `Bearer ${key}` },
      signal,
    });
    if (response.status !== 202) return { link: await answered(response, 200), asked };
    await response.arrayBuffer();
    await sleep(Number(response.headers.get("retry-after")) * 1_000, undefined, { signal });
  }
  throw new Error(`no link within ${askingMsMax} ms`);
}

async function answered(response: Response, status: number): Promise<Record<string, unknown>> {
  const text = await response.text();
  if (response.status !== status) throw new Error(`${response.url} answered ${response.status}: ${text}`);
  return JSON.parse(text) as Record<string, unknown>;
}
