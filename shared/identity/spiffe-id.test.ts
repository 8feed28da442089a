import { expect, test } from "vitest";
import { parseSpiffeId, parseTrustDomain } from "./spiffe-id.ts";

const sectionOf = (text: string): string => {
  const parsed = parseSpiffeId(text);
  return parsed.ok ? "taken" : parsed.refusal.section;
};

test("an ID is split into trust domain and path, and nothing of it is changed (SPIFFE-ID 2)", () => {
  const uri = "spiffe://prod.example_1-a/ns/Payments/sa/api.v2";
  expect(parseSpiffeId(uri)).toEqual({
    ok: true,
    value: { uri, trustDomain: "prod.example_1-a", path: "/ns/Payments/sa/api.v2" },
  });
  expect(parseSpiffeId("spiffe://td")).toEqual({
    ok: true,
    value: { uri: "spiffe://td", trustDomain: "td", path: "" },
  });
});

test.each([
  ["", "SPIFFE-ID 2"],
  ["SPIFFE://td/a", "SPIFFE-ID 2"],
  ["spiffe:/td/a", "SPIFFE-ID 2"],
  ["https://td/a", "SPIFFE-ID 2"],
  [" spiffe://td/a", "SPIFFE-ID 2"],
  ["spiffe:///a", "SPIFFE-ID 2"],
  ["spiffe://TD/a", "SPIFFE-ID 2.1"],
  ["spiffe://td:80/a", "SPIFFE-ID 2.1"],
  ["spiffe://user@td/a", "SPIFFE-ID 2.1"],
  ["spiffe://td%2e/a", "SPIFFE-ID 2.1"],
  ["spiffe://tд/a", "SPIFFE-ID 2.1"],
  ["spiffe://td?q", "SPIFFE-ID 2.1"],
  ["spiffe://td#f", "SPIFFE-ID 2.1"],
  ["spiffe://td/", "SPIFFE-ID 2.2"],
  ["spiffe://td//a", "SPIFFE-ID 2.2"],
  ["spiffe://td/a/", "SPIFFE-ID 2.2"],
  ["spiffe://td/.", "SPIFFE-ID 2.2"],
  ["spiffe://td/a/../b", "SPIFFE-ID 2.2"],
  ["spiffe://td/a%20b", "SPIFFE-ID 2.2"],
  ["spiffe://td/a?q=1", "SPIFFE-ID 2.2"],
  ["spiffe://td/a#f", "SPIFFE-ID 2.2"],
  ["spiffe://td/a\n", "SPIFFE-ID 2.2"],
  ["spiffe://td/a\\b", "SPIFFE-ID 2.2"],
  ["spiffe://td/...", "taken"],
  ["spiffe://td/..a/.b", "taken"],
])("%j: %s", (text, section) => {
  expect(sectionOf(text)).toBe(section);
});

test("the longest trust domain and the longest ID are taken, and one character more is not (SPIFFE-ID 2.3)", () => {
  const domain = "d".repeat(255);
  const long = `spiffe://${domain}/`.padEnd(2_048, "p");
  expect([sectionOf(long), sectionOf(`${long}p`), sectionOf(`spiffe://${domain}d/a`)]).toEqual([
    "taken",
    "SPIFFE-ID 2.3",
    "SPIFFE-ID 2.3",
  ]);
});

test("a trust domain's name is a name, not an ID (SPIFFE-ID 2.1)", () => {
  expect(parseTrustDomain("example.org")).toEqual({ ok: true, value: "example.org" });
  for (const name of ["", "spiffe://example.org", "Example.org", "example.org/a", "example.org:1"]) {
    expect(parseTrustDomain(name).ok, name).toBe(false);
  }
});
