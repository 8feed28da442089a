// `maestro svid authority`, `mint` and `bundle` as a person has them: what they write, how often they may be repeated, and that
// `svid verify` takes what they issue.

import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { isNearItsEnd } from "../shared/identity/near-its-end.ts";
import { readCertificate, readToken } from "./svid/svid-folder.ts";
import { maestro, testHost, type TestHost } from "./testing/host.ts";

const id = "spiffe://mc.local/tenant/demo/publisher/ci";
const modeOf = (host: TestHost, ...path: string[]): number => statSync(join(host.home, ...path)).mode & 0o777;
const readIn = (host: TestHost, ...path: string[]): string => readFileSync(join(host.home, ...path), "utf8");

async function withAuthority(host = testHost()): Promise<TestHost> {
  const { code, err } = await maestro(host, "svid", "authority", "init", "authority", "--trust-domain", "mc.local");
  expect([code, err]).toEqual([0, ""]);
  return host;
}
const mint = (host: TestHost, ...more: string[]) =>
  maestro(host, "svid", "mint", "--authority", "authority", "--id", id, "--out", "svid", ...more);
const verify = (host: TestHost, file: string, bundle: string, ...more: string[]) =>
  maestro(host, "svid", "verify", file, "--bundle", bundle, "--trust-domain", "mc.local", ...more);
const rotate = (host: TestHost, move: string, ...more: string[]) =>
  maestro(host, "svid", "authority", move, "authority", "--json", ...more);

test("an authority is made once, private to its user, says what it is for, and shows no private key", async () => {
  const host = await withAuthority();
  expect([modeOf(host, "authority"), modeOf(host, "authority", "authority.json")]).toEqual([0o700, 0o600]);
  const before = readIn(host, "authority", "authority.json");
  const again = await maestro(host, "svid", "authority", "init", "authority", "--trust-domain", "mc.local");
  expect([again.code, again.out]).toEqual([0, expect.stringContaining("development and drills")]);
  expect(readIn(host, "authority", "authority.json")).toBe(before);
  const secrets = [...before.matchAll(/"private_key": "([^"]+)"/g)].map((match) => match[1] ?? "");
  const shown = (await maestro(host, "svid", "authority", "show", "authority", "--json")).out + host.out() + host.err();
  expect(secrets.length).toBe(2);
  expect(secrets.filter((secret) => shown.includes(secret))).toEqual([]);
  const other = await maestro(host, "svid", "authority", "init", "authority", "--trust-domain", "other.example");
  expect([other.code, other.err]).toEqual([5, expect.stringContaining("mc.local")]);
});

test("what is minted is taken by `svid verify`, with the folder's bundle and with the one that is printed", async () => {
  const host = await withAuthority();
  const minted = await mint(host, "--jwt", "maestro-api", "--jwt", "maestro-edge", "--ttl", "15m", "--json");
  expect([minted.code, minted.json()]).toMatchObject([
    0,
    { purpose: "development", spiffe_id: id, audiences: ["maestro-api", "maestro-edge"] },
  ]);
  expect(readdirSync(join(host.home, "svid")).toSorted()).toEqual([
    "bundle.json",
    "jwt-maestro-api.txt",
    "jwt-maestro-edge.txt",
    "svid.key",
    "svid.pem",
  ]);
  expect([modeOf(host, "svid"), modeOf(host, "svid", "svid.key")]).toEqual([0o700, 0o600]);
  expect(readIn(host, "svid", "svid.key")).toContain("BEGIN PRIVATE KEY");
  const printed = await maestro(host, "svid", "bundle", "--authority", "authority");
  expect(printed.out).toBe(readIn(host, "svid", "bundle.json"));
  expect((await verify(host, "svid/svid.pem", "svid/bundle.json")).code).toBe(0);
  const token = ["svid/jwt-maestro-edge.txt", "svid/bundle.json", "--audience"] as const;
  expect((await verify(host, ...token, "maestro-edge")).code).toBe(0);
  expect((await verify(host, ...token, "maestro-api")).code).toBe(7);
  const held = await readCertificate(join(host.home, "svid"));
  const soon = held.expiresAtMs - 300_000;
  const isNear = (now: number): boolean => isNearItsEnd(held.issuedAtMs, held.expiresAtMs, now);
  expect([held.id.uri, isNear(Date.now()), isNear(soon)]).toEqual([id, false, true]);
  expect((await readToken(join(host.home, "svid"), "maestro-api")).id.uri).toBe(id);
});

test("a rotation leaves both ages valid until the old key is revoked, and nothing of it after that", async () => {
  const host = await withAuthority();
  await mint(host, "--jwt", "maestro-api");
  const oldFiles = ["svid.pem", "jwt-maestro-api.txt"] as const;
  for (const name of oldFiles) writeFileSync(join(host.home, `old-${name}`), readIn(host, "svid", name));
  const holds = async (): Promise<number[]> => {
    writeFileSync(
      join(host.home, "bundle.json"),
      (await maestro(host, "svid", "bundle", "--authority", "authority")).out,
    );
    const codes: number[] = [];
    for (const file of ["old-svid.pem", "old-jwt-maestro-api.txt", "svid/svid.pem", "svid/jwt-maestro-api.txt"]) {
      codes.push((await verify(host, file, "bundle.json", "--audience", "maestro-api")).code);
    }
    return codes;
  };
  expect((await rotate(host, "revoke")).json()).toMatchObject({ changed: false, sequence: 1 });
  expect((await rotate(host, "activate")).code).toBe(5);
  for (const [move, sequence] of [
    ["prepare", 2],
    ["activate", 2],
  ] as const) {
    expect((await rotate(host, move)).json()).toMatchObject({ changed: true, sequence });
    expect((await rotate(host, move)).json()).toMatchObject({ changed: false, sequence });
  }
  await mint(host, "--jwt", "maestro-api");
  expect(await holds()).toEqual([0, 0, 0, 0]);
  await rotate(host, "taint");
  expect(await holds()).toEqual([0, 0, 0, 0]);
  expect((await rotate(host, "revoke")).json()).toMatchObject({ changed: true, sequence: 3 });
  expect(await holds()).toEqual([7, 7, 0, 0]);
});

test("--renew mints again when two thirds are gone, at once where the key is tainted, keeps the bundle, ends on Ctrl-C", async () => {
  const base = await withAuthority();
  let now = Date.now();
  let looked = 0;
  const steps: Record<number, () => Promise<unknown>> = {
    3: () => rotate(base, "prepare"),
    5: () => rotate(base, "activate"),
    7: () => rotate(base, "taint"),
  };
  const host: TestHost = {
    ...testHost({ home: base.home }),
    now: () => now,
    async sleep(_ms, signal) {
      looked += 1;
      now += 60_000;
      await steps[looked]?.();
      if (looked === 60) throw new Error("it did not renew in time");
      if (looked > 8 && host.err().includes("two thirds")) host.interrupt();
      signal?.throwIfAborted();
    },
  };
  const { code, err } = await mint(host, "--renew", "--ttl", "30m");
  expect(code).toBe(130);
  const lines = err.trim().split("\n");
  expect(lines.slice(0, 3)).toEqual([
    expect.stringContaining("bundle 2 is in the folder"),
    expect.stringContaining("is tainted"),
    expect.stringContaining("two thirds of its life are gone"),
  ]);
  expect((await readCertificate(join(base.home, "svid"))).expiresAtMs).toBeGreaterThan(now);
});

test.each([
  ["an ID of another domain", ["--id", "spiffe://other.example/a"], "is not of it"],
  ["a trust domain alone", ["--id", "spiffe://mc.local"], "has a path"],
  ["an ID that is none", ["--id", "spiffe://mc.local/a/../b"], "dot segments"],
  ["a life below ten seconds", ["--ttl", "9s"], "10s to 24h"],
  ["a life above a day", ["--ttl", "25h"], "10s to 24h"],
  ["an audience that is no file's name", ["--jwt", "../../etc"], "audience"],
  ["an authority that is not there", ["--authority", "nowhere"], "no authority"],
] as const)("%s is refused, and nothing is written", async (_, more, words) => {
  const host = await withAuthority();
  const { code, err } = await mint(host, ...more);
  expect([[2, 4].includes(code), err]).toEqual([true, expect.stringContaining(words)]);
  expect(readdirSync(host.home)).toEqual(["authority"]);
});

test("an authority whose file was changed is refused before it signs anything", async () => {
  const host = await withAuthority();
  const path = join(host.home, "authority", "authority.json");
  const good = readFileSync(path, "utf8");
  const [first = "", second = ""] = [...good.matchAll(/"spki": "([^"]+)"/g)].map((match) => match[1] ?? "");
  for (const broken of ["{", good.replace('"active"', '"old"'), good.replace(first, second)]) {
    writeFileSync(path, broken);
    expect((await mint(host)).code).toBe(1);
  }
});

test("a certificate beside another's key is refused, and so is a folder without one", async () => {
  const host = await withAuthority();
  await mint(host);
  const key = readIn(host, "svid", "svid.key");
  await mint(host);
  writeFileSync(join(host.home, "svid", "svid.key"), key);
  await expect(readCertificate(join(host.home, "svid"))).rejects.toThrow("not the key of");
  await expect(readCertificate(join(host.home, "nowhere"))).rejects.toThrow("no svid.pem");
  await expect(readToken(join(host.home, "svid"), "maestro-api")).rejects.toThrow("no jwt-maestro-api.txt");
});
