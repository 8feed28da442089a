// Prefixed, time-ordered ids: 48 bits of milliseconds and 80 random bits, in Crockford's base32, lower case.

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz";

export const idPrefixes = {
  execution: "exe",
  event: "evt",
  principal: "pri",
  apiKey: "key",
  release: "rel",
  install: "ins",
  request: "req",
  grant: "grt",
  rollout: "rol",
  change: "chg",
  fetcher: "fet",
  rotation: "rot",
} as const;
export type IdKind = keyof typeof idPrefixes;

/** `exe_01h…`: `now` in ms since 1970, `random` at least 10 bytes. */
export function newId(kind: IdKind, now: number, random: Uint8Array): string {
  const bytes = new Uint8Array(16);
  let rest = now;
  for (let at = 5; at >= 0; at -= 1) {
    bytes[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  bytes.set(random.subarray(0, 10), 6);
  return `${idPrefixes[kind]}_${base32(bytes)}`;
}

/** An id that is the same for the same digest (at least 16 bytes): for effects that a retry must name alike. */
export const derivedId = (kind: IdKind, digest: Uint8Array): string =>
  `${idPrefixes[kind]}_${base32(digest.subarray(0, 16))}`;

export const idPattern = (kind: IdKind): RegExp => new RegExp(`^${idPrefixes[kind]}_[${alphabet}]{26}$`);

function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let value = 0;
  for (const byte of bytes) {
    value = value * 256 + byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[Math.floor(value / 2 ** bits) % 32];
      value %= 2 ** bits;
    }
  }
  return bits > 0 ? text + alphabet[(value * 2 ** (5 - bits)) % 32] : text;
}
