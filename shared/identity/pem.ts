// Certificates in PEM (RFC 7468): the text around blocks is passed over, blocks of any other kind are not. Called by
// `maestro svid` and by tests of vectors.

import { base64, base64Bytes, type Bytes } from "../contract/bytes.ts";
import { checkedNow, refuse, type Checked } from "./refusal.ts";

const textCharactersMax = 262_144;
const begin = "-----BEGIN CERTIFICATE-----";
const end = "-----END CERTIFICATE-----";

/** 64 characters a line. */
export const pemOfCertificates = (chain: readonly Uint8Array[]): string =>
  chain.map((der) => `${begin}\n${(base64(der).match(/.{1,64}/g) ?? []).join("\n")}\n${end}\n`).join("");

/** The DER of each certificate in the order of the text. Refused where there is none, or something beside certificates. */
export const certificatesInPem = (text: string): Checked<Bytes[]> => checkedNow(() => blocksOf(text));

function blocksOf(text: string): Bytes[] {
  if (text.length > textCharactersMax) refuse("bounds", `the PEM text has more than ${textCharactersMax} characters`);
  const blocks: Bytes[] = [];
  let lines: string[] | null = null;
  for (const line of text.split(/\r?\n/).map((each) => each.trimEnd())) {
    if (line === begin && lines === null) lines = [];
    else if (line === end && lines !== null) {
      blocks.push(decoded(lines.join("")));
      lines = null;
    } else if (line.startsWith("-----")) refuse("RFC 7468 2", "there is a line of PEM that belongs to no certificate");
    else lines?.push(line);
  }
  if (lines !== null) refuse("RFC 7468 2", "the last certificate has no end");
  if (blocks.length === 0) refuse("RFC 7468 2", "there is no certificate in PEM");
  return blocks;
}

function decoded(text: string): Bytes {
  try {
    return base64Bytes(text);
  } catch {
    return refuse("RFC 7468 3", "a certificate is not base64");
  }
}
