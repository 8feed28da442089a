// What witnesses' cosignatures are worth to a verifier: a log cut short, forked and signed again by its own keys, too few
// witnesses, and every change to what shows that they agreed.

import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";
import { AnchorWorld, tenants } from "../../test/simulation/anchor-world.ts";
import { seeded } from "../../test/simulation/audit-events.ts";
import { newKeys, publishedKeysOf, textsOf, World } from "../../test/simulation/audit-world.ts";
import { isDeep } from "../../test/support/sampled.ts";
import { policyOf } from "../../test/support/witness.ts";
import type { Anchoring } from "../contract/http-audit.ts";
import { verifierKey } from "./checkpoint.ts";
import { openAnchorings, witnessedVerdict, type OpenedAnchorings, type WitnessedVerdict } from "./witnessed.ts";
import { verifyLog, type LogReader } from "./verify.ts";
import type { WitnessPolicy } from "./witness-policy.ts";

const [tenantId, other] = tenants;
let world: AnchorWorld;
let anchorings: Anchoring[];
/** The three witnesses under short names; the line of the quorum is a test's. */
let policyLines: string;

beforeAll(async () => {
  world = await AnchorWorld.make();
  policyLines = world.witnesses.map(({ key }, at) => `witness w${at + 1} ${key.text}\n`).join("");
  await world.grow(tenantId, 5);
  await world.grow(other, 4);
  await world.minute();
  await world.grow(tenantId, 3);
  // The clocks of the witnesses: ten seconds after each other.
  for (const [at, witness] of world.witnesses.entries()) {
    Object.assign(witness, { clock: () => world.now + at * 10_000 });
  }
  await world.minute();
  anchorings = await world.anchor.anchorings(tenantId);
});

const policy = (quorum: string): Promise<WitnessPolicy> => policyOf(`${policyLines}${quorum}\n`);
const twoOfThree = (): Promise<WitnessPolicy> => policy("group G 2 w1 w2 w3\nquorum G");

const open = async (shown: readonly Anchoring[], by: WitnessPolicy, now = world.now): Promise<OpenedAnchorings> =>
  openAnchorings(shown, { tenantId, keys: publishedKeysOf(world.keys), policy: by, sha256, now });

async function verify(
  reader: LogReader,
  by: WitnessPolicy,
  shown: readonly Anchoring[] = anchorings,
): Promise<WitnessedVerdict> {
  const opened = await open(shown, by);
  if (!opened.ok) throw new Error(opened.reason);
  const keys = publishedKeysOf(world.keys);
  const { heads } = opened.witnessed;
  const found = await verifyLog(reader, { tenantId, keys, sha256, gzip, remembered: null, witnessed: heads });
  return witnessedVerdict(found, opened.witnessed, by);
}

const log = (): World => world.logs.get(tenantId)!;

test("a quorum of witnesses stands in for a remembered head, and the verdict says how many agreed and since when", async () => {
  const since = new Date(world.now + 10_000).toISOString();
  expect(await verify(log().reader(), await twoOfThree())).toMatchObject({
    verdict: "VERIFIED",
    reason: `all 8 rows are as signed; 3 of 3 witnesses agreed on 8 rows since ${since}`,
    size: 8,
    head: { size: 8 },
    witnesses: { agreed: 3, of: 3, names: ["w1", "w2", "w3"], since, size: 8 },
  });
  // Of one, the first clock counts; of three, the last.
  const first = await verify(log().reader(), await policy("quorum w1"));
  const last = await verify(log().reader(), await policy("group G all w1 w2 w3\nquorum G"));
  expect([first.witnesses.since, last.witnesses.since]).toEqual([
    new Date(world.now).toISOString(),
    new Date(world.now + 20_000).toISOString(),
  ]);
});

test("rows that came after the anchored head are verified too, and the verdict says up to where witnesses agreed", async () => {
  const grown = await AnchorWorld.make();
  await grown.grow(tenantId, 5);
  await grown.minute();
  await grown.grow(tenantId, 2);
  const by = await policyOf(`witness w1 ${grown.witnesses[0]!.key.text}\nquorum w1\n`);
  const keys = publishedKeysOf(grown.keys);
  const opened = await openAnchorings(await grown.anchor.anchorings(tenantId), {
    tenantId,
    keys,
    policy: by,
    sha256,
    now: grown.now,
  });
  if (!opened.ok) throw new Error(opened.reason);
  const { heads } = opened.witnessed;
  const reader = grown.logs.get(tenantId)!.reader();
  const found = await verifyLog(reader, { tenantId, keys, sha256, gzip, remembered: null, witnessed: heads });
  expect(witnessedVerdict(found, opened.witnessed, by)).toMatchObject({
    verdict: "VERIFIED",
    size: 7,
    witnesses: { agreed: 1, of: 1, size: 5 },
  });
});

test("too few witnesses, or no anchoring at all, is UNWITNESSED, and says the rows that are proven", async () => {
  const strangers = await AnchorWorld.make();
  const unknown = strangers.witnesses.map(({ key }, at) => `witness s${at} ${key.text}\n`).join("");
  const mixed = await policyOf(`${policyLines}${unknown}group G 4 w1 w2 w3 s0 s1 s2\nquorum G\n`);
  expect(await verify(log().reader(), mixed)).toMatchObject({
    verdict: "UNWITNESSED",
    reason: "all 8 rows are as signed; 3 of 6 witnesses agreed on 8 rows, and the policy asks for more",
    size: 8,
    head: null,
    first_bad: null,
    witnesses: { agreed: 3, of: 6, since: null, size: 8 },
  });
  expect(await verify(log().reader(), await twoOfThree(), [])).toMatchObject({
    verdict: "UNWITNESSED",
    reason: expect.stringContaining("none of 3 witnesses has cosigned a head of this log") as string,
    size: 8,
    head: null,
    witnesses: { agreed: 0, of: 3, names: [], since: null, size: 0 },
  });
});

test("a quorum on an older head counts before a newer head that more witnesses agreed on, but not those who are asked for", async () => {
  const grown = await AnchorWorld.make();
  const dead = () => Promise.reject(new TypeError("nobody answers"));
  for (const name of ["w2.example", "w3.example"]) grown.ways.set(name, dead);
  await grown.grow(tenantId, 5);
  await grown.minute();
  const [older] = await grown.anchor.anchorings(tenantId);
  grown.ways.clear();
  grown.ways.set("w1.example", dead);
  grown.log.now += 3_600_000;
  await grown.grow(tenantId, 2);
  await grown.minute();
  const [newer] = await grown.anchor.anchorings(tenantId);
  const lines = grown.witnesses.map(({ key }, at) => `witness w${at + 1} ${key.text}\n`).join("");
  const by = await policyOf(`${lines}quorum w1\n`);
  const keys = publishedKeysOf(grown.keys);
  for (const shown of [
    [newer!, older!],
    [older!, newer!],
  ]) {
    const opened = await openAnchorings(shown, { tenantId, keys, policy: by, sha256, now: grown.now });
    expect(opened).toMatchObject({
      ok: true,
      witnessed: { isQuorum: true, agreement: { agreed: 1, names: ["w1"], size: 5 } },
    });
  }
});

test("a policy that asks for nobody changes no verdict", async () => {
  expect(await verify(log().reader(), await policy("quorum none"))).toMatchObject({
    verdict: "VERIFIED-TO",
    witnesses: { agreed: 3, since: null, size: 8 },
  });
});

test("a log whose tail was cut off behind its anchored head is a GAP, though nothing is remembered", async () => {
  const cut = log().reader(null);
  const [first] = await cut.ranges(null);
  const short: LogReader = { ...cut, ranges: async (after) => (after === null ? [first!] : []) };
  expect(await verify(short, await twoOfThree())).toMatchObject({
    verdict: "GAP",
    reason: "8 rows are anchored; rows 5 to 7 are cut off",
    size: 5,
    head: null,
    witnesses: { agreed: 3 },
  });
});

test("a log that its own keys forked and signed anew is DIVERGED, wherever its segments end", async () => {
  for (const counts of [[8], [5, 3], [12], [2, 9]]) {
    const forked = new World(world.keys, 40);
    const texts = textsOf(30, seeded(41)).filter((text) => !text.includes("mc.execution.finished"));
    let from = 0;
    for (const count of counts) {
      forked.log.append(tenantId, texts.slice(from, from + count));
      await forked.log.sealNow();
      from += count;
    }
    // By itself it is a perfect log.
    expect(await verify(forked.reader(), await policy("quorum none"), [])).toMatchObject({ verdict: "VERIFIED-TO" });
    expect(await verify(forked.reader(), await twoOfThree())).toMatchObject({
      verdict: "DIVERGED",
      reason: "the first 8 rows are not the ones that are anchored",
      head: null,
    });
  }
});

describe("is refused, whoever cosigned:", () => {
  const refusal = async (shown: readonly Anchoring[], by: WitnessPolicy): Promise<string> => {
    const opened = await open(shown, by);
    return opened.ok ? "not refused" : opened.reason;
  };

  test("the anchoring of another log", async () => {
    expect(await refusal(await world.anchor.anchorings(other), await twoOfThree())).toContain("another log's");
  });

  test("an anchoring of an anchor log under other keys, or one that the policy does not name", async () => {
    const strangers = await AnchorWorld.make();
    await strangers.grow(tenantId, 8);
    await strangers.minute();
    expect(await refusal(await strangers.anchor.anchorings(tenantId), await twoOfThree())).toContain(
      "not signed by a known key",
    );
    const elsewhere = `log ${strangers.logKey.text}\n${policyLines}quorum w1\n`;
    expect(await refusal(anchorings, await policyOf(elsewhere))).toContain("not one of the policy's");
    const here = await policyOf(`log ${strangers.logKey.text}\nlog ${world.logKey.text}\n${policyLines}quorum w1\n`);
    expect(await open(anchorings, here)).toMatchObject({ ok: true, witnessed: { isQuorum: true } });
    const renamed = await verifierKey("maestro.test/other", world.keys.checkpoint.spki);
    expect(await refusal(anchorings, await policyOf(`log ${renamed}\n${policyLines}quorum w1\n`))).toContain(
      "not one of the policy's",
    );
  });

  test("an anchoring signed by a retired key after its time", async () => {
    const retiredAt = (time: number) => {
      const keys = publishedKeysOf(world.keys);
      return { ...keys, keys: keys.keys.map((key) => ({ ...key, not_after: new Date(time).toISOString() })) };
    };
    const openWith = async (time: number) =>
      openAnchorings(anchorings, {
        tenantId,
        keys: retiredAt(time),
        policy: await twoOfThree(),
        sha256,
        now: world.now,
      });
    expect(await openWith(world.now)).toMatchObject({ ok: true });
    expect(await openWith(world.now - 1)).toMatchObject({
      ok: false,
      reason: expect.stringContaining("after its time") as string,
    });
  });

  test("a head that is not in the anchor log, and a row there that is no head", async () => {
    const [shown] = anchorings;
    const body = shown!.body.replace(/"tree_size":8/, '"tree_size":7');
    expect(await refusal([{ ...shown!, body }], await twoOfThree())).toContain("not in the anchor log");
    const gap = await AnchorWorld.make();
    await gap.grow(tenantId);
    gap.log.log.recordGap("00000000-0000-4000-8000-000000000001", {
      rule: "dead_letter",
      event_ids: [],
      event_count: 1,
      message_sha256: "a".repeat(64),
    });
    await gap.minute();
    const [real] = await gap.anchor.anchorings(tenantId);
    const { leaf, hashes } = (await gap.log.log.provenLeaf(0, 2))!;
    const { proofFile, parseProofFile } = await import("./proof-file.ts");
    const { checkpoint } = parseProofFile(real!.proof)!;
    const proof = proofFile({ index: 0, salt: leaf.salt, hashes, checkpoint });
    const opened = await openAnchorings([{ body: leaf.body, proof }], {
      tenantId,
      keys: publishedKeysOf(gap.keys),
      policy: await policy("quorum none"),
      sha256,
      now: gap.now,
    });
    expect(opened).toMatchObject({ ok: false, reason: "the row of the anchor log is no head" });
  });

  test("a cosignature by a known witness that does not verify, though the others do", async () => {
    const [shown] = anchorings;
    const line = shown!.proof.trimEnd().split("\n").at(-1)!;
    const bad = `${line.slice(0, -4)}AAA=`;
    expect(await refusal([{ ...shown!, proof: shown!.proof.replace(line, bad) }], await twoOfThree())).toContain(
      "the cosignature of the witness w",
    );
  });

  test("a cosignature from the future", async () => {
    expect(await open(anchorings, await twoOfThree(), world.now - 3_600_000)).toMatchObject({ ok: false });
  });
});

test("whatever character of an anchoring changes, no witness more agrees, and no other head is believed", async () => {
  const by = await twoOfThree();
  const [shown] = anchorings;
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("body", "proof"),
      fc.nat(),
      fc.constantFrom("A", "0", "\n", " ", "+", "w"),
      async (part, place, character) => {
        const text = shown![part];
        const at = place % text.length;
        const changed = text.slice(0, at) + character + text.slice(at + 1);
        if (changed === text) return;
        const opened = await open([{ ...shown!, [part]: changed }], by);
        if (!opened.ok) return;
        // A line that is no known witness's any more is passed over, as the specification asks.
        expect(opened.witnessed.agreement.agreed).toBeLessThan(3);
        expect(opened.witnessed.heads).toMatchObject([{ size: 8 }]);
      },
    ),
    { numRuns: isDeep ? 5_000 : 60, seed: 17 },
  );
});

test("keys of strangers open nothing", async () => {
  const keys = publishedKeysOf(await newKeys());
  const opened = await openAnchorings(anchorings, {
    tenantId,
    keys,
    policy: await twoOfThree(),
    sha256,
    now: world.now,
  });
  expect(opened).toMatchObject({ ok: false });
});
