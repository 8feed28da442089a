// The committed policy inside workerd, as it is bundled for a deploy. The interop test of the policy asks it.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";
import { loopback } from "../../scripts/stack/ports.ts";
import { prepareWorkers } from "../../scripts/stack/prepare-workers.ts";
import { modulesOf, projectFolder } from "../../scripts/stack/workers.ts";

/** Inputs of one request. */
const askedMax = 1_000;

export interface PolicyWorker {
  /** OPA's result set for each input, in their order. */
  evaluate(inputs: readonly unknown[]): Promise<unknown[]>;
  stop(): Promise<void>;
}

export async function startPolicyWorker(): Promise<PolicyWorker> {
  const folder = mkdtempSync(join(tmpdir(), "policy-worker-"));
  const config = join(folder, "wrangler.toml");
  const entry = join(projectFolder, "test", "workerd", "policy-probe.ts");
  writeFileSync(config, `name = "policy-probe"\nmain = ${JSON.stringify(entry)}\ncompatibility_date = "2026-10-23"\n`);
  const [prepared] = await prepareWorkers([config], join(folder, "prepared.json"));
  const miniflare = new Miniflare(
    convertV4MiniflareOptions({
      host: loopback,
      cf: false,
      workers: [{ ...prepared!.options, modules: await modulesOf(prepared!) }],
    }),
  );
  return {
    async evaluate(inputs) {
      const answers: unknown[] = [];
      for (let at = 0; at < inputs.length; at += askedMax) {
        const body = JSON.stringify(inputs.slice(at, at + askedMax));
        const response = await miniflare.dispatchFetch("http://policy/", { method: "POST", body });
        if (response.status !== 200) throw new Error(`the policy's worker answered ${response.status}`);
        answers.push(...((await response.json()) as unknown[]));
      }
      return answers;
    },
    async stop() {
      await miniflare.dispose();
      rmSync(folder, { recursive: true });
    },
  };
}
