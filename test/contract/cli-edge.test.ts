// `maestro edge` against the real stack: what `maestro policy` publishes is what a machine gets, from provider A on workerd and
// from provider B on Deno, forwards, backwards and over a new root.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { maestro, testFolder, testHost, type TestHost } from "../../cli/testing/host.ts";
import { writeProviders } from "../../shared/edge/providers.ts";
import type { Role } from "../../shared/contract/names.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();

test("a published policy is activated from both providers and from either one, and so is the way back and a new root", async () => {
  const tenant = await stack.seedTenant("cli-edge");
  const home = testFolder();
  const as = (role: Role): TestHost =>
    testHost({ home, env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys[role] } });
  const ok = async (role: Role, ...argv: string[]): Promise<Record<string, unknown>> => {
    const { code, json, err } = await maestro(as(role), ...argv, "--json");
    expect({ code, err: code === 0 ? "" : err }).toEqual({ code: 0, err: "" });
    return json();
  };
  await ok("admin", "policy", "root", "init");
  const { spki } = await ok("publisher", "market", "keygen");
  writeFileSync(join(home, "authz.rego"), "package gateway.authz\n\nallow if input.user == data.gateway.user\n");
  const publish = async (user: string, revision: string): Promise<Record<string, unknown>> => {
    writeFileSync(join(home, "data.json"), JSON.stringify({ gateway: { user } }));
    return await ok("publisher", "policy", "publish", home, "--name", "gateway", "--revision", revision);
  };
  const first = await publish("alice", "r1");
  await ok("admin", "keys", "create", "--role", "fetcher", "--out", join(home, "fetcher.key"));

  const key = readFileSync(join(home, "fetcher.key"), "utf8").trim();
  const root = async (): Promise<string | null> => {
    const headers = { authorization: `Bearer ${key}` };
    const response = await fetch(`${stack.edge.b}/tuf/${tenant.slug}/1.root.json`, { headers });
    return response.ok ? await response.text() : null;
  };
  await expect.poll(root, { timeout: 8_000 }).not.toBeNull();
  writeFileSync(join(home, "1.root.json"), (await root())!);
  const providers = (["a", "b"] as const).map((name) => ({ name, baseUrl: stack.edge[name] }));
  writeFileSync(join(home, "both.json"), writeProviders(providers));
  for (const one of providers) writeFileSync(join(home, `${one.name}.json`), writeProviders([one]));
  const fetchFrom = async (file: string) => {
    const trust = ["--tenant", tenant.slug, "--root", "1.root.json", "--publisher", String(spki)];
    const where = ["--providers", `${file}.json`, "--key-file", "fetcher.key", "--state", join(home, file)];
    const fetched = await maestro(as("operator"), "edge", "fetch", "gateway", ...trust, ...where, "--json");
    return { exit: fetched.code, err: fetched.err, ...(fetched.json()["policies"] as [Record<string, unknown>])[0] };
  };

  for (const file of ["both", "a", "b"])
    await expect
      .poll(() => fetchFrom(file), { timeout: 8_000 })
      .toMatchObject({ exit: 0, err: "", revision: 1, version: "r1", sha256: first["bundle_sha256"] });
  await publish("bob", "r2");
  for (const file of ["both", "a", "b"])
    await expect.poll(() => fetchFrom(file), { timeout: 8_000 }).toMatchObject({ exit: 0, revision: 2, version: "r2" });
  await ok("operator", "policy", "rollback", "gateway");
  await ok("admin", "policy", "root", "rotate");
  for (const file of ["both", "a", "b"])
    await expect
      .poll(() => fetchFrom(file), { timeout: 8_000 })
      .toMatchObject({ exit: 0, revision: 3, version: "r1", sha256: first["bundle_sha256"] });
});
