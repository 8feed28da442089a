// A stock OPA server behind `maestro edge serve`: it long-polls the local fetcher, follows a new revision within two seconds, and
// notices neither that a provider dies nor that the other one has to do.

import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { maestro, testHost } from "../../cli/testing/host.ts";
import { freePort } from "../../scripts/stack/ports.ts";
import { writeProviders } from "../../shared/edge/providers.ts";
import { edgeWorld, fetcherSecret, startProvider, tenant } from "../support/edge-world.ts";
import { tool } from "../support/tools.ts";

const opa = tool("opa");
const followMsMax = 2_000;

test.skipIf(opa === null)(
  "a stock OPA follows a policy through two providers, of which one dies, by the local fetcher",
  { timeout: 60_000 },
  async () => {
    const world = await edgeWorld();
    await world.publish({ allowed: "alice" });
    const [a, b] = [await startProvider("a", world.copy()), await startProvider("b", world.copy())];
    const host = {
      ...testHost({ env: { MAESTRO_FETCHER_KEY: fetcherSecret } }),
      sleep: (ms: number, signal?: AbortSignal) => sleep(ms, undefined, signal ? { signal } : {}),
    };
    writeFileSync(join(host.home, "1.root.json"), world.pin);
    const providers = [a, b].map(({ name, baseUrl }) => ({ name, baseUrl }));
    writeFileSync(join(host.home, "edge.json"), writeProviders(providers));
    const port = await freePort();
    const trust = ["--tenant", tenant, "--root", "1.root.json", "--publisher", world.publisherKey];
    const where = ["--providers", "edge.json", "--listen", `127.0.0.1:${port}`];
    const serving = maestro(host, "edge", "serve", "gateway", ...trust, ...where);

    const config = join(host.home, "opa.json");
    const polling = { long_polling_timeout_seconds: 10 };
    const gateway = { service: "edge", resource: "bundles/gateway/stable", polling };
    const services = { edge: { url: `http://127.0.0.1:${port}` } };
    writeFileSync(config, JSON.stringify({ services, bundles: { gateway } }));
    const address = `127.0.0.1:${await freePort()}`;
    const line = ["run", "--server", "--addr", address, "--config-file", config, "--disable-telemetry"];
    const server = spawn(opa ?? "opa", line, { stdio: "ignore" });
    const ended = new Promise((resolve) => server.once("exit", resolve));
    const allows = async (user: string): Promise<unknown> => {
      const init = { method: "POST", body: JSON.stringify({ input: { user } }) };
      const response = await fetch(`http://${address}/v1/data/app/authz/allow`, init).catch(() => null);
      return response === null ? null : ((await response.json()) as { result?: unknown }).result;
    };
    const until = async (user: string, msMax: number): Promise<number> => {
      const startedAt = performance.now();
      while ((await allows(user)) !== true) {
        if (performance.now() - startedAt > msMax) throw new Error(`${user} was not allowed within ${msMax} ms`);
        await sleep(20);
      }
      return performance.now() - startedAt;
    };
    try {
      await until("alice", 20_000);
      await world.publish({ allowed: "bob" });
      a.objects = world.copy();
      b.objects = world.copy();
      expect(await until("bob", followMsMax)).toBeLessThan(followMsMax);
      await a.stop();
      expect(await allows("bob")).toBe(true);
      await world.publish({ allowed: "carol" });
      b.objects = world.copy();
      expect(await until("carol", followMsMax)).toBeLessThan(followMsMax);
      await b.stop();
      await sleep(1_000);
      expect(await allows("carol")).toBe(true);
    } finally {
      server.kill("SIGTERM");
      await ended;
      host.interrupt();
      await serving;
    }
  },
);
