// The signer worker inside workerd.

import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import {
  keyIdOf,
  lifeMs,
  onlineRoles,
  rootOf,
  targetsOf,
  timestampOf,
  type OnlineSigned,
} from "../../shared/edge/tuf.ts";
import { countSignatures } from "../../shared/edge/tuf-keys.ts";
import type { PointerRequest } from "../../shared/signing/service.ts";
import { partsOf } from "../../workers/signer/compose.ts";

type Env = Parameters<typeof partsOf>[0];
const bound = env as unknown as Env;
const signerWith = (given: Partial<Env> = {}) => partsOf({ ...bound, ...given }).signer;
const [acme, other] = ["7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001", "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002"] as const;

test("a document of an online role is signed with the tenant's key of that role, and with no other's", async () => {
  const signer = signerWith();
  const now = Date.now();
  const [keys, others] = [await signer.tufKeys(acme), await signer.tufKeys(other)];
  const documents = [targetsOf(1, {}, now), await timestampOf(1, { version: 1, text: "{}" }, now)];
  for (const document of documents) {
    const signed = await signer.signTuf(acme, document);
    if (!signed.ok) throw new Error(signed.reason);
    for (const role of onlineRoles) {
      for (const set of [keys, others]) {
        const id = await keyIdOf(set[role]);
        const count = await countSignatures(document, [{ ...signed.signature, keyid: id }], [id], { [id]: set[role] });
        expect(count).toBe(role === document._type && set === keys ? 1 : 0);
      }
    }
  }
});

test("nothing else is signed: no root, no foreign shape, nothing beyond its role's life, for nobody who is no tenant", async () => {
  const signer = signerWith();
  const now = Date.now();
  const root = await rootOf(
    { version: 1, root: [(await signer.tufKeys(acme)).targets], threshold: 1, online: await signer.tufKeys(acme) },
    now,
  );
  const targets = targetsOf(1, {}, now);
  const refused: unknown[] = [
    root,
    { ...targets, more: 1 },
    { ...targets, targets: { "/etc/passwd": {} } },
    targetsOf(1, {}, now + lifeMs.targets),
    targetsOf(1, {}, now - lifeMs.targets - 1_000),
    { ...(await timestampOf(1, { version: 1, text: "{}" }, now)), expires: targets.expires },
    "targets",
    null,
  ];
  for (const document of refused)
    expect(await signer.signTuf(acme, document as OnlineSigned)).toMatchObject({ ok: false });
  await expect(signer.signTuf("acme", targets)).rejects.toThrow(/UUID/);
  await expect(signerWith({ TUF_TARGETS_KEY: "{}" }).signTuf(acme, targets)).rejects.toThrow("32 bytes");
});

test("a channel's move at no time is refused before anything is signed", async () => {
  const request = { channel: "stable", sequence: 1, moved_at: "soon" } as PointerRequest;
  expect(await signerWith().pointer(request)).toEqual({ ok: false, reason: "the time of the move is none" });
});
