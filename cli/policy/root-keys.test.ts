// Where the keys of a root of trust may lie.

import { appendFileSync, existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { RootDocument } from "../../shared/edge/tuf.ts";
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

test("root keys sign for the API alone that they were made for, whatever another one calls its tenant", async () => {
  const roots: RootDocument[] = [];
  const apiOf = async (signer: string, root: RootDocument | null) => {
    const server = await testServer();
    const keys = onlineKeys(await onlineSigners("tenant", signer));
    server.on("GET /api/policies/keys", json({ tenant: "acme", keys, root, publishers: [] }));
    server.on("PUT /api/policies/root", (request, response) => {
      roots.push(JSON.parse(request.body.toString()) as RootDocument);
      const { version, expires } = roots.at(-1)!.signed;
      return json({ version, expires, providers: [] })(request, response);
    });
    return server;
  };
  const host = testHost({ env: { MAESTRO_API_KEY: apiKey } });
  const root = (verb: string, server: { readonly url: string }) => {
    host.env["MAESTRO_API_URL"] = server.url;
    return maestro(host, "policy", "root", verb);
  };
  expect((await root("init", await apiOf("ours", null))).code).toBe(0);
  const [first] = roots;
  const theirs = await apiOf("theirs", first!);
  for (const [verb, server] of [
    ["rotate", theirs],
    ["init", await apiOf("theirs", null)],
  ] as const) {
    const { code, err } = await root(verb, server);
    expect([verb, code, err]).toEqual([verb, 3, expect.stringContaining("made for another API")]);
  }
  expect(roots).toEqual([first]);
  // The same API under another name, as the keys' keeper says.
  appendFileSync(join(host.home, ".config", "maestro", "policy-root", "acme.apis"), `${theirs.url}\n`);
  expect((await root("rotate", theirs)).code).toBe(0);
  expect(roots.at(-1)!.signed.version).toBe(2);
});
