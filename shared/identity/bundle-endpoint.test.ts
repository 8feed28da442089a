import { expect, test } from "vitest";
import { authorityEntry, bundleDocument, madeAtMs, minuteMs, newAuthority, newLeaf } from "../../test/support/svid.ts";
import { checkBundleServer, parseBundleEndpoint, redirectedTo, redirectsMax } from "./bundle-endpoint.ts";
import type { Checked } from "./refusal.ts";
import { parseSpiffeId, type SpiffeId } from "./spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "./trust-bundle.ts";

const outcome = (checked: Checked<unknown>): string => (checked.ok ? "taken" : checked.refusal.section);
const url = "https://host.example/bundle.json";
const serverId = "spiffe://td.example/bundle-server";

function idOf(text: string): SpiffeId {
  const parsed = parseSpiffeId(text);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

test("an endpoint is what an operator states: https, no userinfo, and an ID where its profile has one (5.2)", () => {
  expect(parseBundleEndpoint("td.example", url, "https_web", null)).toEqual({
    ok: true,
    value: { trustDomain: "td.example", url, profile: { kind: "https_web" } },
  });
  const cases: [Parameters<typeof parseBundleEndpoint>, string][] = [
    [["td.example", url, "https_spiffe", serverId], "taken"],
    [["other.example", url, "https_spiffe", serverId], "taken"],
    [["TD", url, "https_web", null], "SPIFFE-ID 2.1"],
    [["td.example", "http://host.example/", "https_web", null], "SPIFFE Federation 5.2.1.1"],
    [["td.example", "https://user@host.example/", "https_web", null], "SPIFFE Federation 5.2.1.1"],
    [["td.example", "https://:secret@host.example/", "https_web", null], "SPIFFE Federation 5.2.1.1"],
    [["td.example", "bundle.json", "https_web", null], "SPIFFE Federation 5.2.1.1"],
    [["td.example", "https://host\n.example/", "https_web", null], "SPIFFE Federation 5.2.1.1"],
    [["td.example", "https://host.example/\u001b[2J", "https_web", null], "SPIFFE Federation 5.2.1.1"],
    [["td.example", "https:\\\\host.example/", "https_web", null], "SPIFFE Federation 5.2.1.1"],
    [["td.example", " https://host.example/", "https_web", null], "SPIFFE Federation 5.2.1.1"],
    [["td.example", url, "https_web", serverId], "SPIFFE Federation 5.2.1.2"],
    [["td.example", url, "http", null], "SPIFFE Federation 5.2"],
    [["td.example", url, "https_spiffe", null], "SPIFFE Federation 5.2.2.2"],
    [["td.example", url, "https_spiffe", "spiffe://td.example"], "X509-SVID 3.1"],
  ];
  for (const [endpoint, section] of cases)
    expect(outcome(parseBundleEndpoint(...endpoint)), endpoint.join()).toBe(section);
});

test("a redirect leads to another endpoint's URL, and not for ever (5.2.1.4)", () => {
  expect(redirectedTo(url, "/b/c.json?x=1", 0)).toEqual({ ok: true, value: "https://host.example/b/c.json?x=1" });
  expect(redirectedTo(url, "https://cdn.example/b", 0)).toEqual({ ok: true, value: "https://cdn.example/b" });
  expect(outcome(redirectedTo(url, "http://host.example/", 0))).toBe("SPIFFE Federation 5.2.1.1");
  expect(outcome(redirectedTo(url, "//user@cdn.example/", 0))).toBe("SPIFFE Federation 5.2.1.1");
  expect([redirectsMax - 1, redirectsMax].map((followed) => outcome(redirectedTo(url, "/b", followed)))).toEqual([
    "taken",
    "bounds",
  ]);
});

test("the server is who was configured, under the latest bundle of its own trust domain, and nobody else (5.2.2.4)", async () => {
  const [root, stranger] = await Promise.all([newAuthority("td.example"), newAuthority("td.example")]);
  const bundleWith = async (...entries: readonly object[]): Promise<TrustBundle> => {
    const parsed = await parseTrustBundle(idOf(serverId).trustDomain, bundleDocument(entries));
    if (!parsed.ok) throw new Error(parsed.refusal.reason);
    return parsed.value;
  };
  const held = await bundleWith(authorityEntry(root));
  const [server, other, forged] = await Promise.all([
    newLeaf(root, serverId),
    newLeaf(root, "spiffe://td.example/api"),
    newLeaf(stranger, serverId),
  ]);
  const asked: string[] = [];
  const check = async (leaf: Uint8Array, bundle: TrustBundle | null): Promise<string> =>
    outcome(
      await checkBundleServer(
        idOf(serverId),
        [leaf],
        (domain) => {
          asked.push(domain);
          return bundle;
        },
        madeAtMs + minuteMs,
      ),
    );
  expect(await check(server, held)).toBe("taken");
  expect(await check(other, held)).toBe("SPIFFE Federation 5.2.2.4");
  expect(await check(forged, held)).toBe("RFC 5280 6.1.3");
  expect(await check(server, await bundleWith())).toBe("X509-SVID 5.1");
  expect(await check(server, null)).toBe("SPIFFE Federation 5.2.2.2");
  expect(new Set(asked)).toEqual(new Set(["td.example"]));
});
