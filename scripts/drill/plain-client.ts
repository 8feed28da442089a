// What a fetcher without this project's routing does: it asks the first provider for the channel's bundle, after a second or an
// error the next one, and believes what it gets. The drill's other client, run by swap-load.ts.

import http from "node:http";
import type { Provider } from "../../shared/edge/providers.ts";
import { createHash } from "node:crypto";
import type { FetchingClient } from "./edge-client.ts";
import type { Trust } from "./policy-world.ts";

/** Until an answer is whole. */
export const plainTimeoutMs = 1_000;

export function openPlainClient({ tenant, key }: Trust, providers: readonly Provider[]): FetchingClient {
  const agent = new http.Agent({ keepAlive: true });
  const tally = { timeouts: 0, errors: 0 };

  const ask = (url: string): Promise<string | null> =>
    new Promise((resolve) => {
      const sent = http.get(url, { agent, headers: { authorization: `Bearer ${key}` } });
      const timer = setTimeout(() => {
        tally.timeouts += 1;
        end(null);
      }, plainTimeoutMs);
      let isOver = false;
      const end = (sha256: string | null): void => {
        isOver = true;
        clearTimeout(timer);
        if (sha256 === null) sent.destroy();
        resolve(sha256);
      };
      const fail = (): void => {
        if (isOver) return;
        tally.errors += 1;
        end(null);
      };
      sent.on("error", fail);
      sent.on("response", (response) => {
        if (response.statusCode !== 200) return fail();
        const hash = createHash("sha256");
        response.on("data", (piece: Buffer) => hash.update(piece));
        response.on("error", fail);
        response.on("end", () => end(response.complete ? hash.digest("hex") : null));
      });
    });

  return {
    async fetch(path) {
      let attempts = 0;
      for (const { baseUrl } of providers) {
        attempts += 1;
        const sha256 = await ask(`${baseUrl}/opa/${tenant}/${path}`);
        if (sha256 !== null) return { sha256, attempts, hedges: 0 };
      }
      return { sha256: null, attempts, hedges: 0 };
    },
    counts: () => ({ ...tally }),
    async close() {
      agent.destroy();
    },
  };
}
