// Manifests that were changed, and such that lie (verify-mutations.ts).

import { rangeName } from "../../../shared/audit/layout.ts";
import { base64, base64Bytes, utf8, utf8Text, type Bytes } from "../../../shared/contract/bytes.ts";
import { canonicalJson, type SignedBundle } from "../../../shared/contract/events.ts";
import { preAuthEncoding, signStatement, statementPayloadType } from "../../../shared/signing/bundle.ts";
import type { Statement } from "../../../shared/signing/statement.ts";
import { bundleIn, statementIn, flipped } from "./forging.ts";
import type { Mutation, MutationRoom, PublishedLog } from "../verify-mutations.ts";

export function manifestMutations(room: MutationRoom): Mutation[] {
  const key = room.manifestOf(1);
  const text = utf8Text(room.object(key));
  const bundle = bundleIn(room.object(key));
  const envelope = bundle.dsseEnvelope;
  const [signature] = envelope.signatures;
  const other = room.strangers.statement.kid;
  const changed = (name: string, reason: string, bytes: string | Bytes): Mutation => ({
    name: `manifest ${name}`,
    expected: { verdict: "TAMPERED", row: null, reason },
    change: () => room.with({ [key]: typeof bytes === "string" ? utf8(bytes) : bytes }),
  });
  const enveloped = (change: Partial<SignedBundle["dsseEnvelope"]>): string =>
    canonicalJson({ ...bundle, dsseEnvelope: { ...envelope, ...change } });
  const keyed = (kid: string): string =>
    canonicalJson({
      ...bundle,
      verificationMaterial: { publicKey: { hint: kid } },
      dsseEnvelope: { ...envelope, signatures: [{ ...signature, keyid: kid }] },
    });
  const payload = utf8Text(base64Bytes(envelope.payload));
  const der = base64Bytes(signature!.sig);
  return [
    ...([0, 1, 2] as const).map((at): Mutation => ({
      name: `manifest ${at} deleted`,
      expected: { verdict: "GAP", row: room.range(at).from, reason: "the manifest is not there" },
      change: () => room.with({ [room.manifestOf(at)]: null }),
    })),
    ...([0, 1] as const).map((at): Mutation => ({
      name: `manifest ${at} deleted with its segment`,
      expected: { verdict: "GAP", row: room.range(at).from, reason: "are not there" },
      change: () => room.with({ [room.manifestOf(at)]: null, [room.segmentOf(at)]: null }),
    })),
    {
      name: "manifest of the newest range deleted with its segment",
      expected: { verdict: "GAP", row: room.range(2).from, reason: "are signed for and not there" },
      change: () => room.with({ [room.manifestOf(2)]: null, [room.segmentOf(2)]: null }, { remembered: null }),
    },
    changed("that is not UTF-8", "not UTF-8", room.object(key).with(5, 0xff)),
    changed("that is not JSON", "not canonical JSON", `${text}x`),
    changed("in another spelling", "not canonical JSON", ` ${text}`),
    changed("with a member twice", "not canonical JSON", text.replace("{", '{"dsseEnvelope":{},')),
    changed("truncated", "not canonical JSON", text.slice(0, -1)),
    changed("of no bytes", "not canonical JSON", ""),
    changed("with a member too many", "expected shape", canonicalJson({ ...bundle, more: 1 })),
    changed(
      "with a member that parsers pass over",
      "expected shape",
      text.replace('{"dsseEnvelope"', '{"__proto__":{},"dsseEnvelope"'),
    ),
    changed(
      "with its payload edited",
      "signature does not verify",
      enveloped({ payload: base64(utf8(payload.replace('"row_count":16', '"row_count":17'))) }),
    ),
    changed("with its payload in another base64", "canonical base64", enveloped({ payload: `${envelope.payload}=` })),
    changed("with a payload beyond all bounds", "payload is too large", enveloped({ payload: "A".repeat(12_000_000) })),
    changed("with another payload type", "payload type", enveloped({ payloadType: "application/json" })),
    changed(
      "with its signature edited",
      "signature does not verify",
      enveloped({ signatures: [{ ...signature!, sig: base64(flipped(der, 1)) }] }),
    ),
    changed(
      "with another range's signature",
      "signature does not verify",
      enveloped({ signatures: bundleIn(room.object(room.manifestOf(0))).dsseEnvelope.signatures }),
    ),
    changed("with two signatures", "exactly one signature", enveloped({ signatures: [signature!, signature!] })),
    changed("without a signature", "expected shape", enveloped({ signatures: [] })),
    changed(
      "with a key id and a hint that differ",
      "different keys",
      enveloped({ signatures: [{ ...signature!, keyid: other }] }),
    ),
    changed("that names a stranger's key", "is not known", keyed(other)),
    changed("that names the checkpoint's key", "is not known", keyed(room.keys.checkpoint.kid)),
    changed("of the range before", "of another range", room.object(room.manifestOf(0))),
    {
      name: "manifests that changed places",
      expected: { verdict: "TAMPERED", reason: "of another range" },
      change: () =>
        room.with({
          [room.manifestOf(1)]: room.object(room.manifestOf(2)),
          [room.manifestOf(2)]: room.object(room.manifestOf(1)),
        }),
    },
    {
      name: "manifest signed by a stranger",
      expected: { verdict: "TAMPERED", reason: "is not known" },
      change: async () => {
        const signed = await signStatement(room.strangers.statement, statementIn(room.object(key)));
        return room.with({ [key]: utf8(canonicalJson(signed)) });
      },
    },
    {
      name: "manifest whose payload is signed and not canonical",
      expected: { verdict: "TAMPERED", reason: "the payload is not canonical JSON" },
      change: () => signedPayload(room, key, ` ${payload}`),
    },
    {
      name: "manifest whose payload is signed and no statement",
      expected: { verdict: "TAMPERED", reason: "not an in-toto statement" },
      change: () => signedPayload(room, key, "{}"),
    },
  ];
}

/** Signed by the log's key; `text` need not be a statement. */
async function signedPayload(room: MutationRoom, key: string, text: string): Promise<PublishedLog> {
  const bundle = bundleIn(room.object(key));
  const sig = await room.keys.statement.sign(preAuthEncoding(statementPayloadType, utf8(text)));
  const signatures = [{ sig: base64(sig), keyid: room.keys.statement.kid }];
  const dsseEnvelope = { ...bundle.dsseEnvelope, payload: base64(utf8(text)), signatures };
  return room.with({ [key]: utf8(canonicalJson({ ...bundle, dsseEnvelope })) });
}

/** Manifests that the log's own key signed, of a log that adds up but for one claim. */
export function claimMutations(room: MutationRoom): Mutation[] {
  const claims: [string, Record<string, unknown>, string][] = [
    ["from", { from: 299 }, "of another range"],
    ["to", { to: 317 }, "of another range"],
    ["row count", { row_count: 15 }, "of another range"],
    ["tree size", { tree_size: 317 }, "of different trees"],
    ["root", { root_sha256: "0".repeat(64) }, "of different trees"],
    ["checkpoint's form", { checkpoint: "no note" }, "of different trees"],
    ["tenant", { tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0002" }, "another tenant's"],
    ["schema", { schema_version: 9 }, "does not fit its schema"],
    ["members", { more: true }, "does not fit its schema"],
    ["columns", { schema_version: 1 }, "another schema"],
    ["range before", { previous: null }, "follows another range"],
    [
      "time of sealing",
      { sealed_at: "2025-12-31T23:59:59.999Z" },
      "the manifest is from before or after the time of the key",
    ],
    ["first time", { first_logged_at: "2026-04-13T15:59:59.999Z" }, "other times than its rows"],
    ["last time", { last_logged_at: "2026-04-13T19:00:00.000Z" }, "other times than its rows"],
  ];
  const stated = (name: string, reason: string, statement: (honest: Statement) => Statement): Mutation => ({
    name: `manifest with another ${name}, signed`,
    expected: { verdict: "TAMPERED", row: null, reason },
    change: () => room.forge({ statement: (honest, at) => (at === 1 ? statement(honest) : honest) }),
  });
  const [first] = [room.segmentOf(0)];
  return [
    ...claims.map(([name, change, reason]): Mutation => ({
      name: `manifest that lies about its ${name}, signed`,
      expected: { verdict: "TAMPERED", row: null, reason },
      change: () => room.forge({ predicate: (predicate, at) => (at === 1 ? { ...predicate, ...change } : predicate) }),
    })),
    {
      name: "first manifest that claims a range before it, signed",
      expected: { verdict: "TAMPERED", row: null, reason: "follows another range" },
      change: () =>
        room.forge({
          predicate: (predicate, at) => (at === 0 ? { ...predicate, previous: rangeName(room.range(1)) } : predicate),
        }),
    },
    stated("segment's name", "names another segment", (honest) => ({
      ...honest,
      subject: [{ ...honest.subject[0]!, name: first }],
    })),
    stated("second subject", "about one segment", (honest) => ({
      ...honest,
      subject: [honest.subject[0]!, honest.subject[0]!],
    })),
    stated("kind", "is no manifest", (honest) => ({
      ...honest,
      predicateType: "https://maestro-conductor.dev/attestations/receipt/v1",
    })),
  ];
}
