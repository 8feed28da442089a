// The providers' file: what is taken, and what is refused with words that help.

import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { parseProviders, providersMax, writeProviders } from "./providers.ts";

const root = resolve(import.meta.dirname, "../..");
const [a, b] = [
  { name: "a", baseUrl: "https://edge-a.example.com" },
  { name: "b", baseUrl: "https://edge-b.example.com/policy" },
] as const;
const reasonOf = (text: string): string => {
  const parsed = parseProviders(text);
  return parsed.ok ? "it is taken" : parsed.reason;
};

test("the file that the project ships is one", () => {
  const parsed = parseProviders(readFileSync(join(root, "policy/edge.multicdn.json"), "utf8"));
  expect(parsed).toMatchObject({ ok: true, config: { strategy: "health-latency", digestPin: true } });
});

test("a third provider is a third entry, and what was written is read again", () => {
  const providers = [a, b, { name: "c-3", baseUrl: "http://127.0.0.1:8793" }];
  const parsed = parseProviders(writeProviders(providers));
  expect(parsed).toEqual({ ok: true, config: { providers, strategy: "health-latency", digestPin: true } });
});

test("the list has an end, and a beginning", () => {
  const many = (count: number) =>
    writeProviders(Array.from({ length: count }, (_, at) => ({ name: `p${at}`, baseUrl: `https://p${at}.example` })));
  expect(parseProviders(many(providersMax)).ok).toBe(true);
  expect(reasonOf(many(providersMax + 1))).toContain("edge.cdn.providers");
  expect(reasonOf(many(0))).toContain("edge.cdn.providers");
});

test.each([
  "http://edge.example.com",
  "https://edge.example.com/",
  "https://edge.example.com:443",
  "https://user:pass@edge.example.com",
  "https://edge.example.com?x=1",
  "https://edge.example.com#x",
  "https://EDGE.example.com",
  "https://edge.example.com/a/../b",
  "ftp://edge.example.com",
  "edge.example.com",
  `https://${"e".repeat(300)}.example`,
])("a baseUrl that is not plainly one is refused: %s", (baseUrl) => {
  expect(reasonOf(writeProviders([{ name: "a", baseUrl }]))).toMatch(/^edge\.cdn\.providers\.0\.baseUrl: /);
});

test("two of one name, two of one address, and unpinned digests are refused", () => {
  expect(reasonOf(writeProviders([a, { ...b, name: "a" }]))).toContain("the same name");
  expect(reasonOf(writeProviders([a, { ...a, name: "b" }]))).toContain("the same baseUrl");
  expect(reasonOf(writeProviders([a]).replace("true", "false"))).toContain("digests are always pinned");
  expect(reasonOf(writeProviders([a]).replace("health-latency", "random"))).toContain("edge.cdn.strategy");
  expect(reasonOf(writeProviders([{ ...a, name: "A" }]))).toContain("lower-case");
});

test("what is no such file is told so", () => {
  expect(reasonOf("{")).toBe("it is not JSON");
  expect(reasonOf("[]")).toContain("the file");
  expect(reasonOf(" ".repeat(70_000))).toContain("more than 65536 bytes");
  expect(reasonOf(writeProviders([a]).replace('"cdn"', '"cdns"'))).toContain("edge");
});
