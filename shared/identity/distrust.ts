// The bundle that is believed where some of a trust domain's authorities are distrusted: the document without them. Called where a bundle
// comes in force (receive-document.ts), and where an authority comes to be distrusted.

import { authoritiesOf, isAmong, type AuthorityName } from "./authorities.ts";
import type { TrustDomain } from "./spiffe-id.ts";
import { utf8Length } from "../contract/bytes.ts";
import { bundleBytesMax, distrustsMember, parseTrustBundle } from "./trust-bundle.ts";

/** Of one trust domain, for ever: who comes to this many states another domain. */
export const distrustedMax = 256;

/**
 * `document` is a bundle of that domain. With nothing distrusted it comes back to the byte, unless it says itself how much was: only
 * the product says that. The same authorities, in any order and in any number of steps, give the same text.
 */
export async function withoutDistrusted(
  trustDomain: TrustDomain,
  document: string,
  distrusted: readonly AuthorityName[],
): Promise<string> {
  const members = JSON.parse(document) as { readonly keys: readonly unknown[] } & Record<string, unknown>;
  const isSaid = Object.hasOwn(members, distrustsMember);
  if (distrusted.length === 0 && !isSaid) return document;
  const { [distrustsMember]: _, ...rest } = members;
  const keys: unknown[] = [];
  for (const key of members.keys) if (!(await holdsOneOf(trustDomain, key, distrusted))) keys.push(key);
  return JSON.stringify({
    ...rest,
    keys,
    ...(distrusted.length === 0 ? {} : { [distrustsMember]: distrusted.length }),
  });
}

/**
 * Whether any authority of the document can be distrusted: it is written anew then, which may make it longer (`1e20` has 21 digits). One
 * that had no room would be believed for ever.
 */
export const hasRoomForDistrusts = (document: string): boolean =>
  utf8Length(JSON.stringify({ ...(JSON.parse(document) as object), [distrustsMember]: distrustedMax })) <=
  bundleBytesMax;

/** A key that is passed over by who reads the bundle is nobody's authority. */
async function holdsOneOf(
  trustDomain: TrustDomain,
  key: unknown,
  distrusted: readonly AuthorityName[],
): Promise<boolean> {
  const alone = await parseTrustBundle(trustDomain, JSON.stringify({ keys: [key] }));
  if (!alone.ok) throw new Error(`a key of a good bundle is none: ${alone.refusal.reason}`);
  return (await authoritiesOf(alone.value)).some((name) => isAmong(distrusted, name));
}
