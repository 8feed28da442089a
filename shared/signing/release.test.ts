// What was signed by a key that has ended: believed for what it says of before its end, and for nothing else.

import { beforeAll, expect, test } from "vitest";
import { manifestOf, newSigner, packageOf, signRelease } from "../../test/support/publisher.ts";
import { base64 } from "../contract/bytes.ts";
import type { SignedBundle } from "../contract/events.ts";
import { signStatement } from "./bundle.ts";
import type { Signer } from "./keys.ts";
import {
  checkChannelPointer,
  checkPublisherBundle,
  checkRelease,
  countersignature,
  pointerStatement,
  type ReleaseKeys,
  type SignedRelease,
} from "./release.ts";
import { statement } from "./statement.ts";

const end = "2026-06-01T00:00:00.000Z";
const late = "2026-06-01T00:00:00.001Z";
let marketplace: Signer;
let publisher: Signer;
let bundle: SignedBundle;
let release: SignedRelease;

beforeAll(async () => {
  [marketplace, publisher] = await Promise.all([newSigner(), newSigner()]);
  const manifest = manifestOf("tools/ended");
  bundle = await signRelease(publisher, manifest, await packageOf(manifest));
  const checked = await checkPublisherBundle(bundle, base64(publisher.spki));
  if (!checked.ok) throw new Error(checked.reason);
  ({ release } = checked);
});

const keys = (not_after: string | null): ReleaseKeys =>
  new Map([[marketplace.kid, { spki: base64(marketplace.spki), not_after }]]);

async function checkedAt(signedAt: unknown, not_after: string | null = end) {
  const { predicate, ...rest } = await countersignature(bundle, release, "");
  const said = { ...predicate, signed_at: signedAt };
  const counter = await signStatement(marketplace, statement({ ...rest, predicate: said }));
  return await checkRelease(
    { publisher: bundle, marketplace: counter, publisherSpki: base64(publisher.spki) },
    keys(not_after),
  );
}

test("a countersignature is held against its key's end by the time that it says", async () => {
  expect(await checkedAt(end)).toEqual({ ok: true, release, countersigned_at: end });
  expect(await checkedAt(late)).toMatchObject({ ok: false, reason: expect.stringContaining(`ended at ${end}`) });
  expect(await checkedAt(late, null)).toMatchObject({ ok: true, countersigned_at: late });
});

test("a countersignature is over one publisher's signature: the same statement signed by another key is not meant", async () => {
  const stranger = await newSigner();
  const manifest = manifestOf("tools/ended");
  const theirs = await signRelease(stranger, manifest, await packageOf(manifest));
  expect(theirs.dsseEnvelope.payload).toBe(bundle.dsseEnvelope.payload);
  const { predicate, ...rest } = await countersignature(bundle, release, end);
  const counter = await signStatement(marketplace, statement({ ...rest, predicate: { ...predicate } }));
  const checked = await checkRelease(
    { publisher: theirs, marketplace: counter, publisherSpki: base64(stranger.spki) },
    keys(null),
  );
  expect(checked).toMatchObject({ ok: false, reason: expect.stringContaining("over another release") });
});

test("one of before countersignatures said a time is taken, and one that says no time as its own is not", async () => {
  expect(await checkedAt(undefined)).toEqual({ ok: true, release, countersigned_at: null });
  for (const none of [null, "yesterday", 7, ""]) expect(await checkedAt(none)).toMatchObject({ ok: false });
});

test("a channel's pointer names the release that its subject names, and one alone", async () => {
  const { manifest, artifact_sha256 } = release;
  const move = {
    package: manifest.name,
    channel: "stable",
    version: manifest.version,
    sequence: 1,
    moved_at: end,
  } as const;
  const { subject, ...rest } = pointerStatement({ ...move, artifact_sha256 });
  const check = async (subjects: typeof subject) =>
    (await checkChannelPointer(await signStatement(marketplace, statement({ ...rest, subject: subjects })), keys(null)))
      .ok;
  expect(await check(subject)).toBe(true);
  const [one] = subject;
  for (const name of [`${manifest.name}@9.9.9`, `tools/other@${manifest.version}`, manifest.name])
    expect(await check([{ ...one!, name }])).toBe(false);
  expect(await check([one!, one!])).toBe(false);
});

test("a channel's pointer is held against its key's end by the time of its move", async () => {
  const { manifest, artifact_sha256 } = release;
  const move = { package: manifest.name, channel: "stable", version: manifest.version, sequence: 1 } as const;
  const check = async (moved_at: string, not_after: string | null) => {
    const signed = await signStatement(
      marketplace,
      statement(pointerStatement({ ...move, moved_at, artifact_sha256 })),
    );
    return await checkChannelPointer(signed, keys(not_after));
  };
  expect(await check(end, end)).toMatchObject({ ok: true });
  expect(await check(late, null)).toMatchObject({ ok: true });
  expect(await check(late, end)).toMatchObject({ ok: false, reason: expect.stringContaining(`ended at ${end}`) });
});
