// Whether a set of keys follows from one that is trusted: nothing gone, nothing altered but ended or revoked, and each new key
// endorsed by one that is trusted and not revoked. Called by `maestro` where an API publishes other keys than it remembers.

import type { PublishedKey, PublishedKeys } from "../contract/http-audit.ts";
import { readEndorsement, type EndorsedKey } from "./endorsement.ts";

export interface Endorsed {
  readonly kid: string;
  readonly uses: readonly PublishedKey["use"][];
  /** The kid of the key that says so. */
  readonly by: string;
}

export type Succession =
  | { readonly ok: true; readonly endorsed: readonly Endorsed[]; readonly ended: readonly PublishedKey[] }
  | { readonly ok: false };

const refused: Succession = { ok: false };

export async function succession(trusted: PublishedKeys, served: PublishedKeys): Promise<Succession> {
  if (trusted.origin_prefix !== served.origin_prefix || hasKeyTwice(served.keys)) return refused;
  const ended: PublishedKey[] = [];
  for (const before of trusted.keys) {
    const now = served.keys.find((key) => isSame(key, before));
    if (now === undefined || !continues(before, now)) return refused;
    if (now.not_after !== before.not_after || now.revoked_at !== before.revoked_at) ended.push(now);
  }
  const isOld = (key: PublishedKey): boolean => trusted.keys.some((one) => isSame(one, key));
  const [believed, open] = [served.keys.filter(isOld), served.keys.filter((key) => !isOld(key))];
  const endorsed: Endorsed[] = [];
  // Each round of it must bring a key; what is left then, nobody endorses.
  while (open.length > 0) {
    const found = await nextEndorsed(served, believed, open);
    if (found === null) return refused;
    const come = open.filter((key) => key.kid === found.kid && found.uses.includes(key.use));
    for (const key of come) {
      believed.push(key);
      open.splice(open.indexOf(key), 1);
    }
    // One that was revoked before it was seen is known from now on, and trusted for nothing.
    if (come.some((key) => key.revoked_at === undefined)) endorsed.push(found);
  }
  return { ok: true, endorsed, ended };
}

/** A second line of a key would say that it signs on, of which the first says that it ended or was revoked. */
const hasKeyTwice = (keys: readonly PublishedKey[]): boolean =>
  new Set(keys.map(({ kid, use }) => `${use} ${kid}`)).size < keys.length;

const isSame = (left: PublishedKey, right: PublishedKey): boolean => left.kid === right.kid && left.use === right.use;

/** A key may end or be revoked, once; neither is taken back or altered. */
function continues(before: PublishedKey, now: PublishedKey): boolean {
  if (!isAsEndorsed(now, before)) return false;
  if (before.not_after !== undefined && now.not_after !== before.not_after) return false;
  return before.revoked_at === undefined || now.revoked_at === before.revoked_at;
}

const isAsEndorsed = (
  { spki, algorithm, not_before }: PublishedKey,
  endorsed: Pick<EndorsedKey, "spki" | "algorithm" | "not_before">,
): boolean => spki === endorsed.spki && algorithm === endorsed.algorithm && not_before === endorsed.not_before;

/** One of the `open` keys that a believed key endorses for uses that it has itself; null: none. */
async function nextEndorsed(
  { endorsements = [] }: PublishedKeys,
  believed: readonly PublishedKey[],
  open: readonly PublishedKey[],
): Promise<Endorsed | null> {
  const words = believed.filter((key) => key.revoked_at === undefined);
  for (const bundle of endorsements) {
    const read = await readEndorsement(bundle, (kid) => words.find((key) => key.kid === kid) ?? null);
    if (!read.ok) continue;
    const { key, by } = read;
    const uses = key.uses.filter((use) => words.some((word) => word.kid === by && word.use === use));
    const meant = open.filter((one) => one.kid === key.kid && uses.includes(one.use) && isAsEndorsed(one, key));
    if (meant.length > 0) return { kid: key.kid, uses: meant.map(({ use }) => use), by };
  }
  return null;
}
