// Where the keys of a root of trust may lie.

import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { onlineKeys, onlineSigners } from "../../test/support/tuf.ts";
import { maestro, testHost } from "../testing/host.ts";
import { apiKey } from "../testing/market.ts";
import { json, testServer } from "../testing/server.ts";

test.each(["../../../elsewhere", "..", "/etc", "", "A"])(
  "an API that calls its tenant %j has no key made, here or anywhere",
  async (tenant) => {
    const server = await testServer();
    const keys = onlineKeys(await onlineSigners("tenant"));
    server.on("GET /api/policies/keys", json({ tenant, keys, root: null, publishers: [] }));
    const host = testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
    const { code, err } = await maestro(host, "policy", "root", "init");
    expect([code, err]).toEqual([1, expect.stringContaining("(tenant)")]);
    expect(server.seen.map(({ method }) => method)).toEqual(["GET"]);
    expect(existsSync(join(host.home, "elsewhere"))).toBe(false);
    expect(readdirSync(host.home)).toEqual([]);
  },
);
