// `npm run demo [-- --json FILE]`: the main job on real input, on a stack of its own, with progress. The summary is
// {"ok":true,"steps":[{"name":"…","ok":true,"ms":12}]}; the exit code is 0 only when every step is true.

import { writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";
import { steps, type Kept } from "./demo/steps.ts";
import { World } from "./demo/world.ts";
import { describeFailure } from "./stack/failure.ts";
import { ephemeralFolder, startStack, type Stack } from "./stack/index.ts";

interface StepResult {
  readonly name: string;
  readonly ok: boolean;
  readonly ms: number;
}

const { values } = parseArgs({ options: { json: { type: "string" }, help: { type: "boolean", short: "h" } } });
if (values.help === true) {
  console.log(
    "npm run demo [-- --json FILE]\nRuns the main job end to end on a stack of its own; --json writes the summary to FILE.",
  );
  process.exit(0);
}

const results: StepResult[] = [];

async function step<T>(name: string, run: () => Promise<{ value: T; told: string }>): Promise<T | null> {
  const label = `${String(results.length + 1).padStart(2)}  ${name}`;
  if (process.stderr.isTTY) process.stderr.write(`${label} …`);
  const started = performance.now();
  const outcome = await run().catch((error: unknown) => ({ error }));
  const ms = Math.round(performance.now() - started);
  if (process.stderr.isTTY) process.stderr.write("\r\u001b[2K");
  const ok = !("error" in outcome);
  results.push({ name, ok, ms });
  process.stderr.write(`${label}: ${ok ? outcome.told : "FAILED"} (${ms} ms)\n`);
  if (ok) return outcome.value;
  process.stderr.write(`${describeFailure(outcome.error)}\n`);
  return null;
}

let stack: Stack | null = null;
let world: World | null = null;
let interrupted = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    interrupted = true;
  });
}

try {
  world = await step("start PostgreSQL, the proxy, the workers, and seed a tenant", async () => {
    stack = await startStack({ folder: ephemeralFolder(), ephemeral: true });
    return { value: new World(stack, await stack.seedTenant("demo")), told: stack.apiUrl };
  });
  if (world !== null) {
    const kept: Kept = {
      releaseId: "",
      executionId: "",
      outputSha256: "",
      keys: { origin_prefix: "", keys: [] },
      pack: "",
    };
    for (const { name, run } of steps) {
      if (interrupted) break;
      const told = await step(name, async () => ({ value: true, told: await run(world!, kept) }));
      // A step stands on those before it.
      if (told === null) break;
    }
  }
} finally {
  world?.close();
  await (stack as Stack | null)?.stop();
}

const planned = steps.length + 1;
const ok = results.length === planned && results.every((result) => result.ok);
if (values.json !== undefined) writeFileSync(resolve(values.json), `${JSON.stringify({ ok, steps: results })}\n`);
process.stderr.write(
  ok ? `all ${planned} steps hold\n` : `${results.filter((result) => result.ok).length} of ${planned} steps hold\n`,
);
process.exitCode = ok ? 0 : 1;
