// TUF metadata as we write it, read by a stock tuf-js: what it accepts, and that it refuses what has one bit changed. Each attack that
// TUF is there against is test/interop/tuf-attacks.test.ts's.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  onlineKeys,
  onlineSigners,
  rootDocumentOf,
  rootSigners,
  signedText,
  tufClient,
  writeOnline,
  type TufFiles,
} from "../../test/support/tuf.ts";
import { utf8 } from "../contract/bytes.ts";
import { checkRoot } from "./root.ts";
import { nextRoot, pinnedRoot } from "./trusted-metadata.ts";
import {
  documentText,
  expiryOf,
  isDueAgain,
  lifeMs,
  onlineSigned,
  parseTargetPath,
  rootDocument,
  targetPath,
  targetsOf,
  type OnlineRole,
  type PolicyTarget,
  rootSigned,
} from "./tuf.ts";
import { countSignatures, tenantSigner, tufSecret } from "./tuf-keys.ts";
import { isDeep } from "../../test/support/sampled.ts";

const tenant = "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001";
const path = "gateway/stable/bundle.tar.gz";
const target = (letter: string, revision: number): PolicyTarget => ({
  length: 1_000 + revision,
  hashes: { sha256: letter.repeat(64) },
  custom: {
    tar_sha256: "d".repeat(64),
    tar_length: 2_048,
    revision,
    version: "2026-04-13.1",
    statement_sha256: "e".repeat(64),
    published_at: "2026-04-13T16:00:00.000Z",
  },
});
const at = (n: number): Record<OnlineRole, number> => ({ targets: n, snapshot: n, timestamp: n });

async function world(now = Date.now()) {
  const signers = await onlineSigners(tenant);
  const keys = await rootSigners("one", "two");
  const root = await rootDocumentOf(onlineKeys(signers), { keys, now });
  const files: TufFiles = new Map([["1.root.json", documentText(root)]]);
  const publish = (letter: string, n: number, when = now): Promise<void> =>
    writeOnline(files, signers, { [path]: target(letter, n) }, at(n), when);
  await publish("a", 1);
  return {
    signers,
    keys,
    root,
    files,
    publish,
    now,
    client: tufClient(documentText(root), (name) => files.get(name) ?? null),
  };
}

describe("a stock tuf-js", () => {
  test("accepts what we write, and follows it from version to version, also back to older bytes", async () => {
    const { client, publish } = await world();
    expect(await client.target(path)).toMatchObject({
      length: 1_001,
      hashes: { sha256: "a".repeat(64) },
      custom: { revision: 1, version: "2026-04-13.1" },
    });
    await publish("b", 2);
    expect(await client.target(path)).toMatchObject({ hashes: { sha256: "b".repeat(64) }, custom: { revision: 2 } });
    await publish("a", 3);
    expect(await client.target(path)).toMatchObject({ hashes: { sha256: "a".repeat(64) }, custom: { revision: 3 } });
    expect(await client.target("gateway/canary/bundle.tar.gz")).toBeNull();
  });

  test("follows a rotation of the root that old and new keys have signed", async () => {
    const { client, files, keys, signers, now } = await world();
    await client.target(path);
    const next = await rootSigners("three");
    const second = await rootDocumentOf(onlineKeys(signers), { version: 2, keys: next, by: [...next, keys[0]!], now });
    files.set("2.root.json", documentText(second));
    const third = await rootDocumentOf(onlineKeys(signers), { version: 3, keys: next, now });
    files.set("3.root.json", documentText(third));
    expect(await client.target(path)).not.toBeNull();
  });

  test("follows new online keys, once a root has named them", async () => {
    const { client, files, keys, now } = await world();
    await client.target(path);
    const others = await onlineSigners(tenant, "other secret");
    await writeOnline(files, others, { [path]: target("b", 2) }, at(2), now);
    await expect(client.target(path)).rejects.toThrow(/signed/);
    files.set("2.root.json", documentText(await rootDocumentOf(onlineKeys(others), { version: 2, keys, now })));
    expect(await client.target(path)).toMatchObject({ hashes: { sha256: "b".repeat(64) } });
  });

  test("refuses another tenant's metadata under the same signer", async () => {
    const { client, files, now } = await world();
    const other = await onlineSigners("7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002");
    await writeOnline(files, other, { [path]: target("f", 9) }, at(9), now);
    await expect(client.target(path)).rejects.toThrow(/signed/);
  });

  test("refuses any document of which one bit was changed, or reads the same from it", async () => {
    const { files, root } = await world();
    const names = ["1.targets.json", "1.snapshot.json", "timestamp.json"];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...names), fc.nat(), async (name, place) => {
        const text = files.get(name)!;
        const bit = place % (text.length * 7);
        const code = text.charCodeAt(Math.floor(bit / 7)) ^ (1 << (bit % 7));
        const at = Math.floor(bit / 7);
        const changed = new Map(files).set(name, text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1));
        const client = tufClient(documentText(root), (wanted) => changed.get(wanted) ?? null);
        const outcome = await client.target(path).then(
          (found) => found?.hashes["sha256"],
          () => "refused",
        );
        expect(["refused", "a".repeat(64)]).toContain(outcome);
      }),
      { numRuns: isDeep ? 100 : 15 },
    );
  });
});

describe("a root", () => {
  test("is taken when it is the next one, in time, and enough have signed it", async () => {
    const { root, signers, keys, now } = await world();
    const online = onlineKeys(signers);
    expect(await checkRoot(root, null, online, now)).toEqual({ ok: true });
    const next = await rootSigners("three");
    const second = await rootDocumentOf(online, { version: 2, keys: next, by: [...next, keys[1]!], now });
    expect(await checkRoot(second, root, online, now)).toEqual({ ok: true });
  });

  test("is refused with a reason that says what to do", async () => {
    const { root, signers, keys, now } = await world();
    const online = onlineKeys(signers);
    const other = onlineKeys(await onlineSigners(tenant, "other secret"));
    const strangers = await rootSigners("three", "four");
    const make = (wish: Omit<Parameters<typeof rootDocumentOf>[1], "now">, named = online) =>
      rootDocumentOf(named, { version: 2, ...wish, now });
    const cases = [
      [await make({ keys, version: 3 }), "The next root has version 2"],
      [await make({ keys, version: 1 }), "The next root has version 2"],
      [await make({ keys }, other), "does not name the signer's targets key"],
      [await make({ keys: strangers }), "0 of the keys of root 1 have signed it"],
      [await make({ keys: strangers, by: keys }), "0 of its own root keys"],
      [await make({ keys: strangers, threshold: 2, by: [keys[0]!, strangers[0]!] }), "1 of its own root keys"],
      [await make({ keys: strangers, by: [strangers[0]!, strangers[0]!, strangers[1]!] }), "0 of the keys of root 1"],
    ] as const;
    for (const [document, reason] of cases)
      expect(await checkRoot(document, root, online, now)).toEqual({
        ok: false,
        reason: expect.stringContaining(reason),
      });
    const two = structuredClone(root);
    two.signed.roles.timestamp = { keyids: [...two.signed.roles.timestamp.keyids, keys[0]!.keyId], threshold: 2 };
    expect(await checkRoot(two, null, online, now)).toMatchObject({
      reason: expect.stringContaining("threshold of 1"),
    });
    const dayMs = 24 * 3_600_000;
    const end = Date.parse(root.signed.expires);
    expect(await checkRoot(root, null, online, end - lifeMs.root - dayMs)).toEqual({ ok: true });
    expect(await checkRoot(root, null, online, end - lifeMs.root - dayMs - 1)).toMatchObject({ ok: false });
    expect(await checkRoot(root, null, online, now + lifeMs.root)).toMatchObject({
      reason: expect.stringContaining("expired"),
    });
    expect(await checkRoot(root, null, online, now - 3 * 24 * 3_600_000)).toMatchObject({
      reason: expect.stringContaining("more than a year"),
    });
  });

  test("is refused where one key has signed it twice: no reader of TUF would follow it, nor any root behind it", async () => {
    const { root, keys, signers, now } = await world();
    const online = onlineKeys(signers);
    const by = [...keys, keys[0]!];
    const twice = await rootDocumentOf(online, { keys, by, version: 2, now });
    expect(await nextRoot(await pinnedRoot(documentText(root)), utf8(documentText(twice)))).toMatchObject({
      ok: false,
    });
    expect(await checkRoot(twice, root, online, now)).toMatchObject({
      ok: false,
      reason: expect.stringContaining("signed it twice"),
    });
  });

  test("counts a key once, and only under its own id", async () => {
    const { signers, keys, root, now } = await world();
    const { signed } = root;
    const [one, two] = [await keys[0]!.sign(signed), await keys[1]!.sign(signed)];
    const ids = keys.map(({ keyId }) => keyId);
    expect(await countSignatures(signed, [one, one], ids, signed.keys)).toBe(1);
    expect(await countSignatures(signed, [one, two], ids, signed.keys)).toBe(2);
    expect(await countSignatures(signed, [one, two], ids.slice(1), signed.keys)).toBe(1);
    expect(await countSignatures(signed, [{ ...one, sig: two.sig }], ids, signed.keys)).toBe(0);
    const relabelled = { ...signed.keys, [ids[0]!]: keys[1]!.key };
    expect(await countSignatures(signed, [{ ...two, keyid: ids[0]! }], ids, relabelled)).toBe(0);
    const timestamp = targetsOf(1, {}, now);
    expect(await countSignatures(timestamp, [await signers.targets.sign(timestamp)], ids, signed.keys)).toBe(0);
  });

  test("of two keys with one id, or a threshold beyond its keys, is none", async () => {
    const { root } = await world();
    const bent = (change: (copy: typeof root) => void): boolean => {
      const copy = structuredClone(root);
      change(copy);
      return rootDocument.safeParse(copy).success;
    };
    expect(bent(() => undefined)).toBe(true);
    expect(bent(({ signed }) => void (signed.roles.root.threshold = 3))).toBe(false);
    expect(bent(({ signed }) => void (signed.roles.root.threshold = 0))).toBe(false);
    expect(bent(({ signed }) => void signed.roles.root.keyids.push(signed.roles.root.keyids[0]!))).toBe(false);
    expect(bent(({ signed }) => void Object.assign(signed, { consistent_snapshot: false }))).toBe(false);
    expect(bent(({ signed }) => void Object.assign(signed, { more: 1 }))).toBe(false);
  });
});

describe("what the signer may sign", () => {
  const signed = targetsOf(1, { [path]: target("a", 1) }, 0);
  test.each([
    ["a root", { ...signed, _type: "root" }],
    ["a role that TUF has not", { ...signed, _type: "mirrors" }],
    ["more than the shape", { ...signed, delegations: {} }],
    ["a path that is no policy's", { ...signed, targets: { "../x": target("a", 1) } }],
    ["a path of no channel", { ...signed, targets: { "gateway/beta/bundle.tar.gz": target("a", 1) } }],
    ["a version of zero", { ...signed, version: 0 }],
    ["a time with milliseconds", { ...signed, expires: "2026-04-13T16:00:00.000Z" }],
    ["a day that there is not", { ...signed, expires: "2026-02-30T16:00:00Z" }],
  ])("is not %s", (_, value) => {
    expect(onlineSigned.safeParse(signed).success).toBe(true);
    expect(onlineSigned.safeParse(value).success).toBe(false);
  });

  test("is signed by keys that differ for each tenant and role, and are the same each time", async () => {
    const secret = tufSecret(JSON.stringify({ kty: "oct", k: Buffer.alloc(32, 7).toString("base64url") }));
    const id = async (role: OnlineRole, of: string): Promise<string> => (await tenantSigner(secret, role, of)).keyId;
    expect(await id("targets", "a")).toBe(await id("targets", "a"));
    expect(new Set([await id("targets", "a"), await id("targets", "b"), await id("snapshot", "a")]).size).toBe(3);
    expect(() => tufSecret('{"kty":"oct","k":"short"}')).toThrow("32 bytes");
  });
});

test("a third of its life after it was signed, a document is due again", () => {
  for (const role of ["targets", "snapshot", "timestamp"] as const) {
    const expires = expiryOf(0, role);
    expect(isDueAgain(expires, role, lifeMs[role] / 3 - 1_000)).toBe(false);
    expect(isDueAgain(expires, role, lifeMs[role] / 3)).toBe(true);
  }
});

test("a target's path names its policy and channel, and no other text does", () => {
  expect(parseTargetPath(targetPath("a.b-c", "canary"))).toEqual({ policy: "a.b-c", channel: "canary" });
  for (const text of [
    "",
    "a/stable",
    "a/stable/x.tar.gz",
    "a/stable/bundle.tar.gz/",
    "A/stable/bundle.tar.gz",
    "keys/stable/bundle.tar.gz",
  ])
    expect(parseTargetPath(text)).toBeNull();
});

test("what is signed reads the same in the canonical JSON that TUF means", async () => {
  // OLPC's form escapes quote and backslash alone: for what our shapes admit there is nothing else to escape.
  const text = await signedText(targetsOf(1, { [path]: target("a", 1) }, 0), (await onlineSigners(tenant)).targets);
  expect(text).toMatch(/^[ -~]+$/);
  expect(text).not.toContain("\\");
});

test("a root has no more keys than its roles can name, so that every fetcher reads it", () => {
  const key = { keytype: "ed25519", scheme: "ed25519", keyval: { public: "0".repeat(64) } };
  const id = (at: number): string => at.toString(16).padStart(64, "0");
  const role = { keyids: [id(0)], threshold: 1 };
  const parsed = (count: number) =>
    rootSigned.safeParse({
      _type: "root",
      spec_version: "1.0.33",
      version: 1,
      expires: "2027-04-13T16:00:00Z",
      consistent_snapshot: true,
      keys: Object.fromEntries(Array.from({ length: count }, (_, at) => [id(at), key])),
      roles: { root: role, targets: role, snapshot: role, timestamp: role },
    }).success;
  expect([parsed(64), parsed(65)]).toEqual([true, false]);
});
