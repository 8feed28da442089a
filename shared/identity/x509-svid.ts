// X.509-SVIDs, verified to the letter of X509-SVID and RFC 5280 against one trust domain's bundle at a given time. Called
// through svid-cache.ts, and by `maestro svid verify`. What go-spiffe refuses is refused here
// (test/interop/spiffe-fuzz.test.ts).

import { bytesEqual } from "../contract/bytes.ts";
import { x509AuthorityKid } from "./authorities.ts";
import { certificateOf, type Certificate } from "./certificate.ts";
import { isSignedBy, isUsableKey } from "./certificate-key.ts";
import { checkConstrained } from "./name-constraints.ts";
import { checked, checkedNow, refuse, type Checked, type Refusal } from "./refusal.ts";
import type { SpiffeId } from "./spiffe-id.ts";
import { checkSigning, hasBothSides, type TrustBundle } from "./trust-bundle.ts";

export interface X509Svid {
  readonly id: SpiffeId;
  /** While all certificates of the path are valid, both ends included; milliseconds since 1970 UTC. */
  readonly fromMs: number;
  readonly untilMs: number;
  /** The leaf's own end. */
  readonly leafUntilMs: number;
  /** SubjectPublicKeyInfo of the leaf, in DER. */
  readonly spki: Uint8Array;
  /** The authority at the end of its path: authorities.ts says what it is called. */
  readonly authority: string;
}

/** The leaf and what its holder sends with it. */
export const chainCertificatesMax = 8;
/** Go's bound is 100; no chain of 8 that its holder means needs more than this. */
const signatureChecksMax = 32;

/** `chain`: DER, the leaf first, then signing certificates in any order. */
export const verifyX509Svid = (
  chain: readonly Uint8Array[],
  bundle: TrustBundle,
  now: number,
): Promise<Checked<X509Svid>> =>
  checked(async () => {
    const [leafDer, ...others] = chain;
    if (leafDer === undefined) refuse("X509-SVID 5.1", "there is no certificate");
    if (chain.length > chainCertificatesMax)
      refuse("bounds", `a chain has at most ${chainCertificatesMax} certificates`);
    const leaf = certificateOf(leafDer);
    const id = leafIdOf(leaf);
    if (id.trustDomain !== bundle.trustDomain) {
      refuse(
        "SPIFFE Trust Domain and Bundle 3",
        `the SVID is of ${id.trustDomain}, the bundle of ${bundle.trustDomain}`,
      );
    }
    const intermediates = others.map((der) => intermediateOf(der, bundle));
    if (!(await isUsableKey(leaf.spki, leaf.key))) refuse("RFC 5480 2.2", "the leaf's key is not on its curve");
    checkTime(leaf, "the leaf", now);
    const path = await pathOf(leaf, intermediates, bundle, now);
    return {
      id,
      fromMs: Math.max(...path.map(({ notBeforeMs }) => notBeforeMs)),
      untilMs: Math.min(...path.map(({ notAfterMs }) => notAfterMs)),
      leafUntilMs: leaf.notAfterMs,
      spki: leaf.spki,
      authority: await x509AuthorityKid(path.at(-1)!.spki),
    };
  });

/** X509-SVID 2, 3.1, 4 and 5.2. */
function leafIdOf({ extensions, hasSubject }: Certificate): SpiffeId {
  const { isCa, keyUsage, extendedKeyUsages, nameConstraints } = extensions;
  const names = extensions.alternativeNames;
  const [id, second] = names?.ids ?? [];
  if (names === null || id === undefined) refuse("X509-SVID 2", "the leaf has no URI");
  if (second !== undefined) refuse("X509-SVID 2", "the leaf has more than one URI");
  if (id.path === "") refuse("X509-SVID 3.1", "the leaf's SPIFFE ID has no path");
  if (!hasSubject && !names.isCritical) {
    refuse("X509-SVID 3.1", "the leaf has no subject, and its alternative names are not critical");
  }
  if (isCa) refuse("X509-SVID 4.1", "the leaf is a CA");
  if (nameConstraints !== null) refuse("X509-SVID 4.2", "the leaf has name constraints, as only a CA has");
  if (keyUsage === null) refuse("X509-SVID 4.3", "the leaf has no key usage");
  if (!keyUsage.isCritical) refuse("X509-SVID 4.3", "the leaf's key usage is not critical");
  if (keyUsage.keyCertSign) refuse("X509-SVID 4.3", "the leaf may sign certificates");
  if (keyUsage.cRLSign) refuse("X509-SVID 4.3", "the leaf may sign revocation lists");
  if (!keyUsage.digitalSignature) refuse("X509-SVID 4.3", "the leaf may not sign");
  if (extendedKeyUsages !== null && !hasBothSides(extendedKeyUsages)) {
    refuse("X509-SVID 4.4", "the leaf's extended key usage is not for servers and clients both");
  }
  return id;
}

/** Every certificate that is sent must be what it claims to be, needed or not. */
function intermediateOf(der: Uint8Array, bundle: TrustBundle): Certificate {
  const certificate = certificateOf(der);
  checkSigning(certificate, "an intermediate");
  const [id] = certificate.extensions.alternativeNames?.ids ?? [];
  if (id !== undefined && id.trustDomain !== bundle.trustDomain) {
    refuse("X509-SVID 3.2", "an intermediate is of another trust domain");
  }
  return certificate;
}

function checkTime({ notBeforeMs, notAfterMs }: Certificate, what: string, now: number): void {
  if (now < notBeforeMs) refuse("RFC 5280 4.1.2.5", `${what} is valid from ${timeText(notBeforeMs)} only`);
  // Not `now > notAfterMs`: what is no number is no time.
  if (!(now <= notAfterMs)) refuse("RFC 5280 4.1.2.5", `${what} has expired at ${timeText(notAfterMs)}`);
}

const timeText = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** A path from the leaf to an authority (RFC 5280 6.1): depth first, authorities before intermediates. */
async function pathOf(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  bundle: TrustBundle,
  now: number,
): Promise<readonly Certificate[]> {
  let checks = 0;
  let hint: Refusal | null = null;

  const isParent = async (path: readonly Certificate[], parent: Certificate): Promise<boolean> => {
    const child = path.at(-1)!;
    if (!bytesEqual(child.issuer, parent.subject) || path.some((each) => isSame(each, parent))) return false;
    const fits = checkedNow(() => checkAbove(path, parent, now));
    if (!fits.ok) {
      hint ??= fits.refusal;
      return false;
    }
    checks += 1;
    if (checks > signatureChecksMax)
      refuse("bounds", `the chain asks for more than ${signatureChecksMax} signature checks`);
    const { signatureAlgorithm: algorithm, signedBytes: bytes, signature } = child;
    if (algorithm !== null && (await isSignedBy(parent.spki, parent.key, { algorithm, bytes, signature }))) return true;
    const what = algorithm === null ? "is of a kind that is not taken" : "does not hold";
    hint ??= {
      section: "RFC 5280 6.1.3",
      reason: `the signature on ${path.length === 1 ? "the leaf" : "an intermediate"} ${what}`,
    };
    return false;
  };

  const search = async (path: readonly Certificate[]): Promise<readonly Certificate[] | null> => {
    for (const authority of bundle.authorities) {
      if (!(await isParent(path, authority))) continue;
      const whole = [...path, authority];
      const constrained = checkedNow(() => checkConstraints(whole));
      if (constrained.ok) return whole;
      hint ??= constrained.refusal;
    }
    for (const intermediate of intermediates) {
      if (!(await isParent(path, intermediate))) continue;
      const found = await search([...path, intermediate]);
      if (found !== null) return found;
    }
    return null;
  };

  const path = await search([leaf]);
  if (path !== null) return path;
  const { section, reason }: Refusal = hint ?? {
    section: "X509-SVID 5.1",
    reason: `no path leads to an authority of ${bundle.trustDomain}`,
  };
  return refuse(section, reason);
}

/** RFC 5280 6.1.4 of a certificate above `path`; that it is a signing certificate was checked when it was read. */
function checkAbove(path: readonly Certificate[], parent: Certificate, now: number): void {
  checkTime(parent, "a signing certificate", now);
  const { pathLengthMax } = parent.extensions;
  // As Go: a self-issued certificate counts too.
  if (pathLengthMax !== null && path.length - 1 > pathLengthMax) {
    refuse("X509-SVID 4.1", `the path is longer than a signing certificate allows, which is ${pathLengthMax}`);
  }
}

const isSame = (left: Certificate, right: Certificate): boolean =>
  bytesEqual(left.subject, right.subject) && bytesEqual(left.spki, right.spki);

/** X509-SVID 4.2: what a certificate constrains, all below it keep. */
function checkConstraints(path: readonly Certificate[]): void {
  for (const [index, { extensions }] of path.entries()) {
    if (extensions.nameConstraints === null) continue;
    for (const below of path.slice(0, index)) {
      const names = below.extensions.alternativeNames;
      if (names !== null) checkConstrained(extensions.nameConstraints, names.constrained);
    }
  }
}
