import { beforeAll, expect, test } from "vitest";
import { base64 } from "../contract/bytes.ts";
import { newAuthority, newLeaf } from "../../test/support/svid.ts";
import { claimedIdOfLeaf, claimedIdOfToken } from "./claimed-id.ts";
import { presentedChain } from "./client-certificate.ts";
import { chainCertificatesMax } from "./x509-svid.ts";

let leaf: Uint8Array;
let parent: Uint8Array;
const item = (der: Uint8Array): string => `:${base64(der)}:`;

beforeAll(async () => {
  const root = await newAuthority("td.example");
  const between = await newAuthority("td.example", {}, root);
  parent = between.der;
  leaf = await newLeaf(between, "spiffe://td.example/fetcher");
});

const presented = (said: object) => presentedChain({ certPresented: "1", ...said });
const sectionOf = (said: object): string | null => {
  const chain = presented(said);
  return chain === null ? null : chain.ok ? "held" : chain.refusal.section;
};

test("a leaf comes first, and what was sent with it behind it", () => {
  expect(presented({ certRFC9440: item(leaf) })).toEqual({ ok: true, value: [leaf] });
  const both = { certRFC9440: item(leaf), certChainRFC9440: `${item(parent)},\t ${item(parent)} ` };
  expect(presented(both)).toEqual({ ok: true, value: [leaf, parent, parent] });
});

test("who sent no certificate has none, and one that the platform cut off is refused", () => {
  for (const said of [undefined, null, "x", {}, { certPresented: "0", certRFC9440: "" }, { certRFC9440: item(leaf) }])
    expect(presentedChain(said)).toBeNull();
  expect(sectionOf({ certRFC9440: "", certRFC9440TooLarge: true })).toBe("bounds");
  expect(sectionOf({ certRFC9440: item(leaf), certChainRFC9440TooLarge: true })).toBe("bounds");
  // More than any verifier takes is not read to its end.
  const endless = presented({ certRFC9440: item(leaf), certChainRFC9440: Array(500).fill(item(parent)).join(",") });
  expect(endless?.ok === true && endless.value.length).toBe(chainCertificatesMax + 2);
});

test("anything but base64 between two colons is refused", () => {
  const text = base64(leaf);
  for (const bad of [text, `:${text}`, `::`, `:${text}:;a=1`, `:${text} :`, `:${text.slice(1)}:`, ":YQ=:", ":YR==:", 7])
    expect(sectionOf({ certRFC9440: bad }), String(bad).slice(0, 20)).toMatch(/^RFC 9440/);
  expect(sectionOf({ certRFC9440: item(leaf), certChainRFC9440: `${item(parent)},` })).toBe("RFC 9440 2.1");
});

test("a claim is read from a leaf and from a token, and from nothing that is neither", () => {
  const id = "spiffe://td.example/fetcher";
  expect(claimedIdOfLeaf(leaf)).toMatchObject({ ok: true, value: { uri: id } });
  expect(claimedIdOfLeaf(parent)).toMatchObject({ ok: true, value: { uri: "spiffe://td.example" } });
  expect(claimedIdOfLeaf(leaf.subarray(1)).ok).toBe(false);
  const part = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (claims: unknown): string => `${part({ alg: "none" })}.${part(claims)}.`;
  expect(claimedIdOfToken(token({ sub: id }))).toMatchObject({ ok: true, value: { uri: id } });
  expect(claimedIdOfToken(token({ sub: `${id}/` }))).toMatchObject({ ok: false });
  for (const other of [token({ sub: "alice" }), token(null), token({}), "a.b.c", "mk_x", "", "x".repeat(10_000)])
    expect(claimedIdOfToken(other), other.slice(0, 20)).toBeNull();
});
