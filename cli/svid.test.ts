// `maestro svid verify`, as a person has it: what it shows, what it refuses and why, how it ends.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import {
  authorityEntry,
  bundleDocument,
  jwtEntry,
  jwtOf,
  madeAtMs,
  newAuthority,
  newKeys,
  newLeaf,
  pemOf,
} from "../test/support/svid.ts";
import { maestro, testHost, type TestHost } from "./testing/host.ts";

const files: Record<string, string> = {};
beforeAll(async () => {
  const [root, keys] = [await newAuthority("td.example"), await newKeys("P-256")];
  const between = await newAuthority("td.example", {}, root);
  const seconds = madeAtMs / 1_000;
  files["bundle.json"] = bundleDocument([authorityEntry(root), jwtEntry(keys, "k1")]);
  files["empty.json"] = bundleDocument([]);
  files["broken.json"] = `{"keys":[],"keys":[]}`;
  files["svid.pem"] = `the leaf:\n${pemOf(await newLeaf(between, "spiffe://td.example/api"), between.der)}`;
  files["stranger.pem"] = pemOf(await newLeaf(await newAuthority("td.example"), "spiffe://td.example/api"));
  files["key.pem"] = `-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n`;
  files["token.jwt"] = `${await jwtOf(
    keys,
    { alg: "ES256", kid: "k1" },
    { sub: "spiffe://td.example/api", aud: ["maestro"], exp: seconds + 300 },
  )}\n`;
});

function hostWithFiles(): TestHost {
  const host = testHost();
  for (const [name, text] of Object.entries(files)) writeFileSync(join(host.home, name), text);
  return host;
}
const at = new Date(madeAtMs + 1_000).toISOString();
const verify = (host: TestHost, file: string, bundle = "bundle.json", ...more: string[]) =>
  maestro(host, "svid", "verify", file, "--bundle", bundle, "--trust-domain", "td.example", ...more);

test("one that holds is shown with its ID and its end", async () => {
  const host = hostWithFiles();
  const { code, out } = await verify(host, "svid.pem", "bundle.json", "--at", at);
  expect([code, out]).toEqual([0, expect.stringContaining("HOLDS")]);
  expect(out).toContain("spiffe://td.example/api");
  expect((await verify(host, "svid.pem", "bundle.json", "--at", at, "--json")).json()).toEqual({
    holds: true,
    at,
    kind: "x509-svid",
    spiffe_id: "spiffe://td.example/api",
    expires_at: new Date(madeAtMs + 3_600_000).toISOString(),
  });
});

test("a JWT-SVID is verified for an audience, and for no other", async () => {
  const host = hostWithFiles();
  const good = await verify(host, "token.jwt", "bundle.json", "--at", at, "--audience", "maestro", "--json");
  expect([good.code, good.json()]).toMatchObject([0, { holds: true, kind: "jwt-svid", audience: ["maestro"] }]);
  const other = await verify(host, "token.jwt", "bundle.json", "--at", at, "--audience", "other");
  expect([other.code, other.out]).toEqual([7, expect.stringContaining("(JWT-SVID 3.2)")]);
  const nobody = await verify(host, "token.jwt");
  expect([nobody.code, nobody.err]).toEqual([2, expect.stringContaining("--audience")]);
});

test.each([
  ["one that has expired", "svid.pem", "bundle.json", [], "RFC 5280 4.1.2.5"],
  ["one of a stranger", "stranger.pem", "bundle.json", ["--at", at], "RFC 5280 6.1.3"],
  ["one whose authorities are all revoked", "svid.pem", "empty.json", ["--at", at], "X509-SVID 5.1"],
  [
    "one under a bundle with a member twice",
    "svid.pem",
    "broken.json",
    ["--at", at],
    "SPIFFE Trust Domain and Bundle 4.1",
  ],
  ["a private key", "key.pem", "bundle.json", ["--at", at], "RFC 7468 2"],
] as const)("%s is refused with its section, exit code 7", async (_, file, bundle, more, section) => {
  const { code, json } = await verify(hostWithFiles(), file, bundle, ...more, "--json");
  expect([code, json()]).toMatchObject([7, { holds: false, section }]);
});

test("what cannot be read is told before anything is verified", async () => {
  const host = hostWithFiles();
  expect((await verify(host, "none.pem")).code).toBe(4);
  expect((await verify(host, ".")).code).toBe(2);
  const below = await verify(host, "svid.pem/leaf.pem");
  expect([below.code, below.err]).toEqual([2, expect.stringContaining("cannot be read (ENOTDIR)")]);
  expect((await verify(host, "svid.pem", "bundle.json", "--at", "yesterday")).code).toBe(2);
  const domain = await maestro(host, "svid", "verify", "svid.pem", "--bundle", "bundle.json", "--trust-domain", "TD");
  expect([domain.code, domain.err]).toEqual([2, expect.stringContaining("a-z")]);
});
