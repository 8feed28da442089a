// What a small authority is between two commands: its keys and the state of each, in SPIRE's order: prepared, active, old,
// tainted, gone. Pure: cli/svid keeps it in a file and makes the keys.

import { z } from "zod";
import { base64Bytes } from "../../contract/bytes.ts";
import { writeBundle } from "./issue-svid.ts";

const base64Text = z.base64().min(1).max(8_192);
const time = z.int().min(0);

const authorityKey = z.strictObject({
  /** The key identifier in hex; the `kid` of a key of JWT-SVIDs. */
  id: z.string().regex(/^[0-9a-f]{40}$/),
  state: z.enum(["prepared", "active", "old", "tainted"]),
  /** PKCS #8, base64. */
  private_key: base64Text,
  /** SubjectPublicKeyInfo, base64. */
  spki: base64Text,
  /** DER, base64; null for a key of JWT-SVIDs. */
  certificate: base64Text.nullable(),
  /** Milliseconds since 1970 UTC, as all times here. */
  prepared_at: time,
  activated_at: time.nullable(),
  tainted_at: time.nullable(),
  /** Nothing is signed for longer. */
  expires_at: time,
});
export type AuthorityKey = z.infer<typeof authorityKey>;

/** At most one prepared, one active and one that was active before: as SPIRE, whose next preparation waits for the revocation. */
const ring = z
  .array(authorityKey)
  .max(3)
  .refine((keys) => keys.filter(({ state }) => state === "active").length === 1, "exactly one key is active");
type Ring = readonly AuthorityKey[];

export const authorityStateShape = z.strictObject({
  schema: z.literal(1),
  purpose: z.literal("development"),
  trust_domain: z.string().min(1).max(255),
  /** `spiffe_sequence` of the bundle: one more with each change of it. */
  sequence: z.int().min(1),
  x509: ring,
  jwt: ring,
});
export type AuthorityState = z.infer<typeof authorityStateShape>;

export type KeyKind = "x509" | "jwt";
export type RotationMove = "prepare" | "activate" | "taint" | "revoke";

export const refreshHintSeconds = 60;

/** The bundle of all keys that are not gone: what is prepared is believed before it signs. */
export const bundleOfState = ({ sequence, x509, jwt }: AuthorityState): string =>
  writeBundle({
    sequence,
    refreshHintSeconds,
    x509: x509.map(({ spki, certificate }) => ({
      spki: base64Bytes(spki),
      certificate: base64Bytes(certificate ?? ""),
    })),
    jwt: jwt.map(({ id, spki }) => ({ kid: id, spki: base64Bytes(spki) })),
  });

export const activeKey = (keys: Ring): AuthorityKey => {
  const active = keys.find(({ state }) => state === "active");
  if (active === undefined) throw new TypeError("an authority has no active key");
  return active;
};

export type Moved =
  | { readonly ok: true; readonly state: AuthorityState; readonly changed: boolean }
  | { readonly ok: false; readonly reason: string };

/**
 * The state after `move` of each of `kinds`, or why it may not be. A move that was made already changes nothing, so that each may
 * be repeated after a crash. `newKey` is asked only for what `prepare` adds.
 */
export async function moveAuthority(
  before: AuthorityState,
  move: RotationMove,
  kinds: readonly KeyKind[],
  now: number,
  newKey: (kind: KeyKind) => Promise<AuthorityKey>,
): Promise<Moved> {
  let state = before;
  for (const kind of kinds) {
    const moved = await moveRing(before[kind], move, now, () => newKey(kind));
    if (typeof moved === "string") return { ok: false, reason: `${kind === "x509" ? "X.509" : "JWT"}: ${moved}` };
    state = { ...state, [kind]: moved };
  }
  const changed = kinds.some((kind) => state[kind] !== before[kind]);
  const bundleChanged = changed && (move === "prepare" || move === "revoke");
  return { ok: true, changed, state: bundleChanged ? { ...state, sequence: before.sequence + 1 } : state };
}

/** The same list where there is nothing to do; the reason where it may not be. */
async function moveRing(
  keys: Ring,
  move: RotationMove,
  now: number,
  newKey: () => Promise<AuthorityKey>,
): Promise<Ring | string> {
  const has = (state: AuthorityKey["state"]): boolean => keys.some((key) => key.state === state);
  const change = (from: AuthorityKey["state"], to: Partial<AuthorityKey>): Ring =>
    keys.map((key) => (key.state === from ? { ...key, ...to } : key));
  const isReplaced = has("old") || has("tainted");
  if (move === "prepare") {
    if (has("prepared")) return keys;
    return isReplaced
      ? "the key before this one is not revoked yet: taint it and revoke it first"
      : [...keys, await newKey()];
  }
  if (move === "activate") {
    if (!has("prepared")) return isReplaced ? keys : "no key is prepared: prepare one first";
    return change("active", { state: "old" }).map((key) =>
      key.state === "prepared" ? { ...key, state: "active", activated_at: now } : key,
    );
  }
  if (move === "taint") {
    if (has("tainted")) return keys;
    return has("old")
      ? change("old", { state: "tainted", tainted_at: now })
      : "no key is old: an active one is tainted after another was prepared and activated";
  }
  if (has("old")) return "the old key is not tainted yet: taint it, and see that nothing of it is left, first";
  return has("tainted") ? keys.filter(({ state }) => state !== "tainted") : keys;
}
