// Whether a root may follow the one before it: signed by enough of its own keys and of the old ones, one version on, and
// naming the online keys that the signer has. Pure; called by the publisher for `PUT /api/policies/root` and by the CLI.

import type { OnlineRole, RootDocument, TufKey } from "./tuf.ts";
import { keyIdOf, lifeMs, onlineRoles } from "./tuf.ts";
import { countSignatures } from "./tuf-keys.ts";

export type CheckedRoot = { readonly ok: true } | { readonly ok: false; readonly reason: string };

const refused = (reason: string): CheckedRoot => ({ ok: false, reason });

/**
 * `before`: the root in force, or null where this is the first. `online`: the signer's keys for this tenant. The reason
 * is a sentence that says what to do.
 */
export async function checkRoot(
  next: RootDocument,
  before: RootDocument | null,
  online: Readonly<Record<OnlineRole, TufKey>>,
  now: number,
): Promise<CheckedRoot> {
  const { signed, signatures } = next;
  const wanted = (before?.signed.version ?? 0) + 1;
  if (signed.version !== wanted)
    return refused(
      `The next root has version ${wanted}, this one has ${signed.version}. Make it from the root in force: \`maestro policy root ${before === null ? "init" : "rotate"}\`.`,
    );
  const expires = Date.parse(signed.expires);
  if (expires <= now) return refused(`The root has expired at ${signed.expires}. Make it anew, with a right clock.`);
  if (expires > now + lifeMs.root + 24 * 3_600_000)
    return refused("The root is good for more than a year. Make it anew: a root lives for a year at most.");
  for (const [id, key] of Object.entries(signed.keys))
    if ((await keyIdOf(key)) !== id) return refused(`The key ${id} stands under an id that is not its own.`);
  for (const role of onlineRoles) {
    const id = await keyIdOf(online[role]);
    const { keyids, threshold } = signed.roles[role];
    if (threshold !== 1 || !keyids.includes(id) || signed.keys[id] === undefined)
      return refused(
        `The root does not name the signer's ${role} key with a threshold of 1. GET /api/policies/keys has the keys; \`maestro policy root rotate\` puts them in.`,
      );
  }
  const { root } = signed.roles;
  const own = await countSignatures(signed, signatures, root.keyids, signed.keys);
  if (own < root.threshold)
    return refused(
      `${own} of its own root keys have signed it, and ${root.threshold} have to. Sign it with more of them.`,
    );
  if (before !== null) {
    const old = before.signed.roles.root;
    const byOld = await countSignatures(signed, signatures, old.keyids, before.signed.keys);
    if (byOld < old.threshold)
      return refused(
        `${byOld} of the keys of root ${before.signed.version} have signed it, and ${old.threshold} have to. Sign it with the old keys too.`,
      );
  }
  if (new Set(signatures.map(({ keyid }) => keyid)).size < signatures.length)
    return refused("A key has signed it twice, which readers of TUF do not take. Leave one of its signatures out.");
  return { ok: true };
}
