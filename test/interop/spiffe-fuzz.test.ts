// Mutants of good X.509-SVIDs, judged here and by go-spiffe: nothing that go-spiffe refuses may be taken here. 3,000 of them;
// with MAESTRO_DEEP=1 200,000.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { hex } from "../../shared/contract/bytes.ts";
import { parseTrustDomain } from "../../shared/identity/spiffe-id.ts";
import { parseTrustBundle } from "../../shared/identity/trust-bundle.ts";
import { verifyX509Svid } from "../../shared/identity/x509-svid.ts";
import { seeded } from "../simulation/audit-events.ts";
import { mutantOf, type Pick, type Specimen } from "../support/der-mutants.ts";
import { ask, buildGoSpiffe, type GoSpiffe } from "../support/go-spiffe.ts";
import { isDeep } from "../support/sampled.ts";
import {
  alternativeNames,
  dns,
  extensionOids,
  uri,
  type ExtensionOf,
} from "../../shared/identity/issue/certificate-writer.ts";
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
  type Authority,
  type KeyType,
} from "../support/svid.ts";
import { octets, oid, sequence, text, tlv } from "../../shared/identity/issue/der-writer.ts";
import { tool } from "../support/tools.ts";

const mutants = isDeep ? 200_000 : 3_000;
const batch = 2_000;
const timeoutMs = isDeep ? 3_600_000 : 600_000;
const now = madeAtMs + minuteMs;
const trustDomain = "td.example";
const id = `spiffe://${trustDomain}/api`;
const go = tool("go");

/** Extensions that Go reads and that no SVID needs, well-formed. */
const extras: readonly ExtensionOf[] = [
  { oid: extensionOids.subjectKeyIdentifier, value: octets(new Uint8Array(20).fill(1)) },
  { oid: extensionOids.authorityKeyIdentifier, value: sequence(tlv(0x80, new Uint8Array(20).fill(1))) },
  { oid: "2.5.29.31", value: sequence(sequence(tlv(0xa0, tlv(0xa0, text(0x86, "http://a.example/crl"))))) },
  { oid: "2.5.29.32", value: sequence(sequence(oid("2.23.140.1.2.1"))) },
  { oid: "1.3.6.1.5.5.7.1.1", value: sequence(sequence(oid("1.3.6.1.5.5.7.48.1"), text(0x86, "http://a.example"))) },
  { oid: "1.3.6.1.4.1.37476.9", value: octets(new Uint8Array(3)) },
];

async function specimens(): Promise<{ readonly authorities: Authority[]; readonly all: Specimen[] }> {
  const authorities: Authority[] = [];
  const all: Specimen[] = [];
  for (const type of ["P-256", "Ed25519", "P-384", "RSA-2048", "RSA-PSS"] as const satisfies readonly KeyType[]) {
    const root = await newAuthority(trustDomain, { type, name: `root ${type}` });
    const between = await newAuthority(trustDomain, { type, pathLength: 0, moreExtensions: extras }, root);
    const keys = await newKeys(type);
    const leaf = await newLeaf(between, id, { keys, moreExtensions: extras });
    authorities.push(root);
    all.push({ chain: [leaf, between.der], signers: [between.keys, root.keys] });
    all.push({ chain: [await newLeaf(root, id, { keys })], signers: [root.keys] });
  }
  const [root] = authorities as [Authority];
  const narrow = await newAuthority(
    trustDomain,
    {
      name: "narrow",
      moreExtensions: [
        nameConstraints([uri("td.example"), dns(".example")], [uri("other.example"), dns("bad.example")]),
      ],
    },
    root,
  );
  const names = alternativeNames([uri(id), dns("api.td.example"), tlv(0x82, new TextEncoder().encode("b.example"))]);
  const extensions = [...leafExtensions(id).filter((each) => each.oid !== extensionOids.alternativeNames), names];
  const leaf = await newLeaf(narrow, id, { extensions });
  all.push({ chain: [leaf, narrow.der], signers: [narrow.keys, root.keys] });
  return { authorities, all };
}

describe.skipIf(go === null)("go-spiffe", () => {
  let goSpiffe: GoSpiffe;
  beforeAll(() => {
    goSpiffe = buildGoSpiffe(go!);
  }, 300_000);
  afterAll(() => goSpiffe.remove());

  test(
    `refuses none of the mutants that are taken here, of ${mutants} good X.509-SVIDs`,
    { timeout: timeoutMs },
    async () => {
      const next = seeded(Date.now() % 2 ** 31);
      const pick: Pick = (below) => Math.floor(next() * below);
      const { authorities, all } = await specimens();
      const document = bundleDocument(authorities.map(authorityEntry));
      const domain = parseTrustDomain(trustDomain);
      if (!domain.ok) throw new Error(domain.refusal.reason);
      const bundle = await parseTrustBundle(domain.value, document);
      if (!bundle.ok) throw new Error(bundle.refusal.reason);
      const opening = [ask.bundle(trustDomain, document), ask.time(now)];

      const whole = await goSpiffe.answers([...opening, ...all.map(({ chain }) => ask.chain(chain))]);
      expect(whole).not.toContain(false);
      for (const { chain } of all) expect((await verifyX509Svid(chain, bundle.value, now)).ok).toBe(true);

      const counts = { both: 0, neither: 0, onlyGo: 0, onlyHere: 0 };
      const wrong: string[] = [];
      const stricter = new Map<string, number>();
      const quick = all.filter(({ signers }) => ["P-256", "Ed25519"].includes(signers[0]!.type));
      for (let done = 0; done < mutants; done += batch) {
        const chains: Uint8Array[][] = [];
        const here: (string | null)[] = [];
        for (let at = 0; at < Math.min(batch, mutants - done); at += 1) {
          // Signing with the others takes ten times as long: fewer of those.
          const from = pick(16) === 0 ? all : quick;
          const chain = await mutantOf(from[pick(from.length)]!, all, pick);
          const verified = await verifyX509Svid(chain, bundle.value, now);
          chains.push(chain);
          here.push(verified.ok ? null : verified.refusal.section);
        }
        const there = (await goSpiffe.answers([...opening, ...chains.map(ask.chain)])).slice(opening.length);
        for (const [at, refusal] of here.entries()) {
          const isTaken = there[at] === true;
          if (refusal === null) counts[isTaken ? "both" : "onlyHere"] += 1;
          else counts[isTaken ? "onlyGo" : "neither"] += 1;
          if (refusal === null && !isTaken) wrong.push(chains[at]!.map(hex).join(" "));
          if (refusal !== null && isTaken) stricter.set(refusal, (stricter.get(refusal) ?? 0) + 1);
        }
      }
      const most = [...stricter].toSorted(([, left], [, right]) => right - left).slice(0, 12);
      console.info(
        `${mutants} mutants: ${counts.both} taken by both, ${counts.neither} by neither, ${counts.onlyHere} here alone, ` +
          `${counts.onlyGo} by go-spiffe alone (${most.map(([section, count]) => `${count} by ${section}`).join(", ")})`,
      );
      expect(wrong).toEqual([]);
      // The mutants are worth something: of each kind there are some.
      expect(counts.both).toBeGreaterThan(mutants / 100);
      expect(counts.neither).toBeGreaterThan(mutants / 100);
      expect(counts.onlyGo).toBeGreaterThan(0);
    },
  );
});
