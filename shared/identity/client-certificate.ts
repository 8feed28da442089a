// The client certificate that a request came with, as the platform tells it in `request.cf.tlsClientAuth` (in the form of
// RFC 9440). Called by the API's door and by provider A's edge. Whether it is an SVID is verified afterwards, against our own
// bundle: the platform also tells of certificates that it did not believe. Headers are never read for it: anybody can send them.

import { base64Bytes, type Bytes } from "../contract/bytes.ts";
import { checkedNow, refuse, type Checked } from "./refusal.ts";
import { membersOf } from "./strict-json.ts";
import { chainCertificatesMax } from "./x509-svid.ts";

/** Of one certificate in base64; the platform leaves out a leaf above 10 kB and a chain above 16 kB, and says so. */
const textCharactersMax = 21_848;

/** DER, the leaf first; null where the client sent no certificate. */
export function clientCertificateChain(tlsClientAuth: unknown): Checked<Bytes[]> | null {
  const said = membersOf(tlsClientAuth);
  if (said === null) return null;
  const { certRFC9440: leaf = "", certRFC9440TooLarge, certChainRFC9440: chain = "", certChainRFC9440TooLarge } = said;
  if (leaf === "" && certRFC9440TooLarge !== true) return null;
  return checkedNow(() => {
    if (certRFC9440TooLarge === true || certChainRFC9440TooLarge === true) {
      refuse("bounds", "the certificate, or its chain, is larger than the platform hands on");
    }
    if (typeof leaf !== "string" || typeof chain !== "string") refuse("RFC 9440 2.2", "the certificate is no text");
    const others = chain === "" ? [] : chain.split(",", chainCertificatesMax + 1);
    if (others.length >= chainCertificatesMax) {
      refuse("bounds", `a chain has at most ${chainCertificatesMax} certificates`);
    }
    return [leaf, ...others].map(certificateIn);
  });
}

/** RFC 8941 3.3.5: base64 between two colons, in its one spelling. */
function certificateIn(item: string): Bytes {
  const match = /^[ \t]*:([A-Za-z0-9+/=]+):[ \t]*$/.exec(item.length > textCharactersMax ? "" : item);
  try {
    return base64Bytes(match?.[1] ?? "-");
  } catch {
    return refuse("RFC 9440 2.1", "a certificate is not base64 between two colons");
  }
}
