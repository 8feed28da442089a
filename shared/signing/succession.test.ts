// Which set of keys follows from a trusted one: ends, revocations and endorsed keys; and what a server could make up.

import { expect, test } from "vitest";
import { newSigner } from "../../test/simulation/audit-world.ts";
import { base64 } from "../contract/bytes.ts";
import type { SignedBundle } from "../contract/events.ts";
import type { PublishedKey, PublishedKeys } from "../contract/http-audit.ts";
import { endorse, endorsedKeyOf } from "./endorsement.ts";
import type { Signer } from "./keys.ts";
import { succession } from "./succession.ts";

const notBefore = "2026-06-01T00:00:00.000Z";
const end = "2026-06-02T00:00:00.000Z";
type Use = PublishedKey["use"];

const lines = (signer: Signer, uses: readonly Use[], given: Partial<PublishedKey> = {}): PublishedKey[] => {
  const { kid, algorithm, spki } = endorsedKeyOf(signer, uses, notBefore);
  return uses.map((use) => ({ kid, use, algorithm, spki, not_before: notBefore, ...given }));
};
const setOf = (keys: PublishedKey[], endorsements: SignedBundle[] = []): PublishedKeys => ({
  origin_prefix: "maestro.test/log",
  keys,
  endorsements,
});
const word = (by: Signer, of: Signer, uses: readonly Use[]): Promise<SignedBundle> =>
  endorse(by, endorsedKeyOf(of, uses, notBefore));
const statement: readonly Use[] = ["manifest", "receipt", "pack"];

test("a key that a trusted one endorsed is believed, over several rotations that the user has not seen, in any order", async () => {
  const [a, b, c] = await Promise.all([newSigner("P-256"), newSigner("P-256"), newSigner("P-256")]);
  const words = [await word(b, c, statement), await word(a, b, statement)];
  const served = [
    ...lines(c, statement),
    ...lines(b, statement, { not_after: end }),
    ...lines(a, statement, { not_after: end }),
  ];
  const followed = await succession(setOf(lines(a, statement)), setOf(served, words));
  expect(followed).toEqual({
    ok: true,
    endorsed: [
      { kid: b.kid, uses: statement, by: a.kid },
      { kid: c.kid, uses: statement, by: b.kid },
    ],
    ended: lines(a, statement, { not_after: end }),
  });
});

test("a key that was taken back before it signed breaks nobody's set: who had seen it is told of its end, who had not is told of no new key, and what comes after it is believed", async () => {
  const [a, b, c] = await Promise.all([newSigner("P-256"), newSigner("P-256"), newSigner("P-256")]);
  const words = [await word(a, b, ["release"]), await word(a, c, ["release"])];
  const withdrawn = lines(b, ["release"], { not_after: notBefore, revoked_at: end });
  const served = setOf([...lines(a, ["release"]), ...withdrawn], words);
  const seen = setOf([...lines(a, ["release"]), ...lines(b, ["release"])], words);
  expect(await succession(seen, served)).toEqual({ ok: true, endorsed: [], ended: withdrawn });
  expect(await succession(setOf(lines(a, ["release"])), served)).toEqual({ ok: true, endorsed: [], ended: [] });
  const next = setOf(
    [...lines(c, ["release"]), ...lines(a, ["release"], { not_after: end }), ...withdrawn],
    [...words, await word(b, c, ["release"])],
  );
  for (const trusted of [seen, served, setOf(lines(a, ["release"]))])
    expect(await succession(trusted, next)).toMatchObject({
      ok: true,
      endorsed: [{ kid: c.kid, uses: ["release"], by: a.kid }],
    });
  // Its own word counts for nothing.
  const stranger = await newSigner("P-256");
  const forged = setOf(
    [...next.keys, ...lines(stranger, ["release"])],
    [...words, await word(b, stranger, ["release"])],
  );
  expect(await succession(served, forged)).toEqual({ ok: false });
});

test("checkpoint keys endorse each other as well", async () => {
  const [a, b] = await Promise.all([newSigner("Ed25519"), newSigner("Ed25519")]);
  const served = setOf(
    [...lines(a, ["checkpoint"], { not_after: end }), ...lines(b, ["checkpoint"])],
    [await word(a, b, ["checkpoint"])],
  );
  expect(await succession(setOf(lines(a, ["checkpoint"])), served)).toMatchObject({ ok: true });
});

test("a foreign key is never believed: not by its own word, nor for a use that its endorser has not, nor altered", async () => {
  const [a, b, stranger] = await Promise.all([newSigner("P-256"), newSigner("P-256"), newSigner("P-256")]);
  const trusted = setOf(lines(a, ["release"]));
  const follows = async (keys: PublishedKey[], words: SignedBundle[]): Promise<boolean> =>
    (await succession(trusted, setOf([...lines(a, ["release"]), ...keys], words))).ok;
  const good = await word(a, b, ["release"]);
  expect(await follows(lines(b, ["release"]), [good])).toBe(true);
  expect(await follows(lines(b, ["release"]), [])).toBe(false);
  expect(await follows(lines(stranger, ["release"]), [good])).toBe(false);
  expect(await follows(lines(stranger, ["release"]), [await word(stranger, stranger, ["release"])])).toBe(false);
  expect(await follows([...lines(b, ["release"]), ...lines(stranger, ["release"])], [good])).toBe(false);
  expect(await follows(lines(b, ["link"]), [await word(a, b, ["link"])])).toBe(false);
  expect(await follows(lines(b, ["release"], { not_before: end }), [good])).toBe(false);
  expect(await follows(lines(b, ["release"], { spki: base64(stranger.spki) }), [good])).toBe(false);
  const { signatures, ...envelope } = good.dsseEnvelope;
  const swapped = { ...good, dsseEnvelope: { ...(await word(a, stranger, ["release"])).dsseEnvelope, signatures } };
  expect(await follows(lines(stranger, ["release"]), [swapped])).toBe(false);
  expect(envelope.payloadType).toBe("application/vnd.in-toto+json");
});

test("a revoked key endorses nothing, and a revocation or an end is not taken back", async () => {
  const [a, b] = await Promise.all([newSigner("P-256"), newSigner("P-256")]);
  const words = [await word(a, b, ["release"])];
  const revoked = lines(a, ["release"], { not_after: end, revoked_at: end });
  expect(await succession(setOf(lines(a, ["release"])), setOf([...revoked, ...lines(b, ["release"])], words))).toEqual({
    ok: false,
  });
  expect(await succession(setOf(lines(a, ["release"])), setOf(revoked))).toEqual({
    ok: true,
    endorsed: [],
    ended: revoked,
  });
  for (const back of [
    lines(a, ["release"]),
    lines(a, ["release"], { not_after: end }),
    lines(a, ["release"], { not_after: notBefore, revoked_at: end }),
  ])
    expect(await succession(setOf(revoked), setOf(back))).toEqual({ ok: false });
});

test("a key that is listed twice is refused: the second line would take back what the first one says", async () => {
  const [a, b] = await Promise.all([newSigner("P-256"), newSigner("P-256")]);
  const revoked = lines(a, ["release"], { not_after: end, revoked_at: end });
  for (const twice of [
    [...revoked, ...lines(a, ["release"])],
    [...revoked, ...revoked],
    [...revoked, ...lines(a, ["release"], { not_before: end })],
  ])
    expect(await succession(setOf(revoked), setOf(twice))).toEqual({ ok: false });
  const fresh = [...lines(b, ["release"], { revoked_at: end }), ...lines(b, ["release"])];
  const words = [await word(a, b, ["release"])];
  const trusted = setOf(lines(a, ["release"]));
  expect(await succession(trusted, setOf([...lines(a, ["release"]), ...fresh], words))).toEqual({ ok: false });
});

test("nothing is gone, and the log's origin stays", async () => {
  const a = await newSigner("P-256");
  expect(await succession(setOf(lines(a, statement)), setOf(lines(a, ["manifest"])))).toEqual({ ok: false });
  const moved = { ...setOf(lines(a, statement)), origin_prefix: "elsewhere.test/log" };
  expect(await succession(setOf(lines(a, statement)), moved)).toEqual({ ok: false });
});
