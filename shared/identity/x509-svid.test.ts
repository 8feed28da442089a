// X.509-SVIDs of our own make: good ones, and for each rule one that breaks it and nothing else. (test/interop has go-spiffe.)

import { beforeAll, describe, expect, test } from "vitest";
import { concat, hexBytes, type Bytes } from "../contract/bytes.ts";
import { bitString, boolean, integer, nul, octets, oid, sequence, set, text, time, tlv } from "./issue/der-writer.ts";
import {
  alternativeNames,
  basicConstraints,
  dns,
  extendedKeyUsage,
  keyUsage,
  nameOf,
  uri,
  usageOids,
  writeCertificate,
  type ExtensionOf,
} from "./issue/certificate-writer.ts";
import {
  authorityEntry,
  bundleDocument,
  leafExtensions,
  madeAtMs,
  minuteMs,
  nameConstraints,
  newAuthority,
  newKeys,
  newLeaf,
  partsOf,
  signatureIdentifiers,
  signWith,
  signedAgain,
  type Authority,
  type AuthorityOptions,
  type KeyPair,
  type LeafOptions,
} from "../../test/support/svid.ts";
import { parseTrustDomain, type TrustDomain } from "./spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";
import { chainCertificatesMax, verifyX509Svid } from "./x509-svid.ts";

const id = "spiffe://td.example/api";
const now = madeAtMs + minuteMs;
let keys: KeyPair;
let root: Authority;
let bundle: TrustBundle;

function domain(name: string): TrustDomain {
  const parsed = parseTrustDomain(name);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

async function bundleOf(...authorities: readonly Authority[]): Promise<TrustBundle> {
  const document = bundleDocument(authorities.map(authorityEntry));
  const parsed = await parseTrustBundle(domain("td.example"), document);
  if (!parsed.ok) throw new Error(`${parsed.refusal.section}: ${parsed.refusal.reason}`);
  return parsed.value;
}

beforeAll(async () => {
  keys = await newKeys("P-256");
  root = await newAuthority("td.example");
  bundle = await bundleOf(root);
});

async function sectionOf(chain: readonly Uint8Array[], at = now, trusted = bundle): Promise<string> {
  const verified = await verifyX509Svid(chain, trusted, at);
  return verified.ok ? "taken" : verified.refusal.section;
}
const leafOf = (options: LeafOptions = {}, signer: Authority = root): Promise<Bytes> =>
  newLeaf(signer, id, { keys, ...options });
/** A leaf's extensions with one of them replaced, or left out. */
function extensionsWith(...changed: readonly ExtensionOf[]): ExtensionOf[] {
  const names = changed.map(({ oid: name }) => name);
  return [...leafExtensions(id).filter(({ oid: name }) => !names.includes(name)), ...changed];
}
const without = (left: string): ExtensionOf[] => leafExtensions(id).filter(({ oid: name }) => name !== left);
const names = (...list: readonly Uint8Array[]): ExtensionOf => alternativeNames(list);

test("a leaf under an authority, and one under an intermediate, hold; the answer says who, and for how long", async () => {
  expect(await verifyX509Svid([await leafOf()], bundle, now)).toMatchObject({
    ok: true,
    value: {
      id: { uri: id, trustDomain: "td.example", path: "/api" },
      fromMs: madeAtMs,
      untilMs: madeAtMs + 60 * minuteMs,
      spki: keys.spki,
    },
  });
  const between = await newAuthority("td.example", { notAfterMs: madeAtMs + 30 * minuteMs }, root);
  expect(await verifyX509Svid([await leafOf({}, between), between.der], bundle, now)).toMatchObject({
    ok: true,
    value: { untilMs: madeAtMs + 30 * minuteMs, leafUntilMs: madeAtMs + 60 * minuteMs },
  });
});

test("one RSA key signs by whichever hash, and is taken by each", async () => {
  const rsa = await newAuthority("td.example", { type: "RSA-2048" });
  const trusted = await bundleOf(rsa);
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", rsa.keys.privateKey);
  for (const [hash, last] of [
    ["SHA-512", 13],
    ["SHA-384", 12],
    ["SHA-256", 11],
  ] as const) {
    const algorithm = { name: "RSASSA-PKCS1-v1_5", hash };
    const privateKey = await crypto.subtle.importKey("pkcs8", pkcs8, algorithm, false, ["sign"]);
    const leaf = await writeCertificate(
      {
        serial: hexBytes("01"),
        issuer: rsa.name,
        subject: "workload",
        notBeforeMs: madeAtMs,
        notAfterMs: madeAtMs + 60 * minuteMs,
        spki: keys.spki,
        extensions: leafExtensions(id),
      },
      {
        identifier: sequence(oid(`1.2.840.113549.1.1.${last}`), nul),
        sign: async (bytes) => new Uint8Array(await crypto.subtle.sign(algorithm, privateKey, new Uint8Array(bytes))),
      },
    );
    expect([hash, await sectionOf([leaf], now, trusted)]).toEqual([hash, "taken"]);
  }
});

test("intermediates may come in any order, and one too many does no harm", async () => {
  const first = await newAuthority("td.example", { name: "first" }, root);
  const second = await newAuthority("td.example", { name: "second" }, first);
  const other = await newAuthority("td.example", { name: "other" }, root);
  const leaf = await leafOf({}, second);
  expect(await sectionOf([leaf, first.der, other.der, second.der])).toBe("taken");
  expect(await sectionOf([leaf, second.der])).toBe("X509-SVID 5.1");
});

describe("a leaf is refused", () => {
  test.each<[why: string, section: string, options: () => LeafOptions]>([
    ["without any alternative names", "X509-SVID 2", () => ({ extensions: without("2.5.29.17") })],
    ["without a URI", "X509-SVID 2", () => ({ extensions: extensionsWith(names(dns("api.example"))) })],
    ["with two URIs", "X509-SVID 2", () => ({ extensions: extensionsWith(names(uri(id), uri(`${id}2`))) })],
    ["with the same URI twice", "X509-SVID 2", () => ({ extensions: extensionsWith(names(uri(id), uri(id))) })],
    [
      "with a URI that is no SPIFFE ID",
      "SPIFFE-ID 2",
      () => ({ extensions: extensionsWith(names(uri("https://a/b"))) }),
    ],
    [
      "with a SPIFFE ID and another URI",
      "SPIFFE-ID 2",
      () => ({ extensions: extensionsWith(names(uri(id), uri("urn:x"))) }),
    ],
    [
      "with an ID without a path",
      "X509-SVID 3.1",
      () => ({ extensions: extensionsWith(names(uri("spiffe://td.example"))) }),
    ],
    ["with an ID that ends in a slash", "SPIFFE-ID 2.2", () => ({ extensions: extensionsWith(names(uri(`${id}/`))) })],
    ["with a percent in its ID", "SPIFFE-ID 2.2", () => ({ extensions: extensionsWith(names(uri(`${id}%41`))) })],
    ["with a NUL in its ID", "SPIFFE-ID 2.2", () => ({ extensions: extensionsWith(names(uri(`${id}\0`))) })],
    [
      "of another trust domain",
      "SPIFFE Trust Domain and Bundle 3",
      () => ({ extensions: extensionsWith(names(uri("spiffe://other.example/api"))) }),
    ],
    [
      "of a trust domain with an empty label",
      "RFC 5280 4.2.1.6",
      () => ({ extensions: extensionsWith(names(uri("spiffe://td..example/api"))) }),
    ],
    ["without a subject and without critical names", "X509-SVID 3.1", () => ({ subject: "" })],
    ["that is a CA", "X509-SVID 4.1", () => ({ extensions: extensionsWith(basicConstraints(true)) })],
    [
      "with a path length and no flag cA",
      "RFC 5280 4.2.1.9",
      () => ({ extensions: extensionsWith(basicConstraints(false, 1)) }),
    ],
    ["with name constraints", "X509-SVID 4.2", () => ({ moreExtensions: [nameConstraints([uri("td.example")])] })],
    ["without a key usage", "X509-SVID 4.3", () => ({ extensions: without("2.5.29.15") })],
    [
      "with a key usage that is not critical",
      "X509-SVID 4.3",
      () => ({ extensions: extensionsWith(keyUsage([0], false)) }),
    ],
    ["that may not sign", "X509-SVID 4.3", () => ({ extensions: extensionsWith(keyUsage([2])) })],
    ["that may sign certificates", "X509-SVID 4.3", () => ({ extensions: extensionsWith(keyUsage([0, 5])) })],
    ["that may sign revocation lists", "X509-SVID 4.3", () => ({ extensions: extensionsWith(keyUsage([0, 6])) })],
    ["with a key usage of nothing", "RFC 5280 4.2.1.3", () => ({ extensions: extensionsWith(keyUsage([])) })],
    [
      "for servers only",
      "X509-SVID 4.4",
      () => ({ extensions: extensionsWith(extendedKeyUsage(usageOids.serverAuth)) }),
    ],
    [
      "for clients only",
      "X509-SVID 4.4",
      () => ({ extensions: extensionsWith(extendedKeyUsage(usageOids.clientAuth)) }),
    ],
    [
      "for any use instead of both",
      "X509-SVID 4.4",
      () => ({ extensions: extensionsWith(extendedKeyUsage("2.5.29.37.0")) }),
    ],
    [
      "with an empty extended key usage",
      "RFC 5280 4.2.1.12",
      () => ({ extensions: extensionsWith(extendedKeyUsage()) }),
    ],
    ["with an extension twice", "RFC 5280 4.2", () => ({ moreExtensions: [keyUsage([0])] })],
    [
      "with an unknown critical extension",
      "RFC 5280 4.2",
      () => ({ moreExtensions: [{ oid: "1.2.3.4", critical: true, value: nul }] }),
    ],
    [
      "with a critical subject key identifier",
      "RFC 5280 4.2",
      () => ({ moreExtensions: [{ oid: "2.5.29.14", critical: true, value: octets(nul) }] }),
    ],
    [
      "with policy constraints",
      "RFC 5280 4.2.1",
      () => ({ moreExtensions: [{ oid: "2.5.29.36", value: sequence(tlv(0x80, new Uint8Array([0]))) }] }),
    ],
    [
      "with bytes after its key usage",
      "X.690 8.1",
      () => ({
        extensions: extensionsWith({ oid: "2.5.29.15", critical: true, value: concat(keyUsage([0]).value, nul) }),
      }),
    ],
    ["that is not valid yet", "RFC 5280 4.1.2.5", () => ({ notBeforeMs: now + 1_000 })],
    ["that has expired", "RFC 5280 4.1.2.5", () => ({ notAfterMs: now - 1_000 })],
  ])("%s (%s)", async (_, section, options) => {
    expect(await sectionOf([await leafOf(options())])).toBe(section);
  });

  test("by the second: both ends of its validity are within it (RFC 5280 4.1.2.5)", async () => {
    const leaf = await leafOf();
    const end = madeAtMs + 60 * minuteMs;
    const seen = await Promise.all(
      [madeAtMs - 1, madeAtMs, end, end + 1, Number.NaN].map((at) => sectionOf([leaf], at)),
    );
    expect(seen).toEqual(["RFC 5280 4.1.2.5", "taken", "taken", "RFC 5280 4.1.2.5", "RFC 5280 4.1.2.5"]);
  });

  test("that nobody signed whom the bundle names, even under their name (X509-SVID 5.1, RFC 5280 6.1.3)", async () => {
    const stranger = await newAuthority("td.example");
    expect(await sectionOf([await leafOf({}, stranger)])).toBe("RFC 5280 6.1.3");
    expect(await sectionOf([await leafOf({}, stranger), stranger.der])).toBe("RFC 5280 6.1.3");
    const elsewhere = await newAuthority("td.example", { name: "elsewhere" });
    expect(await sectionOf([await leafOf({}, elsewhere)])).toBe("X509-SVID 5.1");
  });

  test("under an empty bundle: all is revoked (SPIFFE Trust Domain and Bundle 4.1.3)", async () => {
    expect(await sectionOf([await leafOf()], now, await bundleOf())).toBe("X509-SVID 5.1");
  });

  test("where it is an authority of the bundle itself", async () => {
    expect(await sectionOf([root.der])).toBe("X509-SVID 3.1");
  });
});

test("a leaf may have other names, a critical extended key usage, extensions that are not understood, and no subject", async () => {
  const usage = { ...extendedKeyUsage(usageOids.clientAuth, "1.2.3", usageOids.serverAuth), critical: true };
  const more = [{ oid: "1.2.3.4", value: hexBytes("ff") }];
  const names = alternativeNames([dns("api.td.example"), uri(id), tlv(0x87, hexBytes("0a000001"))], true);
  const leaf = await leafOf({ subject: "", extensions: extensionsWith(usage, names), moreExtensions: more });
  expect(await sectionOf([leaf])).toBe("taken");
});

describe("a signing certificate is refused", () => {
  const ca = (...changed: readonly ExtensionOf[]): ExtensionOf[] => [
    ...[basicConstraints(true), keyUsage([5, 6])].filter(({ oid: name }) => !changed.some((each) => each.oid === name)),
    ...changed,
  ];
  test.each<[why: string, section: string, options: () => AuthorityOptions]>([
    ["that is no CA", "X509-SVID 4.1", () => ({ extensions: ca(basicConstraints(false)) })],
    ["without basic constraints", "X509-SVID 4.1", () => ({ extensions: [keyUsage([5])] })],
    ["without a key usage", "X509-SVID 4.3", () => ({ extensions: [basicConstraints(true)] })],
    ["that may not sign certificates", "X509-SVID 4.3", () => ({ extensions: ca(keyUsage([6])) })],
    ["whose key usage is not critical", "X509-SVID 4.3", () => ({ extensions: ca(keyUsage([5], false)) })],
    [
      "for something else than servers and clients",
      "X509-SVID 4.4",
      () => ({ extensions: ca(extendedKeyUsage("1.3.6.1.5.5.7.3.3")) }),
    ],
    [
      "with a path in its SPIFFE ID",
      "X509-SVID 3.2",
      () => ({ extensions: ca(alternativeNames([uri("spiffe://td.example/ca")])) }),
    ],
    [
      "with two SPIFFE IDs",
      "X509-SVID 2",
      () => ({ extensions: ca(alternativeNames([uri("spiffe://td.example"), uri("spiffe://td.example")])) }),
    ],
    [
      "of another trust domain",
      "X509-SVID 3.2",
      () => ({ extensions: ca(alternativeNames([uri("spiffe://other.example")])) }),
    ],
    ["that has expired", "RFC 5280 4.1.2.5", () => ({ notAfterMs: now - 1_000 })],
    ["that is not valid yet", "RFC 5280 4.1.2.5", () => ({ notBeforeMs: now + 1_000 })],
  ])("%s (%s)", async (_, section, options) => {
    const between = await newAuthority("td.example", options(), root);
    expect(await sectionOf([await leafOf({}, between), between.der])).toBe(section);
  });

  test("also where no path needs it", async () => {
    const broken = await newAuthority("td.example", { name: "x", extensions: [basicConstraints(true)] }, root);
    expect(await sectionOf([await leafOf(), broken.der])).toBe("X509-SVID 4.3");
  });

  test("above more certificates than its path length allows (X509-SVID 4.1)", async () => {
    const narrow = await newAuthority("td.example", { pathLength: 0 });
    const trusted = await bundleOf(narrow);
    const between = await newAuthority("td.example", {}, narrow);
    expect(await sectionOf([await leafOf({}, narrow)], now, trusted)).toBe("taken");
    expect(await sectionOf([await leafOf({}, between), between.der], now, trusted)).toBe("X509-SVID 4.1");
  });

  test("of the bundle, once its own time has passed", async () => {
    const old = await newAuthority("td.example", { notAfterMs: now - 1_000 });
    expect(await sectionOf([await leafOf({}, old)], now, await bundleOf(old))).toBe("RFC 5280 4.1.2.5");
  });
});

describe("name constraints (X509-SVID 4.2, RFC 5280 4.2.1.10)", () => {
  const taken = async (constraints: ExtensionOf, leaf: LeafOptions = {}): Promise<string> => {
    const between = await newAuthority(
      "td.example",
      { extensions: [basicConstraints(true), keyUsage([5]), constraints] },
      root,
    );
    return await sectionOf([await leafOf(leaf, between), between.der]);
  };
  const refused = "RFC 5280 4.2.1.10";
  test.each<[ExtensionOf, string]>([
    [nameConstraints([uri("td.example")]), "taken"],
    [nameConstraints([uri("TD.Example")]), "taken"],
    [nameConstraints([uri(".example")]), "taken"],
    [nameConstraints([uri("other.example"), uri("example")]), "taken"],
    [nameConstraints([uri("")]), "taken"],
    [nameConstraints([uri("other.example")]), refused],
    [nameConstraints([uri(".td.example")]), refused],
    [nameConstraints([uri("d.example")]), refused],
    [nameConstraints([], [uri("td.example")]), refused],
    [nameConstraints([], [uri("")]), refused],
    [nameConstraints([uri("td.example")], [uri("other.example")]), "taken"],
    [nameConstraints([dns("other.example")]), "taken"],
    [nameConstraints([tlv(0x81, hexBytes("61"))]), refused],
    [nameConstraints([tlv(0xa4, nameOf("x"))]), refused],
    [nameConstraints([uri("10.0.0.1")]), refused],
    [nameConstraints([uri("a..b")]), refused],
    [{ oid: "2.5.29.30", critical: true, value: sequence() }, refused],
    [{ oid: "2.5.29.30", critical: true, value: sequence(tlv(0xa0)) }, refused],
  ])("case %#: %o", async (constraints, outcome) => {
    expect(await taken(constraints)).toBe(outcome);
  });

  test("DNS names of the leaf count too; what cannot be compared is refused", async () => {
    const leafWith = (...more: readonly Uint8Array[]): LeafOptions => ({
      extensions: extensionsWith(names(uri(id), ...more)),
    });
    const permitted = nameConstraints([dns("td.example")]);
    expect(await taken(permitted, leafWith(dns("API.td.example")))).toBe("taken");
    expect(await taken(permitted, leafWith(dns("api.other.example")))).toBe(refused);
    expect(await taken(permitted, leafWith(tlv(0x87, hexBytes("0a000001"))))).toBe(refused);
    expect(await taken(nameConstraints([], [dns("a.td.example")]), leafWith(dns("*.td.example")))).toBe(refused);
  });

  test("names of an intermediate below them count too", async () => {
    const narrow = await newAuthority("td.example", { moreExtensions: [nameConstraints([dns("td.example")])] });
    const trusted = await bundleOf(narrow);
    const below = async (name: string): Promise<string> => {
      const extensions = [basicConstraints(true), keyUsage([5]), names(dns(name))];
      const between = await newAuthority("td.example", { extensions }, narrow);
      return await sectionOf([await leafOf({}, between), between.der], now, trusted);
    };
    expect(await below("ca.td.example")).toBe("taken");
    expect(await below("ca.other.example")).toBe(refused);
  });

  test("a trust domain that could be an IPv4 address is covered by no constraint", async () => {
    const extensions = [basicConstraints(true), keyUsage([5])];
    const above = await newAuthority("10.0.0.1", { extensions });
    const parsed = await parseTrustBundle(domain("10.0.0.1"), bundleDocument([authorityEntry(above)]));
    if (!parsed.ok) throw new Error(parsed.refusal.reason);
    for (const [more, outcome] of [
      [[], "taken"],
      [[nameConstraints([dns("td.example")])], refused],
    ] as const) {
      const between = await newAuthority("10.0.0.1", { extensions: [...extensions, ...more] }, above);
      const leaf = await newLeaf(between, "spiffe://10.0.0.1/api", { keys });
      expect(await sectionOf([leaf, between.der], now, parsed.value)).toBe(outcome);
    }
  });

  test("those of the bundle's authority bind what is below it", async () => {
    const narrow = await newAuthority("td.example", { moreExtensions: [nameConstraints([uri("other.example")])] });
    expect(await sectionOf([await leafOf({}, narrow)], now, await bundleOf(narrow))).toBe(refused);
  });
});

describe("a certificate is refused that is written in another way than the one (RFC 5280 4.1, X.690 10 and 11)", () => {
  /** A leaf whose signed part is these parts, and whose signature is good. */
  const built = async (
    change: (parts: Uint8Array[]) => Uint8Array[],
    identifier = signatureIdentifiers["P-256"],
  ): Promise<Bytes> => {
    const extensions = leafExtensions(id).map(({ oid: name, critical = false, value }) =>
      sequence(oid(name), ...(critical ? [boolean(true)] : []), octets(value)),
    );
    const parts = [
      tlv(0xa0, integer(2)),
      integer(7),
      identifier,
      nameOf(root.name),
      sequence(time(madeAtMs), time(madeAtMs + minuteMs * 60)),
      nameOf("workload"),
      keys.spki,
      tlv(0xa3, sequence(...extensions)),
    ];
    const body = sequence(...change(parts));
    return sequence(body, identifier, bitString(await signWith(root.keys, body)));
  };
  const replaced = (index: number, part: Uint8Array) => (parts: Uint8Array[]) => parts.with(index, part);

  test.each<[why: string, section: string, change: (parts: Uint8Array[]) => Uint8Array[]]>([
    ["(as it is made, it holds)", "taken", (parts) => parts],
    ["of version 1", "RFC 5280 4.1.2.1", (parts) => parts.slice(1)],
    ["of version 2", "RFC 5280 4.1.2.1", replaced(0, tlv(0xa0, integer(1)))],
    ["of version 4", "RFC 5280 4.1.2.1", replaced(0, tlv(0xa0, integer(3)))],
    ["with a negative serial number", "X.690 8.3.3", replaced(1, hexBytes("020180"))],
    ["with a padded serial number", "X.690 8.3.2", replaced(1, hexBytes("02020007"))],
    ["with a serial number of 21 bytes", "RFC 5280 4.1.2.2", replaced(1, tlv(0x02, new Uint8Array(21).fill(7)))],
    ["with another algorithm inside", "RFC 5280 4.1.1.2", replaced(2, signatureIdentifiers["P-384"])],
    ["with bytes after its times", "X.690 8.1", replaced(4, sequence(time(madeAtMs), time(madeAtMs), nul))],
    [
      "with a time without seconds",
      "RFC 5280 4.1.2.5",
      replaced(4, sequence(text(0x17, "2604131600Z"), time(now + minuteMs))),
    ],
    [
      "with a time in a zone",
      "RFC 5280 4.1.2.5",
      replaced(4, sequence(text(0x17, "260413160000+0000"), time(now + minuteMs))),
    ],
    [
      "with fractions of seconds",
      "RFC 5280 4.1.2.5",
      replaced(4, sequence(text(0x18, "20260413160000.5Z"), time(now + minuteMs))),
    ],
    [
      "with a day that is none",
      "RFC 5280 4.1.2.5",
      replaced(4, sequence(text(0x17, "260230160000Z"), time(now + minuteMs))),
    ],
    [
      "with an hour that is none",
      "RFC 5280 4.1.2.5",
      replaced(4, sequence(text(0x17, "260412240000Z"), time(now + minuteMs))),
    ],
    [
      "with a time of another kind",
      "RFC 5280 4.1.2.5",
      replaced(4, sequence(text(0x0c, "260413160000Z"), time(now + minuteMs))),
    ],
    [
      "with T61 text as a name",
      "RFC 5280 4.1.2.4",
      replaced(5, sequence(set(sequence(oid("2.5.4.3"), text(0x14, "a"))))),
    ],
    [
      "with an underscore in printable text",
      "RFC 5280 4.1.2.4",
      replaced(5, sequence(set(sequence(oid("2.5.4.3"), text(0x13, "a_b"))))),
    ],
    [
      "with broken UTF-8",
      "RFC 5280 4.1.2.4",
      replaced(5, sequence(set(sequence(oid("2.5.4.3"), tlv(0x0c, hexBytes("ff")))))),
    ],
    ["with an empty part of a name", "RFC 5280 4.1.2.4", replaced(5, sequence(set()))],
    ["with issuerUniqueID", "RFC 5280 4.1.2.9", (parts) => parts.toSpliced(7, 0, tlv(0x81, hexBytes("0001")))],
    ["without extensions", "RFC 5280 4.1.2.9", (parts) => parts.slice(0, 7)],
    ["with no extension in the list", "RFC 5280 4.1.2.9", replaced(7, tlv(0xa3, sequence()))],
    ["with something after its extensions", "X.690 8.1", (parts) => [...parts, nul]],
    [
      "with a DSA key",
      "RFC 5280 4.1.2.7",
      replaced(6, sequence(sequence(oid("1.2.840.10040.4.1")), bitString(integer(5)))),
    ],
    [
      "with an X25519 key",
      "RFC 5280 4.1.2.7",
      replaced(6, sequence(sequence(oid("1.3.101.110")), bitString(new Uint8Array(32)))),
    ],
    [
      "with a key on P-224",
      "RFC 5480 2.1.1",
      replaced(
        6,
        sequence(sequence(oid("1.2.840.10045.2.1"), oid("1.3.132.0.33")), bitString(new Uint8Array(57).fill(4))),
      ),
    ],
    [
      "with a compressed point",
      "RFC 5480 2.2",
      replaced(
        6,
        sequence(sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")), bitString(new Uint8Array(33).fill(2))),
      ),
    ],
    [
      "with a point that is not on its curve",
      "RFC 5480 2.2",
      replaced(
        6,
        sequence(sequence(oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")), bitString(new Uint8Array(65).fill(4))),
      ),
    ],
    ["with an RSA key of 1,024 bits", "RFC 3279 2.3.1", replaced(6, rsaSpki(128, 65_537))],
    ["with an RSA key of 4,104 bits", "RFC 3279 2.3.1", replaced(6, rsaSpki(513, 65_537))],
    ["with an even RSA modulus", "RFC 3279 2.3.1", replaced(6, rsaSpki(256, 65_537, 0xfe))],
    ["with an RSA exponent of 3", "RFC 3279 2.3.1", replaced(6, rsaSpki(256, 3))],
    ["with an even RSA exponent", "RFC 3279 2.3.1", replaced(6, rsaSpki(256, 65_538))],
    ["with an RSA exponent of 33 bits", "RFC 3279 2.3.1", replaced(6, rsaSpki(256, 2 ** 32 + 1))],
  ])("%s (%s)", async (_, section, change) => {
    expect(await sectionOf([await built(change)])).toBe(section);
  });

  test.each([
    ["MD5 with RSA", sequence(oid("1.2.840.113549.1.1.4"), nul)],
    ["SHA-1 with RSA", sequence(oid("1.2.840.113549.1.1.5"), nul)],
    ["SHA-1 with ECDSA", sequence(oid("1.2.840.10045.4.1"))],
    ["ECDSA with parameters", sequence(oid("1.2.840.10045.4.3.2"), nul)],
    ["RSA, for a key that is not", signatureIdentifiers["RSA-2048"]],
    ["Ed25519, for a key that is not", signatureIdentifiers.Ed25519],
  ])("signed by %s (RFC 5280 6.1.3)", async (_, identifier) => {
    expect(await sectionOf([await built((parts) => parts, identifier)])).toBe("RFC 5280 6.1.3");
  });

  test("with anything after it, before it or missing from it (X.690 8.1)", async () => {
    const leaf = await leafOf();
    expect(await sectionOf([concat(leaf, new Uint8Array(1))])).toBe("X.690 8.1");
    expect(await sectionOf([concat(leaf, leaf)])).toBe("X.690 8.1");
    expect(await sectionOf([leaf.subarray(0, -1)])).toBe("X.690 8.1.3");
    expect(await sectionOf([new Uint8Array()])).toBe("X.690 8.1.2");
    expect(await sectionOf([concat(hexBytes("308300"), leaf.subarray(2))])).toBe("X.690 10.1");
  });

  test("with a signature in another encoding than DER, or with none", async () => {
    const leaf = await leafOf();
    const { body, identifier } = partsOf(leaf);
    const signature = await signWith(root.keys, body);
    const padded = concat(hexBytes("3081"), signature.subarray(1));
    for (const wrong of [padded, concat(signature, nul), new Uint8Array(), new Uint8Array(64)]) {
      expect(await sectionOf([sequence(body, identifier, bitString(wrong))])).toBe("RFC 5280 6.1.3");
    }
    // Scalars that are longer than the curve's.
    for (const bytes of [33, 66]) {
      const long = sequence(integer(new Uint8Array(bytes).fill(0x7f)), integer(1));
      expect(await sectionOf([sequence(body, identifier, bitString(long))])).toBe("RFC 5280 6.1.3");
    }
    expect(await sectionOf([sequence(body, identifier, bitString(signature, 1))])).toBe("X.690 8.6.2");
    expect(await sectionOf([await signedAgain(leaf, body, root.keys)])).toBe("taken");
  });

  test("of more bytes than a certificate has", async () => {
    const more = [{ oid: "1.2.3.4", value: new Uint8Array(17_000) }];
    expect(await sectionOf([await leafOf({ moreExtensions: more })])).toBe("bounds");
  });
});

/** A modulus of so many bytes, all ones but for the last. */
function rsaSpki(bytes: number, exponent: number, last = 0xff): Bytes {
  const modulus = new Uint8Array(bytes).fill(0xff);
  modulus[bytes - 1] = last;
  const key = sequence(integer(modulus), integer(exponent));
  return sequence(sequence(oid("1.2.840.113549.1.1.1"), nul), bitString(key));
}

describe("the search for a path ends", () => {
  test("a chain has at most eight certificates, and none is no chain", async () => {
    const leaf = await leafOf();
    const others = Array.from({ length: chainCertificatesMax - 1 }, () => root.der);
    expect(await sectionOf([leaf, ...others])).toBe("taken");
    expect(await sectionOf([leaf, ...others, root.der])).toBe("bounds");
    expect(await sectionOf([])).toBe("X509-SVID 5.1");
  });

  test("signing certificates that stand for each other cost at most 32 signatures", async () => {
    const pairs = await Promise.all(Array.from({ length: 5 }, () => newKeys("P-256")));
    const signing = async (at: number): Promise<Uint8Array> =>
      (await newAuthority("td.example", { name: "web", keys: pairs[at]! }, { name: "web", keys: pairs[at + 1]! })).der;
    // Each two of one key and one name: eight ways up, and none leads to an authority.
    const web = await Promise.all([0, 0, 1, 1, 2, 2, 3].map(signing));
    const leaf = await newLeaf({ name: "web", keys: pairs[0]! }, id, { keys });
    expect(await sectionOf([leaf, ...web])).toBe("bounds");
    expect(await sectionOf([leaf, ...web.slice(1)])).toBe("RFC 5280 6.1.3");
  });
});
