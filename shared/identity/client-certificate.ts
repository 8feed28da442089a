// The certificates that a client presented, as the platform hands them to a Worker: `request.cf.tlsClientAuth`. Called by the API's
// door. What the platform found out about them is not asked: they are verified against our own bundles. No header is read here.

import { base64Bytes, type Bytes } from "../contract/bytes.ts";
import { checkedNow, refuse, type Checked } from "./refusal.ts";
import { chainCertificatesMax } from "./x509-svid.ts";

/** DER, the leaf first. Null: none was presented. `tls`: as the platform has it, or anything. */
export function presentedChain(tls: unknown): Checked<readonly Bytes[]> | null {
  if (typeof tls !== "object" || tls === null) return null;
  const { certPresented, certRFC9440, certRFC9440TooLarge, certChainRFC9440, certChainRFC9440TooLarge } =
    tls as Readonly<Record<string, unknown>>;
  if (certPresented !== "1") return null;
  return checkedNow(() => {
    if (certRFC9440TooLarge === true) refuse("bounds", "the certificate is larger than the platform hands on");
    if (certChainRFC9440TooLarge === true) refuse("bounds", "the chain is larger than the platform hands on");
    const chain = typeof certChainRFC9440 === "string" ? certChainRFC9440 : "";
    const others = chain === "" ? [] : chain.split(",", chainCertificatesMax + 1);
    return [
      byteSequence(typeof certRFC9440 === "string" ? certRFC9440 : ""),
      ...others.map((item) => byteSequence(item.replaceAll(/^[ \t]+|[ \t]+$/g, ""))),
    ];
  });
}

/** RFC 8941 3.3.5: base64 between colons. */
function byteSequence(item: string): Bytes {
  const text = /^:([A-Za-z0-9+/=]+):$/.exec(item)?.[1];
  if (text === undefined) refuse("RFC 9440 2.1", "a certificate is not a byte sequence");
  try {
    return base64Bytes(text);
  } catch {
    return refuse("RFC 9440 2.1", "a certificate is not base64");
  }
}
