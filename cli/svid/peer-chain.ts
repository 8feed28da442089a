// The certificates that a TLS server sent. For clients that know their servers by SVIDs.

import type { DetailedPeerCertificate, TLSSocket } from "node:tls";
import { chainCertificatesMax } from "../../shared/identity/x509-svid.ts";

/** The leaf first. */
export function chainOf(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = [];
  let certificate: DetailedPeerCertificate | undefined = socket.getPeerCertificate(true);
  while (certificate?.raw !== undefined && chain.length < chainCertificatesMax) {
    chain.push(new Uint8Array(certificate.raw));
    const issuer: DetailedPeerCertificate | undefined = certificate.issuerCertificate;
    certificate = issuer === certificate ? undefined : issuer;
  }
  return chain;
}
