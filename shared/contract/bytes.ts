// Bytes and their texts: UTF-8, hex, base64, SHA-256. Used by every room that hashes or signs.

/** Bytes over a plain ArrayBuffer, as WebCrypto and streams take them. */
export type Bytes = Uint8Array<ArrayBuffer>;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const utf8 = (text: string): Bytes => encoder.encode(text) as Bytes;

const beyondAscii = /[^ -~]/;

/** How many bytes `utf8(text)` has; without making them where each character plainly is one. */
export const utf8Length = (text: string): number => (beyondAscii.test(text) ? utf8(text).length : text.length);

/** Throws TypeError when `bytes` are not UTF-8. */
export const utf8Text = (bytes: Uint8Array): string => decoder.decode(bytes);

export const toBytes = (value: ArrayBuffer | Uint8Array): Bytes =>
  value instanceof Uint8Array ? new Uint8Array(value) : new Uint8Array(value);

export function concat(...parts: readonly Uint8Array[]): Bytes {
  const all = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Word by word where that can be done: a verifier compares gigabytes. */
export function bytesEqual(left: Uint8Array, right: Uint8Array): boolean {
  if (left.length !== right.length) return false;
  let at = 0;
  if (left.byteOffset % 4 === 0 && right.byteOffset % 4 === 0) {
    const count = Math.floor(left.length / 4);
    const leftWords = new Uint32Array(left.buffer, left.byteOffset, count);
    const rightWords = new Uint32Array(right.buffer, right.byteOffset, count);
    for (let word = 0; word < count; word += 1) if (leftWords[word] !== rightWords[word]) return false;
    at = count * 4;
  }
  for (; at < left.length; at += 1) if (left[at] !== right[at]) return false;
  return true;
}

const hexDigits = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += hexDigits[byte];
  return text;
}

/** Throws TypeError unless `text` is an even number of hex digits. */
export function hexBytes(text: string): Bytes {
  if (!/^(?:[0-9a-fA-F]{2})*$/.test(text)) throw new TypeError("not hex");
  const bytes = new Uint8Array(text.length / 2);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = Number.parseInt(text.slice(at * 2, at * 2 + 2), 16);
  return bytes;
}

export function base64(bytes: Uint8Array): string {
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8192) {
    binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  }
  return btoa(binary);
}

/** Standard base64 with padding. Throws TypeError for anything else, non-canonical endings included. */
export function base64Bytes(text: string): Bytes {
  if (!/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) throw new TypeError("not base64");
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  if (base64(bytes) !== text) throw new TypeError("not canonical base64");
  return bytes;
}

export async function sha256(...parts: readonly Uint8Array[]): Promise<Bytes> {
  return new Uint8Array(
    await crypto.subtle.digest("SHA-256", parts.length === 1 ? (parts[0] as Bytes) : concat(...parts)),
  );
}

export const sha256Hex = async (...parts: readonly Uint8Array[]): Promise<string> => hex(await sha256(...parts));
