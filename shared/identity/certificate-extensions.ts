// The extensions of a certificate (RFC 5280 4.2), read strictly. Called by the certificate's reader. What is processed may be
// critical; what is only read for its form may not; what would change a path and is not processed is refused either way.

import { bytesEqual } from "../contract/bytes.ts";
import { checkWellFormed, contextConstructed, contextTag, derTag, readWhole, type DerReader } from "./der.ts";
import { isDomain, nameConstraintsOf, type ConstrainedNames, type NameConstraints } from "./name-constraints.ts";
import { refuse } from "./refusal.ts";
import { spiffeIdOf, type SpiffeId } from "./spiffe-id.ts";

export interface Extensions {
  readonly isCa: boolean;
  readonly pathLengthMax: number | null;
  readonly keyUsage: KeyUsage | null;
  /** Dotted, or null where the extension is absent. */
  readonly extendedKeyUsages: readonly string[] | null;
  readonly alternativeNames: AlternativeNames | null;
  readonly nameConstraints: NameConstraints | null;
}

export interface KeyUsage {
  readonly isCritical: boolean;
  readonly digitalSignature: boolean;
  readonly keyCertSign: boolean;
  readonly cRLSign: boolean;
}

export interface AlternativeNames {
  readonly isCritical: boolean;
  /** Every URI is a SPIFFE ID. */
  readonly ids: readonly SpiffeId[];
  readonly constrained: ConstrainedNames;
}

const extensionsMax = 32;
const valuesMax = 64;

/** `list`: what stands in `[3]`. Throws a refusal. */
export function extensionsOf(list: Uint8Array): Extensions {
  const what = "the extensions";
  const found: { -readonly [Key in keyof Extensions]: Extensions[Key] } = {
    isCa: false,
    pathLengthMax: null,
    keyUsage: null,
    extendedKeyUsages: null,
    alternativeNames: null,
    nameConstraints: null,
  };
  const seen = new Set<string>();
  readWhole(list, what, (outer) =>
    outer.within(derTag.sequence, what, (all) => {
      if (all.isEmpty) refuse("RFC 5280 4.1.2.9", "the list of extensions is empty");
      all.each(extensionsMax, () => {
        const { oid, isCritical, value } = all.within(derTag.sequence, "an extension", readExtension);
        if (seen.has(oid)) refuse("RFC 5280 4.2", `the extension ${oid} is there twice`);
        seen.add(oid);
        switch (oid) {
          case "2.5.29.19":
            Object.assign(found, basicConstraintsOf(value));
            break;
          case "2.5.29.15":
            found.keyUsage = keyUsageOf(value, isCritical);
            break;
          case "2.5.29.37":
            found.extendedKeyUsages = objectIdentifiersOf(value, "the extended key usage");
            break;
          case "2.5.29.17":
            found.alternativeNames = alternativeNamesOf(value, isCritical);
            break;
          case "2.5.29.30":
            found.nameConstraints = nameConstraintsOf(value);
            break;
          default:
            readForm(oid, isCritical, value);
        }
      });
    }),
  );
  return found;
}

interface Extension {
  readonly oid: string;
  readonly isCritical: boolean;
  readonly value: Uint8Array;
}

function readExtension(reader: DerReader): Extension {
  const oid = reader.objectIdentifier();
  const isCritical = reader.isNext(derTag.boolean) && reader.boolean();
  return { oid, isCritical, value: reader.contents(derTag.octetString) };
}

const formReaders: Readonly<Record<string, (value: Uint8Array) => void>> = {
  "2.5.29.14": (value) =>
    readWhole(value, "the subject key identifier", (reader) => reader.contents(derTag.octetString)),
  "2.5.29.35": readAuthorityKeyIdentifier,
  "2.5.29.31": readDistributionPoints,
  "2.5.29.32": readPolicies,
  "1.3.6.1.5.5.7.1.1": readInformationAccess,
};
/** Policy mappings, policy constraints, inhibit anyPolicy: they change which paths hold. */
const unprocessed: ReadonlySet<string> = new Set(["2.5.29.33", "2.5.29.36", "2.5.29.54"]);

function readForm(oid: string, isCritical: boolean, value: Uint8Array): void {
  if (unprocessed.has(oid)) refuse("RFC 5280 4.2.1", `the extension ${oid} is not understood, and would matter`);
  if (isCritical) refuse("RFC 5280 4.2", `the extension ${oid} is critical, and not processed`);
  formReaders[oid]?.(value);
}

function basicConstraintsOf(value: Uint8Array): Pick<Extensions, "isCa" | "pathLengthMax"> {
  const what = "the basic constraints";
  return readWhole(value, what, (outer) =>
    outer.within(derTag.sequence, what, (reader) => {
      const isCa = reader.isNext(derTag.boolean) && reader.boolean();
      const pathLengthMax = reader.isNext(derTag.integer) ? reader.small(2 ** 31 - 1) : null;
      if (!isCa && pathLengthMax !== null) {
        refuse("RFC 5280 4.2.1.9", "there is a path length without the flag cA");
      }
      return { isCa, pathLengthMax };
    }),
  );
}

function keyUsageOf(value: Uint8Array, isCritical: boolean): KeyUsage {
  const bits = readWhole(value, "the key usage", (reader) => reader.bits());
  if (bits.size === 0) refuse("RFC 5280 4.2.1.3", "the key usage names no use");
  return { isCritical, digitalSignature: bits.has(0), keyCertSign: bits.has(5), cRLSign: bits.has(6) };
}

function objectIdentifiersOf(value: Uint8Array, what: string): string[] {
  const oids: string[] = [];
  readWhole(value, what, (outer) =>
    outer.within(derTag.sequence, what, (reader) => reader.each(valuesMax, () => oids.push(reader.objectIdentifier()))),
  );
  if (oids.length === 0) refuse("RFC 5280 4.2.1.12", `${what} is empty`);
  return oids;
}

function alternativeNamesOf(value: Uint8Array, isCritical: boolean): AlternativeNames {
  const what = "the subject alternative names";
  const ids: SpiffeId[] = [];
  const dns: string[] = [];
  let others = 0;
  readWhole(value, what, (outer) =>
    outer.within(derTag.sequence, what, (reader) => {
      if (reader.isEmpty) refuse("RFC 5280 4.2.1.6", `${what} are empty`);
      reader.each(valuesMax, () => {
        const { tag, contents } = reader.any();
        if (tag === contextTag(6)) ids.push(idOf(contents));
        else if (tag === contextTag(2)) dns.push(dnsNameOf(contents));
        else if (tag === contextTag(1)) {
          asciiOf(contents, "a mail address");
          others += 1;
        } else if (tag === contextTag(7)) {
          if (contents.length !== 4 && contents.length !== 16)
            refuse("RFC 5280 4.2.1.6", "an IP address has 4 or 16 bytes");
          others += 1;
        } else if (tag === contextConstructed(0) || tag === contextConstructed(4)) checkWellFormed(contents, what);
        else if (tag !== contextTag(8)) refuse("RFC 5280 4.2.1.6", `${what} have a kind that is not known`);
      });
    }),
  );
  return { isCritical, ids, constrained: { hosts: ids.map(({ trustDomain }) => trustDomain), dns, others } };
}

function idOf(contents: Uint8Array): SpiffeId {
  const id = spiffeIdOf(asciiOf(contents, "a URI"));
  // As Go: a host has no empty label, so that some trust domains live in JWT-SVIDs only.
  if (!isDomain(id.trustDomain)) refuse("RFC 5280 4.2.1.6", "the trust domain has an empty label");
  return id;
}

function dnsNameOf(contents: Uint8Array): string {
  const name = asciiOf(contents, "a DNS name");
  return isDomain(name) ? name : refuse("RFC 5280 4.2.1.6", "a DNS name is none");
}

function asciiOf(contents: Uint8Array, what: string): string {
  if (contents.length === 0 || contents.length > 2_048) refuse("RFC 5280 4.2.1.6", `${what} has 1 to 2048 characters`);
  if (contents.some((byte) => byte > 0x7f)) refuse("RFC 5280 4.2.1.6", `${what} is not ASCII`);
  return String.fromCharCode(...contents);
}

function readAuthorityKeyIdentifier(value: Uint8Array): void {
  const what = "the authority key identifier";
  readWhole(value, what, (outer) =>
    outer.within(derTag.sequence, what, (reader) => {
      if (reader.isNext(contextTag(0))) reader.any();
      if (reader.isNext(contextConstructed(1))) checkWellFormed(reader.any().contents, what);
      if (reader.isNext(contextTag(2))) reader.any();
    }),
  );
}

function readDistributionPoints(value: Uint8Array): void {
  const what = "the CRL distribution points";
  readWhole(value, what, (outer) =>
    outer.within(derTag.sequence, what, (list) => {
      list.each(valuesMax, () => {
        list.within(derTag.sequence, what, (point) => {
          if (point.isNext(contextConstructed(0))) {
            point.within(contextConstructed(0), what, (name) =>
              name.within(contextConstructed(0), what, (uris) =>
                uris.each(valuesMax, () => uris.contents(contextTag(6))),
              ),
            );
          }
          if (point.isNext(contextTag(1))) point.any();
          if (point.isNext(contextConstructed(2))) checkWellFormed(point.any().contents, what);
        });
      });
    }),
  );
}

function readPolicies(value: Uint8Array): void {
  const what = "the certificate policies";
  const seen: Uint8Array[] = [];
  readWhole(value, what, (outer) =>
    outer.within(derTag.sequence, what, (list) => {
      list.each(valuesMax, () => {
        list.within(derTag.sequence, what, (policy) => {
          const { whole } = policy.element(derTag.objectIdentifier);
          readWhole(whole, what, (reader) => reader.objectIdentifier());
          if (seen.some((other) => bytesEqual(other, whole))) refuse("RFC 5280 4.2.1.4", "a policy is there twice");
          seen.push(whole);
          if (policy.isNext(derTag.sequence)) checkWellFormed(policy.any().contents, what);
        });
      });
    }),
  );
}

function readInformationAccess(value: Uint8Array): void {
  const what = "the authority information access";
  readWhole(value, what, (outer) =>
    outer.within(derTag.sequence, what, (list) => {
      list.each(valuesMax, () => {
        list.within(derTag.sequence, what, (description) => {
          description.objectIdentifier();
          const { tag, contents } = description.any();
          if ((tag & 0x20) !== 0) checkWellFormed(contents, what);
        });
      });
    }),
  );
}
