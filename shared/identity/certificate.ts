// An X.509 certificate (RFC 5280 4.1), read strictly from its DER: what Go's x509 refuses is refused here, and so is every
// spare byte. Called for SVIDs and for the authorities of a trust bundle. Nothing is verified here, only read.

import { bytesEqual } from "../contract/bytes.ts";
import { keyOf, signatureAlgorithmOf, type CertificateKey, type SignatureAlgorithm } from "./certificate-key.ts";
import { extensionsOf, type Extensions } from "./certificate-extensions.ts";
import { contextConstructed, derTag, readWhole, type DerReader } from "./der.ts";
import { refuse } from "./refusal.ts";

export interface Certificate {
  readonly der: Uint8Array;
  /** What is signed. */
  readonly signedBytes: Uint8Array;
  /** Null for an algorithm that is not taken: an authority's own signature does not matter. */
  readonly signatureAlgorithm: SignatureAlgorithm | null;
  readonly signature: Uint8Array;
  /** Names in DER, compared byte by byte (RFC 5280 7.1 would allow more, Go does not). */
  readonly issuer: Uint8Array;
  readonly subject: Uint8Array;
  readonly hasSubject: boolean;
  /** Milliseconds since 1970 UTC; both ends are within. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array;
  readonly key: CertificateKey;
  readonly extensions: Extensions;
}

export const certificateBytesMax = 16_384;
const serialBytesMax = 20;
const nameAttributesMax = 32;

/** Throws a refusal. */
export function certificateOf(der: Uint8Array): Certificate {
  if (der.length > certificateBytesMax) refuse("bounds", `a certificate has at most ${certificateBytesMax} bytes`);
  const what = "the certificate";
  return readWhole(der, what, (outer) =>
    outer.within(derTag.sequence, what, (all) => {
      const { contents, whole } = all.element(derTag.sequence);
      const algorithm = all.contents(derTag.sequence);
      const signature = all.wholeBytes();
      const body = readWhole(contents, "the signed part", bodyOf);
      if (!bytesEqual(algorithm, body.algorithm)) {
        refuse("RFC 5280 4.1.1.2", "the certificate names two algorithms of its signature");
      }
      const signatureAlgorithm = signatureAlgorithmOf(algorithm);
      return { ...body.fields, der, signedBytes: whole, signatureAlgorithm, signature };
    }),
  );
}

interface Body {
  readonly algorithm: Uint8Array;
  readonly fields: Omit<Certificate, "der" | "signedBytes" | "signatureAlgorithm" | "signature">;
}

function bodyOf(body: DerReader): Body {
  // Without version 3 there are no extensions, and so no SPIFFE ID and no CA.
  const version = body.isNext(contextConstructed(0))
    ? body.within(contextConstructed(0), "the version", (reader) => reader.small(255))
    : 0;
  if (version !== 2) refuse("RFC 5280 4.1.2.1", "the certificate is not of version 3");
  if (body.unsigned().length > serialBytesMax) {
    refuse("RFC 5280 4.1.2.2", `the serial number has more than ${serialBytesMax} bytes`);
  }
  const algorithm = body.contents(derTag.sequence);
  const issuer = body.element(derTag.sequence);
  readName(issuer.contents, "the issuer");
  const [notBeforeMs, notAfterMs] = body.within(
    derTag.sequence,
    "the validity",
    (reader) => [timeOf(reader), timeOf(reader)] as const,
  );
  const subject = body.element(derTag.sequence);
  readName(subject.contents, "the subject");
  const { whole: spki } = body.element(derTag.sequence);
  const key = keyOf(spki);
  if (!body.isNext(contextConstructed(3))) refuse("RFC 5280 4.1.2.9", "the certificate has no extensions");
  const extensions = extensionsOf(body.contents(contextConstructed(3)));
  const names = { issuer: issuer.whole, subject: subject.whole, hasSubject: subject.contents.length > 0 };
  return { algorithm, fields: { ...names, notBeforeMs, notAfterMs, spki, key, extensions } };
}

function readName(contents: Uint8Array, what: string): void {
  readWhole(contents, what, (name) =>
    name.each(nameAttributesMax, () => {
      name.within(derTag.set, what, (set) => {
        if (set.isEmpty) refuse("RFC 5280 4.1.2.4", `${what} has an empty part`);
        set.each(nameAttributesMax, () => {
          set.within(derTag.sequence, what, (attribute) => {
            attribute.objectIdentifier();
            const { tag, contents: text } = attribute.any();
            if (!isText(tag, text)) refuse("RFC 5280 4.1.2.4", `${what} has text that is none`);
          });
        });
      });
    }),
  );
}

/** The kinds of text in use. (T61String, BMPString and UniversalString are not taken.) */
function isText(tag: number, text: Uint8Array): boolean {
  if (tag === derTag.utf8String) {
    try {
      new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text);
      return true;
    } catch {
      return false;
    }
  }
  const ascii = String.fromCharCode(...text.subarray(0, certificateBytesMax));
  if (tag === derTag.printableString) return /^[A-Za-z0-9 '()+,\-./:=?*&]*$/.test(ascii);
  if (tag === derTag.numericString) return /^[0-9 ]*$/.test(ascii);
  // oxlint-disable-next-line no-control-regex
  return tag === derTag.ia5String && /^[\x00-\x7f]*$/.test(ascii);
}

/** RFC 5280 4.1.2.5: seconds, in UTC, without fractions. */
function timeOf(reader: DerReader): number {
  const { tag, contents } = reader.any();
  const text = String.fromCharCode(...contents.subarray(0, 16));
  const isLong = tag === derTag.generalizedTime;
  if (!isLong && tag !== derTag.utcTime) refuse("RFC 5280 4.1.2.5", "the validity has something else than two times");
  const match = (
    isLong ? /^(\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/ : /^(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z$/
  ).exec(text);
  if (match === null) refuse("RFC 5280 4.1.2.5", "a time is not written in seconds and UTC");
  const [first = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1).map(Number);
  const year = isLong ? first : first < 50 ? 2000 + first : 1900 + first;
  const ms = Date.UTC(year, month - 1, day, hour, minute, second);
  const back = new Date(ms);
  const isReal =
    year >= 1950 &&
    back.getUTCMonth() === month - 1 &&
    back.getUTCDate() === day &&
    hour < 24 &&
    minute < 60 &&
    second < 60;
  return isReal ? ms : refuse("RFC 5280 4.1.2.5", "there is no such time");
}
