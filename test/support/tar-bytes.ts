// Tar archives block by block, so that a test can make what no tar library agrees to make. Runs on Node and in workerd.

import { concat, utf8, type Bytes } from "../../shared/contract/bytes.ts";

export interface TarPart {
  readonly name: string;
  readonly body?: string | Uint8Array;
  /** The type flag: "0" is a file. */
  readonly flag?: string;
  readonly prefix?: string;
  /** What the header says instead of the body's size. */
  readonly size?: number;
  readonly linkname?: string;
  /** Magic and version, eight characters. */
  readonly magic?: string;
  /** Bends the header; its checksum is made after that. */
  readonly bend?: (header: Uint8Array) => void;
  /** What fills the last block; zeros where it is not given. */
  readonly padding?: number;
}

export const posixMagic = "ustar\u000000";
export const gnuMagic = "ustar  \0";

/** Writes the checksum that the block has as it stands. */
export function sealHeader(header: Uint8Array): Uint8Array {
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.set(utf8(`${sum.toString(8).padStart(6, "0")}\0 `), 148);
  return header;
}

/** Header, body and padding of one entry. */
export function tarPart(part: TarPart): Bytes {
  const body = typeof part.body === "string" ? utf8(part.body) : (part.body ?? new Uint8Array(0));
  const header = new Uint8Array(512);
  const put = (at: number, length: number, text: string): void => header.set(utf8(text).subarray(0, length), at);
  put(0, 100, part.name);
  put(100, 8, "0000644\0");
  put(108, 8, "0000000\0");
  put(116, 8, "0000000\0");
  put(124, 12, `${(part.size ?? body.length).toString(8).padStart(11, "0")}\0`);
  put(136, 12, "00000000000\0");
  put(156, 1, part.flag ?? "0");
  put(157, 100, part.linkname ?? "");
  put(257, 8, part.magic ?? posixMagic);
  put(345, 155, part.prefix ?? "");
  part.bend?.(header);
  const padding = new Uint8Array(-body.length & 511).fill(part.padding ?? 0);
  return concat(sealHeader(header), body, padding);
}

export const tarEnd = new Uint8Array(1024);

/** The parts, and the end of an archive behind them. */
export const tarOf = (...parts: readonly TarPart[]): Bytes => concat(...parts.map(tarPart), tarEnd);

/** `<length> <key>=<value>\n`, as a PAX header has it. */
export function paxRecord(key: string, value: string): string {
  const rest = utf8(` ${key}=${value}\n`).length;
  let length = rest + 1;
  while (length !== rest + String(length).length) length = rest + String(length).length;
  return `${length} ${key}=${value}\n`;
}

export const paxPart = (...records: readonly string[]): TarPart => ({
  name: "PaxHeader/x",
  flag: "x",
  body: records.join(""),
});
