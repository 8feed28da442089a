// Name constraints (RFC 5280 4.2.1.10) as far as Go's x509 goes, which go-spiffe builds on: URI and DNS names by domain. Forms
// that are not understood are refused with the certificate that has them. Called by the certificate's reader and by path
// building.

import { contextConstructed, contextTag, derTag, readWhole, type DerReader } from "./der.ts";
import { refuse } from "./refusal.ts";

export interface NameConstraints {
  readonly permitted: Subtrees;
  readonly excluded: Subtrees;
}

/** Domains in lower case. One with a dot in front covers what is below it, but not itself; an empty one covers all. */
interface Subtrees {
  readonly uri: readonly string[];
  readonly dns: readonly string[];
}

/** What a certificate's subjectAltName says, as far as constraints look at it. */
export interface ConstrainedNames {
  /** Trust domains of its URIs. */
  readonly hosts: readonly string[];
  readonly dns: readonly string[];
  /** Mail addresses and IP addresses: how many. */
  readonly others: number;
}

const section = "RFC 5280 4.2.1.10";
const subtreesMax = 64;

/** `value`: what the extension contains. Throws a refusal. */
export function nameConstraintsOf(value: Uint8Array): NameConstraints {
  const what = "the name constraints";
  return readWhole(value, what, (outer) =>
    outer.within(derTag.sequence, what, (inner) => {
      const permitted = subtreesOf(inner, 0);
      const excluded = subtreesOf(inner, 1);
      if (permitted === null && excluded === null) refuse(section, "the name constraints are empty");
      const none = { uri: [], dns: [] };
      return { permitted: permitted ?? none, excluded: excluded ?? none };
    }),
  );
}

function subtreesOf(reader: DerReader, number: number): Subtrees | null {
  if (!reader.isNext(contextConstructed(number))) return null;
  const uri: string[] = [];
  const dns: string[] = [];
  reader.within(contextConstructed(number), "the name constraints", (list) => {
    if (list.isEmpty) refuse(section, "a list of name constraints is empty");
    list.each(subtreesMax, () => {
      list.within(derTag.sequence, "a name constraint", (subtree) => {
        const { tag, contents } = subtree.any();
        if (tag === contextTag(6)) uri.push(domainOf(contents));
        else if (tag === contextTag(2)) dns.push(domainOf(contents));
        else refuse(section, "a name constraint is neither of URIs nor of DNS names, and is not understood");
      });
    });
  });
  return { uri, dns };
}

function domainOf(contents: Uint8Array): string {
  const text = String.fromCharCode(...contents.subarray(0, 256)).toLowerCase();
  const name = text.startsWith(".") ? text.slice(1) : text;
  if (text !== "" && (!isDomain(name) || isAddress(name))) refuse(section, "a name constraint is no domain");
  return text;
}

/** What Go's x509 takes as a domain, and a little less. */
export const isDomain = (text: string): boolean =>
  /^[A-Za-z0-9_*-]+(?:\.[A-Za-z0-9_*-]+)*$/.test(text) && text.length <= 255;
/** What some reader might take for an IPv4 address. */
const isAddress = (text: string): boolean => /^[0-9]+(?:\.[0-9]+)*$/.test(text);

/** Throws a refusal where a name is outside of what `constraints` of a certificate above allow. */
export function checkConstrained(constraints: NameConstraints, names: ConstrainedNames): void {
  if (names.others > 0) refuse(section, "names of mail or IP addresses under name constraints are not understood");
  for (const host of names.hosts) {
    if (isAddress(host)) refuse(section, `${host} could be an IP address, which no URI constraint covers`);
    checkName("trust domain", host, constraints.permitted.uri, constraints.excluded.uri);
  }
  for (const name of names.dns) {
    if (name.startsWith("*") && constraints.excluded.dns.length > 0) {
      refuse(section, "a wildcard under constraints that exclude DNS names is not understood");
    }
    checkName("DNS name", name.toLowerCase(), constraints.permitted.dns, constraints.excluded.dns);
  }
}

function checkName(kind: string, name: string, permitted: readonly string[], excluded: readonly string[]): void {
  if (permitted.length > 0 && !permitted.some((domain) => covers(domain, name))) {
    refuse(section, `the ${kind} ${name} is not among those permitted`);
  }
  if (excluded.some((domain) => covers(domain, name))) refuse(section, `the ${kind} ${name} is excluded`);
}

function covers(domain: string, name: string): boolean {
  if (domain === "") return true;
  if (domain.startsWith(".")) return name.endsWith(domain) && name.length > domain.length;
  return name === domain || name.endsWith(`.${domain}`);
}
