// The witness protocol with programs that others wrote: transparency-dev's witness cosigns our anchor log, its client asks our
// witness, and torchwood (of litewitness) opens our anchorings under our policies.

import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { Anchor } from "../../shared/audit/anchor.ts";
import type { AnchorWitness } from "../../shared/audit/cosign-request.ts";
import { leafBytes } from "../../shared/audit/leaf.ts";
import { parseNote, parseVerifierKey } from "../../shared/audit/note.ts";
import { parseProofFile } from "../../shared/audit/proof-file.ts";
import { parseWitnessPolicy } from "../../shared/audit/witness-policy.ts";
import { openAnchorings } from "../../shared/audit/witnessed.ts";
import { base64, utf8 } from "../../shared/contract/bytes.ts";
import { sha256 } from "../../workers/audit/hashing.ts";
import { askWitness } from "../../workers/audit/witnesses.ts";
import { AnchorWorld, tenants } from "../simulation/anchor-world.ts";
import { Faults, publishedKeysOf } from "../simulation/audit-world.ts";
import { openSql } from "../support/sqlite.ts";
import { startWitness } from "../support/witness-process.ts";

const go = process.env["MAESTRO_TOOL_GO"];
const [tenantId] = tenants;

describe.skipIf(go === undefined || go === "")("Go's witnesses", () => {
  const folder = mkdtempSync(join(tmpdir(), "maestro-witness-go-"));
  const program = join(folder, "witness");
  const ends: (() => void)[] = [];
  let world: AnchorWorld;
  let anchor: Anchor;
  let witnesses: AnchorWitness[];

  beforeAll(async () => {
    const { status, stderr } = spawnSync(go!, ["build", "-o", program, "."], {
      cwd: join(import.meta.dirname, "witness"),
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`the Go program does not build: ${stderr}`);
  }, 300_000);
  beforeEach(async () => {
    for (const end of ends.splice(0)) end();
    world = await AnchorWorld.make();
    // Witnesses in other processes go by their own clock, not by a simulation's.
    world.log.now = Date.now();
    const state = mkdtempSync(join(folder, "state-"));
    const ours = await startWitness(state, ["--log", world.logKey.text, "--listen", "127.0.0.1:0"]);
    ends.push(() => ours.child.kill("SIGKILL"));
    witnesses = [await keyed(ours), await keyed(await foreignWitness())];
    const sql = openSql(":memory:");
    anchor = new Anchor({ ...world.parts(new Faults()), sql, witnesses: async () => witnesses, ask: askWitness });
  }, 60_000);
  afterAll(() => {
    for (const end of ends) end();
    rmSync(folder, { recursive: true });
  });

  const keyed = async ({ url, vkey }: { url: string; vkey: string }): Promise<AnchorWitness> => ({
    url,
    key: (await parseVerifierKey(vkey))!,
  });

  async function foreignWitness(): Promise<{ url: string; vkey: string }> {
    const child = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
    ends.push(() => child.stdin.end());
    child.stdin.write(`${JSON.stringify({ do: "serve", log: world.logKey.text })}\n`);
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout.once("data", (chunk: Buffer) => resolve(chunk.toString()));
      child.once("exit", (code) => reject(new Error(`the Go witness ended with ${code}`)));
    });
    return JSON.parse(line) as { url: string; vkey: string };
  }

  function run(input: object): unknown {
    const { status, stdout, stderr } = spawnSync(program, { input: JSON.stringify(input), encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
    return JSON.parse(stdout) as unknown;
  }

  const policyOf = (quorum: string): string =>
    [
      `log ${world.logKey.text}`,
      ...witnesses.map(({ key, url }, at) => `witness w${at + 1} ${key.text} ${url}`),
      quorum,
      "",
    ].join("\n");
  const both = "group G all w1 w2\nquorum G";

  async function anchored(): Promise<{ proof: string; body: string; leaf: string }> {
    const [shown] = await anchor.anchorings(tenantId);
    const { salt } = parseProofFile(shown!.proof)!;
    return { ...shown!, leaf: base64(leafBytes(salt, shown!.body)) };
  }

  test("a foreign witness and ours cosign the anchor log as it grows, and torchwood opens what comes of it", async () => {
    for (const count of [3, 1, 8, 1, 1]) {
      await world.grow(tenantId, count);
      await anchor.collect();
      await anchor.cosign();
      const { proof, leaf, body } = await anchored();
      expect(parseNote(parseProofFile(proof)!.checkpoint)!.signatures).toHaveLength(3);
      const stranger = `witness w3 ${world.witnesses[0]!.key.text}\n`;
      const [all, missing, otherLeaf] = run({
        do: "verify",
        cases: [
          { policy: policyOf(both), leaf, proof },
          { policy: policyOf(`${stranger}group G all w1 w2 w3\nquorum G`), leaf, proof },
          { policy: policyOf(both), leaf: base64(utf8("another leaf")), proof },
        ],
      }) as string[];
      expect(all).toBe("");
      expect(missing).toContain("note");
      expect(otherLeaf).not.toBe("");
      const parsed = await parseWitnessPolicy(utf8(policyOf(both)));
      if (!parsed.ok) throw new Error(parsed.reason);
      const keys = publishedKeysOf(world.keys);
      const opened = await openAnchorings([{ proof, body }], {
        tenantId,
        keys,
        policy: parsed.policy,
        sha256,
        now: Date.now(),
      });
      expect(opened).toMatchObject({ ok: true, witnessed: { isQuorum: true, agreement: { agreed: 2, of: 2 } } });
    }
    expect(world.logged).toEqual([]);
  }, 60_000);

  test("torchwood refuses an anchoring in which any line of the note was changed", async () => {
    await world.grow(tenantId);
    await anchor.collect();
    await anchor.cosign();
    const { proof, leaf } = await anchored();
    const lines = proof.split("\n");
    const cases = lines
      .map((line, at) => ({ at, line }))
      // The salt is not proven by the note; an empty line is no content.
      .filter(({ line }) => line !== "" && !line.startsWith("extra"))
      .map(({ at, line }) => ({
        policy: policyOf(both),
        leaf,
        proof: lines.with(at, `${line.slice(0, -6)}${line.at(-6) === "A" ? "B" : "A"}${line.slice(-5)}`).join("\n"),
      }));
    expect(cases.length).toBeGreaterThan(6);
    expect((run({ do: "verify", cases }) as string[]).filter((error) => error === "")).toEqual([]);
  }, 60_000);

  test("transparency-dev's client gets our witness's cosignature, and its conflicts", async () => {
    const url = witnesses[0]!.url;
    await world.grow(tenantId);
    await anchor.collect();
    const first = world.log.log.checkpoint()!;
    const ask = (old: number, checkpoint: string, proof: readonly Uint8Array[] = []) =>
      run({
        do: "ask",
        url,
        old,
        checkpoint,
        proof: proof.map((hash) => base64(hash)),
      }) as { lines: string; size: number; error: string };
    expect(ask(0, first)).toMatchObject({
      error: "",
      lines: expect.stringMatching(/^— maestro-witness-\w{8} \S+\n$/) as string,
    });
    await world.grow(tenantId);
    await anchor.collect();
    const second = world.log.log.checkpoint()!;
    expect(ask(0, second)).toMatchObject({ size: 1, error: "old size != current" });
    expect(ask(1, second, [new Uint8Array(32)]).error).toMatch(/proof/i);
    const proof = (await world.log.log.consistencyProof(1, 2))!;
    expect(ask(1, second, proof)).toMatchObject({ error: "" });
    expect(ask(2, second.replace(/^.*$/m, "maestro.test/unknown")).error).toMatch(/unknown/i);
    expect(ask(2, second.replace("\n2\n", "\n3\n")).error).toMatch(/signature/i);
  }, 60_000);

  test("torchwood reads the policies that we read, and refuses those that we refuse", async () => {
    const w1 = `witness W1 ${witnesses[0]!.key.text}\n`;
    const w2 = `witness W2 ${witnesses[1]!.key.text}\n`;
    const log = `log ${world.logKey.text}\n`;
    const good = [
      `${log}quorum none\n`,
      `${log}${w1}quorum W1\n`,
      `${w1}${w2}# both\n\n group\tG all W1 W2\n${log}quorum G\n`,
      `${log}${w1}${w2}group A any W1\ngroup B 2 A W2\nquorum B\n`,
    ];
    const bad = [
      log,
      `${log}${w1}quorum W2\n`,
      `${log}${w1}${w1}quorum W1\n`,
      `${log}${w1}quorum W1\nquorum W1\n`,
      `${log}${w1}group G 2 W1\nquorum G\n`,
      `${log}${w1}group G 0 W1\nquorum G\n`,
      `${log}group G any W1\n${w1}quorum G\n`,
      `${log}group G any\nquorum G\n`,
      `${log}witness W ${world.logKey.text}\nquorum W\n`,
      `${log}${w1}unknown line\nquorum W1\n`,
    ];
    // By the letter of the specification, which torchwood does not go by here.
    const loose = [
      `${log}${w1}group G any W1 W1\nquorum G\n`,
      `${log}${w1}group G any W1\ngroup H any W1\nquorum H\n`,
      `${log}witness none ${witnesses[0]!.key.text}\nquorum none\n`,
      `${log}quorum none\r\n`,
    ];
    for (const policy of loose) expect(await parseWitnessPolicy(utf8(policy))).toMatchObject({ ok: false });
    const policies = [...good, ...bad];
    const theirs = run({
      do: "verify",
      cases: policies.map((policy) => ({ policy, leaf: "", proof: "" })),
    }) as string[];
    const ours = await Promise.all(policies.map(async (policy) => (await parseWitnessPolicy(utf8(policy))).ok));
    expect(ours).toEqual(policies.map((_, at) => at < good.length));
    expect(theirs.map((error) => error === "")).toEqual(ours);
  });
});
