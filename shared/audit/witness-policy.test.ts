// Trust policies, rule by rule of https://c2sp.org/tlog-policy.

import { beforeAll, expect, test } from "vitest";
import { newSigner } from "../../test/simulation/audit-world.ts";
import { policyOf } from "../../test/support/witness.ts";
import { concat, utf8 } from "../contract/bytes.ts";
import { verifierKey } from "./checkpoint.ts";
import { witnessVerifierKey } from "./cosignature.ts";
import { noteTypes, verifierKeyText } from "./note.ts";
import { isQuorum, parseWitnessPolicy, policyBytesMax } from "./witness-policy.ts";

/** Six witnesses and a log. */
let keys: string[];
let log: string;
beforeAll(async () => {
  const signers = await Promise.all(Array.from({ length: 7 }, () => newSigner("Ed25519")));
  keys = await Promise.all(signers.slice(0, 6).map((signer, at) => witnessVerifierKey(`w${at}.example`, signer.spki)));
  log = await verifierKey("log.example/anchor", signers[6]!.spki);
});

const nested = (): string =>
  [
    "# two organisations",
    `log ${log} https://log.example/`,
    "",
    ...[1, 2, 3].map((at) => `witness X${at} ${keys[at - 1]}`),
    "  group\tX-witnesses 2 X1 X2 X3  ",
    ...[1, 2, 3].map((at) => `witness Y${at} ${keys[at + 2]} https://y${at}.example/witness`),
    "group Y-witnesses any Y1 Y2 Y3",
    "group X-and-Y all X-witnesses Y-witnesses",
    "quorum X-and-Y",
    "",
  ].join("\n");

test("the specification's example: two of X and one of Y, no other way", async () => {
  const policy = await policyOf(nested());
  expect(policy.logs.map(({ name }) => name)).toEqual(["log.example/anchor"]);
  expect(policy.witnesses.map(({ url }) => url)).toEqual([
    null,
    null,
    null,
    ...[1, 2, 3].map((at) => `https://y${at}.example/witness`),
  ]);
  const names = ["X1", "X2", "X3", "Y1", "Y2", "Y3"];
  for (let set = 0; set < 64; set += 1) {
    const agreed = names.filter((_, at) => (set >> at) % 2 === 1);
    const count = (letter: string): number => agreed.filter((name) => name.startsWith(letter)).length;
    expect(isQuorum(policy, new Set(agreed)), agreed.join()).toBe(count("X") >= 2 && count("Y") >= 1);
  }
});

test("a quorum may be one witness, or nobody", async () => {
  const one = await policyOf(`witness W ${keys[0]}\nquorum W`);
  expect([isQuorum(one, new Set()), isQuorum(one, new Set(["W"]))]).toEqual([false, true]);
  expect(isQuorum(await policyOf("quorum none\n"), new Set())).toBe(true);
});

test("a witness with a post-quantum key is known, though its cosignatures cannot be read here", async () => {
  const vkey = await verifierKeyText("pq.example", noteTypes.mlDsa44, new Uint8Array(1312));
  expect((await policyOf(`witness PQ ${vkey}\nquorum none\n`)).witnesses).toMatchObject([{ name: "PQ" }]);
});

test("names are octets: a Kelvin sign is no K, and what is not UTF-8 is a name all the same", async () => {
  const bytes = concat(
    utf8(`witness K ${keys[0]}\nwitness \u212A ${keys[1]}\nwitness `),
    Uint8Array.of(0xe9),
    utf8(` ${keys[2]}\ngroup all-of-them all K \u212A `),
    Uint8Array.of(0xe9),
    utf8("\nquorum all-of-them\n"),
  );
  const parsed = await parseWitnessPolicy(bytes);
  expect(parsed).toMatchObject({ ok: true, policy: { witnesses: [{ name: "K" }, { name: "\u212A" }, { name: "é" }] } });
  expect(parsed.ok && isQuorum(parsed.policy, new Set(parsed.policy.witnesses.map(({ octets }) => octets)))).toBe(true);
});

test("32 logs, witnesses and groups are taken; a file beyond the bound is not", async () => {
  const lines: string[] = [];
  for (let at = 0; at < 32; at += 1) {
    const signer = await newSigner("Ed25519");
    lines.push(`log ${await verifierKey(`l${at}`, (await newSigner("Ed25519")).spki)}`);
    lines.push(`witness w${at} ${await witnessVerifierKey(`w${at}`, signer.spki)}`, `group g${at} any w${at}`);
  }
  expect(await policyOf([...lines, "quorum g31", ""].join("\n"))).toMatchObject({ groups: { size: 32 } });
  const long = await parseWitnessPolicy(utf8(`quorum none\n${"#".repeat(policyBytesMax)}`));
  expect(long).toMatchObject({ ok: false });
});

test.each<[string, (w: (at: number) => string) => string, string]>([
  ["no quorum", (w) => w(0), "without a quorum line"],
  ["two quorums", () => "quorum none\nquorum none", "line 2: there is a quorum line already"],
  ["a quorum of somebody unknown", (w) => `${w(0)}quorum W1`, "line 2: W1 is not defined"],
  ["a quorum before its definition", (w) => `quorum W0\n${w(0)}`, "line 1: W0 is not defined"],
  ["a quorum of two", (w) => `${w(0)}${w(1)}quorum W0 W1`, "line 3: the quorum is"],
  ["a group of nobody", () => "group G all\nquorum none", "line 1: a group is"],
  ["a group of none", () => "group G all none\nquorum none", "line 1: none is not defined"],
  ["a group before its members", (w) => `group G all W0\n${w(0)}quorum G`, "line 1: W0 is not defined"],
  ["a group of itself", () => "group G all G\nquorum G", "line 1: G is not defined"],
  ["more than all of a group", (w) => `${w(0)}group G 2 W0\nquorum G`, "line 2: of 1 members"],
  ["none of a group", (w) => `${w(0)}group G 0 W0\nquorum G`, "line 2: of 1 members"],
  ["a number that is none", (w) => `${w(0)}group G +1 W0\nquorum G`, "line 2: of 1 members"],
  ["a member of two groups", (w) => `${w(0)}group G any W0\ngroup H any W0\nquorum G`, "line 3: W0 is a member twice"],
  ["a member twice", (w) => `${w(0)}group G any W0 W0\nquorum G`, "line 2: W0 is a member twice"],
  ["one name for two", (w) => `${w(0)}witness W0 ${keys[1]}\nquorum W0`, "line 2: W0 is defined already"],
  ["the name none", () => `witness none ${keys[0]}\nquorum none`, "line 1: none is defined already"],
  ["a group under a witness's name", (w) => `${w(0)}group W0 any W0\nquorum W0`, "line 2: W0 is defined already"],
  ["one key for two witnesses", (w) => `${w(0)}witness V ${keys[0]}\nquorum V`, "line 2: this public key is there"],
  ["one key for two logs", () => `log ${log}\nlog ${log}\nquorum none`, "line 2: this public key is there"],
  ["a log's key for a witness", () => `witness W ${log}\nquorum W`, "line 1: the verifier key (vkey) is none"],
  ["a witness's key for a log", () => `log ${keys[0]}\nquorum none`, "line 1: the verifier key (vkey) is none"],
  ["a key that is none", () => "witness W w+00000000+AAAA\nquorum W", "line 1: the verifier key (vkey) is none"],
  ["a line of four items", () => `witness W ${keys[0]} https://w.example/ more\nquorum W`, "line 1: a witness is"],
  ["a line of another kind", () => "witnesses W\nquorum none", "line 1: it begins with none of"],
  ["a carriage return", () => "quorum none\r\n", "line 1: a control character"],
  ["a comment behind the quorum", () => "quorum none # of them\n", "line 1: the quorum is"],
])("a policy with %s is refused, by its line", async (_, text, reason) => {
  const parsed = await parseWitnessPolicy(utf8(text((at) => `witness W${at} ${keys[at]}\n`)));
  expect(parsed).toMatchObject({ ok: false, reason: expect.stringContaining(reason) as string });
});
