// Which deltas are made and named, and that the metadata which names them stays within what fetchers read.

import { expect, test } from "vitest";
import type { PolicyRevision } from "../contract/http-policies.ts";
import type { Channel } from "../contract/names.ts";
import { utf8 } from "../contract/bytes.ts";
import { basesToMake, basesToName, deltasMax, deltasOfTenantMax, deltaTarBytesMax, isWorthIt } from "./delta.ts";
import { nameDeltas } from "./name-deltas.ts";
import { metadataBytesMax } from "./trusted-metadata.ts";
import { documentText, targetPath, targetsMax, targetsOf, targetsSigned, type TargetsSigned } from "./tuf.ts";

const digest = (text: string): string => text.padEnd(64, "0");
const revision = (channel: Channel, number: number, tar: string, tarBytes = 10_240): PolicyRevision => ({
  policy: "gateway",
  channel,
  revision: number,
  version: `v${tar}`,
  bundle_sha256: digest(`b${tar}`),
  bundle_bytes: 1_000,
  tar_sha256: digest(tar),
  tar_bytes: tarBytes,
  statement_sha256: digest("5"),
  published_at: "2026-04-13T16:00:00.000Z",
  outcome: "published",
});
const tarsOf = (revisions: readonly PolicyRevision[]): string[] => revisions.map(({ version }) => version.slice(1));

test("deltas are made from the channel's last two tars and the other one's, each once, and never from itself", () => {
  const revisions = [
    revision("canary", 3, "c"),
    revision("stable", 5, "a"),
    revision("stable", 4, "b"),
    revision("stable", 3, "a"),
    revision("stable", 2, "d"),
    revision("canary", 2, "e"),
  ];
  expect(tarsOf(basesToMake(revisions.toReversed(), "stable", digest("f")))).toEqual(["a", "b", "c"]);
  expect(tarsOf(basesToMake(revisions, "stable", digest("a")))).toEqual(["b", "d", "c"]);
  expect(tarsOf(basesToMake(revisions, "canary", digest("f")))).toEqual(["c", "e", "a"]);
  expect(tarsOf(basesToMake([revision("canary", 1, "a")], "stable", digest("a")))).toEqual([]);
  expect(basesToMake([], "stable", digest("f"))).toEqual([]);
});

test("a tar that is too large for a delta is none of its ends", () => {
  const revisions = [revision("stable", 2, "a", deltaTarBytesMax + 1), revision("stable", 1, "b", deltaTarBytesMax)];
  expect(tarsOf(basesToMake(revisions, "stable", digest("f")))).toEqual(["b"]);
  expect(tarsOf(basesToName(revisions, digest("f")))).toEqual(["b"]);
});

test("a delta of more than half of its bundle is worth nothing", () => {
  expect([isWorthIt(500, 1_000), isWorthIt(501, 1_000)]).toEqual([true, false]);
});

const path = targetPath("gateway", "stable");
const targetOf = (name: string, deltas: number): TargetsSigned["targets"][string] => ({
  length: 64 * 1024 * 1024,
  hashes: { sha256: digest("1") },
  custom: {
    tar_sha256: digest("f"),
    tar_length: 256 * 1024 * 1024,
    revision: 2 ** 40,
    version: name.padEnd(128, "v"),
    statement_sha256: digest("5"),
    published_at: "2026-04-13T16:00:00.000Z",
    ...(deltas === 0
      ? {}
      : {
          deltas: Array.from({ length: deltas }, (_, at) => ({
            from: digest(`${at}`),
            bytes: 32 * 1024 * 1024,
            sha256: digest("d"),
          })),
        }),
  },
});

const nameIn = async (
  targets: TargetsSigned["targets"],
  find: (key: string) => { sha256: string; bytes: number } | null,
): Promise<{ readonly targets: TargetsSigned["targets"]; readonly logged: string[] }> => {
  const logged: string[] = [];
  const before = ["a", "b", "c", "d"].map((tar, at) => revision("stable", 9 - at, tar));
  const vault = { find: (key: string) => Promise.resolve().then(() => find(key)) };
  const log = (_: string, message: string): void => void logged.push(message);
  return { targets: await nameDeltas({ vault, log }, "acme", revision("stable", 10, "f"), before, targets), logged };
};

test("a target names the deltas that are in the vault and worth it, and nothing where there are none", async () => {
  const targets = { [path]: targetOf("v", 0) };
  const key = (from: string): string => `deltas/acme/${digest(from)}..${digest("f")}.zst`;
  const found = { [key("a")]: 501, [key("b")]: 20, [key("d")]: 20 };
  const named = await nameIn(targets, (at) =>
    found[at] === undefined ? null : { sha256: digest("d"), bytes: found[at] },
  );
  expect(named.targets[path]!.custom.deltas).toEqual([{ from: digest("b"), bytes: 20, sha256: digest("d") }]);
  expect((await nameIn(targets, () => null)).targets).toEqual(targets);
});

test("a vault that does not answer holds no change up: it names no delta, and that is logged", async () => {
  const targets = { [path]: targetOf("v", 0) };
  const named = await nameIn(targets, () => {
    throw new Error("down");
  });
  expect(named.targets).toEqual(targets);
  expect(named.logged).toEqual(["deltas were not looked for: the change names none"]);
});

test("as many targets as a tenant may have, each as long as it may be, with all deltas that are named, fit what fetchers read", async () => {
  const targets: TargetsSigned["targets"] = {};
  let left = deltasOfTenantMax;
  for (let at = 0; at < targetsMax; at += 1) {
    const deltas = Math.min(deltasMax, left);
    left -= deltas;
    targets[targetPath(`${at}`.padEnd(64, "p"), "stable")] = targetOf("v", deltas);
  }
  const signed = targetsOf(2 ** 40, targets, 0);
  expect(targetsSigned.safeParse(signed).success).toBe(true);
  const text = documentText({ signed, signatures: [{ keyid: digest("1"), sig: digest("1").padEnd(128, "0") }] });
  expect(utf8(text).length).toBeLessThan(metadataBytesMax.targets);
  const full = { ...targets, [path]: targetOf("v", 0) };
  expect((await nameIn(full, () => ({ sha256: digest("d"), bytes: 2 }))).targets).toEqual(full);
});
