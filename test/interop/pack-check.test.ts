// check.sh of a pack, in dash with openssl: what it accepts, and that it finds whatever is not right, also where the index
// that covers it was signed by the log's own key. And Python's zipfile and Sigstore's verifier on the same pack.

import { spawnSync } from "node:child_process";
import { createPublicKey } from "node:crypto";
import { cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, Verifier } from "@sigstore/verify";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { utf8, utf8Text, type Bytes } from "../../shared/contract/bytes.ts";
import { canonicalJson } from "../../shared/contract/events.ts";
import { gather } from "../../shared/disclosure/build.ts";
import { indexName, packFiles, packStatement, type PackFile, type PackParts } from "../../shared/disclosure/pack.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { tenantId } from "../simulation/audit-events.ts";
import { newKeys, World, type TestKeys } from "../simulation/audit-world.ts";
import { executionId, logLyingReceipt, packArchive, packing, Story } from "../simulation/disclosure-world.ts";
import { Stranger, which } from "../support/stranger.ts";
import { tool } from "../support/tools.ts";

const canCheck = tool("openssl") !== null && tool("unzip") !== null;

describe.skipIf(!canCheck)("check.sh", () => {
  let keys: TestKeys;
  let world: World;
  let parts: PackParts;
  let stranger: Stranger;
  let keysFile: string;
  let folders = 0;

  async function logOf(seed: number, run = executionId): Promise<World> {
    const made = new World(keys, seed);
    const story = new Story(seed);
    // An odd number of rows in front, so that proofs have nodes of every kind.
    made.log.append(tenantId, [...story.before(), ...story.start(run)]);
    await made.log.sealNow();
    made.log.append(tenantId, story.finish(run));
    await made.log.sealNow();
    return made;
  }
  async function partsOf(of: World, version: 2 | 3 = 3, run = executionId): Promise<PackParts> {
    const gathered = await gather(packing(of), packing(of).log(tenantId), tenantId, run, version);
    if (gathered === null) throw new Error("the log does not hold the run");
    return gathered;
  }
  const index = async (of: PackParts, files: readonly PackFile[], signer = keys.statement): Promise<PackFile> => ({
    name: indexName,
    bytes: utf8(canonicalJson(await signStatement(signer, await packStatement(of, files)))),
  });
  /** Lays the files out in a folder of their own. */
  function layOut(files: readonly PackFile[]): string {
    const folder = join(stranger.folder, `pack-${(folders += 1)}`);
    for (const { name, bytes } of files) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), bytes);
    }
    return folder;
  }
  const check = (folder: string, trusted = keysFile) => stranger.sh([join(folder, "check.sh"), trusted]);
  const whole = async (of = parts, files = packFiles(of)): Promise<string> =>
    layOut([...files, await index(of, files)]);
  const lastLine = (text: string): string => text.trimEnd().split("\n").at(-1) ?? "";

  beforeAll(async () => {
    keys = await newKeys();
    stranger = new Stranger();
    world = await logOf(1);
    parts = await partsOf(world);
    keysFile = stranger.write("KEYS", JSON.stringify(world.published, null, 2));
  });
  afterAll(() => stranger.remove());

  test("verifies a pack of version 3 and one of version 2, which it says proves less; in dash and in bash", async () => {
    for (const shell of [which("dash"), which("bash")].filter((found) => found !== null)) {
      const other = new Stranger(shell);
      try {
        for (const of of [parts, await partsOf(world, 2)]) {
          const { status, stdout, stderr } = other.sh([join(await whole(of), "check.sh"), keysFile]);
          expect([status, lastLine(stdout), stderr], stdout).toEqual([0, "VERIFIED", ""]);
          expect(stdout.includes("no proofs")).toBe(of.version === 2);
        }
      } finally {
        other.remove();
      }
    }
  });

  test("fails for each file that was changed, taken away or added, and names it", async () => {
    const folder = await whole();
    for (const { name, bytes } of [...packFiles(parts), { name: indexName, bytes: utf8("") }]) {
      const path = join(folder, name);
      const before = new Uint8Array(readFileSync(path));
      // The script that is run is the one from the pack: of itself it can only say that it was changed.
      const changed = name === "check.sh" ? Buffer.concat([before, utf8("\n# more\n")]) : Uint8Array.from(before);
      if (name !== "check.sh") changed[Math.floor(bytes.length / 2)]! ^= 1;
      writeFileSync(path, changed);
      const bent = check(folder);
      expect([bent.status, lastLine(bent.stdout).startsWith("FAILED: ")], `${name}: ${bent.stdout}`).toEqual([1, true]);
      expect(bent.stdout).toContain(name);
      writeFileSync(path, before);
    }
    const others = packFiles(parts).filter(({ name }) => name !== "check.sh");
    for (const { name, bytes } of [...others.filter((_, at) => at % 4 === 0), await index(parts, packFiles(parts))]) {
      const before = readFileSync(join(folder, name));
      rmSync(join(folder, name));
      const gone = check(folder);
      expect([gone.status, gone.stdout.includes(name), bytes.length > 0], name).toEqual([1, true, true]);
      writeFileSync(join(folder, name), before);
    }
    expect(check(folder).status).toBe(0);
    for (const name of [
      "more.txt",
      "events/more.json",
      ".hidden",
      "manifests/00000000000000000000-00000000000000000001",
    ]) {
      writeFileSync(join(folder, name), "{}");
      const { status, stdout } = check(folder);
      expect([status, stdout.includes(name)], stdout).toEqual([1, true]);
      rmSync(join(folder, name));
    }
    rmSync(join(folder, "README.txt"));
    symlinkSync("/dev/null", join(folder, "README.txt"));
    expect(check(folder).status).toBe(1);
  }, 300_000);

  /** Files as they are, but for one, under an index that the log's own key signed. */
  const replaced = (name: string, bytes: Bytes | null): PackFile[] =>
    packFiles(parts).flatMap((file) => (file.name !== name ? [file] : bytes === null ? [] : [{ name, bytes }]));
  const fileOf = (of: PackParts, name: string): Bytes => packFiles(of).find((file) => file.name === name)!.bytes;

  test("fails where the log's own key signed an index over what does not hold together", async () => {
    const other = await partsOf(await logOf(2));
    const [first, last] = [parts.events[0]!, parts.events.at(-1)!];
    const nameOf = (seq: number, kind: string) => `events/${String(seq).padStart(20, "0")}.${kind}`;
    const proof = nameOf(first.event.seq, "tlog-proof");
    const text = utf8Text(fileOf(parts, proof));
    const lines = text.split("\n");
    const swapped = [...lines.slice(0, 3), lines[4]!, lines[3]!, ...lines.slice(5)].join("\n");
    const event = nameOf(first.event.seq, "json");
    const eventText = utf8Text(fileOf(parts, event));
    const foreignKey = (await newKeys()).checkpoint;
    const { signCheckpoint, parseCheckpoint } = await import("../../shared/audit/checkpoint.ts");
    const forgedNote = await signCheckpoint(foreignKey, parseCheckpoint(parts.checkpoint)!);
    const manifest = parts.manifests[0]!;
    const cases: readonly (readonly [what: string, reason: string, files: PackFile[], of?: PackParts])[] = [
      ["another salt", "does not lead", replaced(proof, utf8(text.replace(lines[1]!, `extra ${"A".repeat(22)}==`)))],
      [
        "another index",
        "is not a proof of entry",
        replaced(proof, utf8(text.replace(lines[2]!, `index ${first.event.seq + 1}`))),
      ],
      ["two hashes swapped", "does not lead", replaced(proof, utf8(swapped))],
      ["a hash less", "too short", replaced(proof, utf8([...lines.slice(0, 3), ...lines.slice(4)].join("\n")))],
      [
        "a hash more",
        "too long",
        replaced(proof, utf8([...lines.slice(0, 4), lines[3]!, ...lines.slice(4)].join("\n"))),
      ],
      [
        "a checkpoint by another key",
        "not the one in the manifest",
        replaced(proof, utf8(text.replace(parts.checkpoint, forgedNote))),
      ],
      [
        "a root that was not signed",
        "not the one in the manifest",
        replaced(proof, utf8(text.replace(lines[lines.length - 4]!, lines[3]!))),
      ],
      ["the proof of another log", "not the one in the manifest", replaced(proof, fileOf(other, proof))],
      ["no proof", "tlog-proof is missing", replaced(proof, null)],
      ["another event", "does not lead", replaced(event, utf8(eventText.replace('"units":10', '"units":11')))],
      [
        "another run's event",
        "does not lead",
        replaced(event, utf8(eventText.replaceAll(executionId, `exe_${"0".repeat(26)}`))),
      ],
      ["an event at another place", "is not entry", replaced(event, utf8(eventText.replace(/"seq":\d+/, '"seq":1')))],
      ["no receipt in the log", "the number of events", replaced(nameOf(last.event.seq, "json"), null)],
      ["another run's receipt", "not the one in the log", replaced("receipt.json", fileOf(other, "receipt.json"))],
      ["a manifest as receipt", "is no receipt", replaced("receipt.json", manifest.bytes)],
      [
        "a receipt as manifest",
        "is no manifest",
        replaced(`manifests/${manifest.range}.json`, fileOf(parts, "receipt.json")),
      ],
      ["no manifest of a row's segment", "no manifest in the pack", replaced(`manifests/${manifest.range}.json`, null)],
      ["another tree size", "no manifest ends with", packFiles(parts), { ...parts, treeSize: parts.treeSize - 1 }],
      ["another origin", "of another log", packFiles(parts), { ...parts, logOrigin: "elsewhere/log" }],
      ["another tenant", "another tenant's", packFiles(parts), { ...parts, tenantId: tenantId.replace("7", "8") }],
      ["another execution", "another run's", packFiles(parts), { ...parts, executionId: `exe_${"0".repeat(26)}` }],
      [
        "fewer events than signed",
        "the number of events",
        packFiles(parts),
        { ...parts, events: [...parts.events, first] },
      ],
      ["a file that packs have not", "no such file", [...packFiles(parts), { name: "more.txt", bytes: utf8("more") }]],
      [
        "a file outside of the pack",
        "no such file",
        [...packFiles(parts), { name: "events/../../more", bytes: utf8("more") }],
      ],
    ];
    for (const [what, reason, files, of = parts] of cases) {
      const folder = await whole(of, files);
      const { status, stdout } = check(folder);
      expect([status, lastLine(stdout).startsWith("FAILED: ")], `${what}: ${stdout}`).toEqual([1, true]);
      expect(lastLine(stdout), what).toContain(reason);
    }
  }, 300_000);

  test("fails where the log itself signed and logged a receipt that says something else than the run's end", async () => {
    const cases = [
      [{ outcome: "failed" }, "does not say what the run's end says"],
      [{ exit_code: 1 }, "does not say what the run's end says"],
      [{ finished_at: "2026-01-01T00:00:00.000Z" }, "does not say what the run's end says"],
      [{}, "VERIFIED"],
    ] as const;
    for (const [lies, line] of cases) {
      const bent = new World(keys, 5);
      const story = new Story();
      bent.log.append(tenantId, [...story.before(), ...story.start(), ...story.finish()]);
      await logLyingReceipt(bent, executionId, lies);
      for (const version of [3, 2] as const) {
        const { stdout } = check(await whole(await partsOf(bent, version)));
        expect(lastLine(stdout), `${version} ${JSON.stringify(lies)}`).toContain(line);
      }
    }
  }, 300_000);

  test("verifies runs with and without an input, an output and an exit code", async () => {
    const ends = [
      { input_sha256: "e".repeat(64), exit_code: null, output_sha256: null, outcome: "expired" },
      { input_sha256: "e".repeat(64), exit_code: 0, output_sha256: "d".repeat(64), outcome: "succeeded" },
      { input_sha256: null, exit_code: 255, output_sha256: null, outcome: "failed" },
    ] as const;
    for (const end of ends) {
      const made = new World(keys, 6);
      const story = new Story();
      const run = { execution_id: executionId, package: "tools/probe", version: "1.0.0", channel: "stable" } as const;
      const last = { ...run, release_sha256: "a".repeat(64), duration_ms: 0, units: 0, ...end };
      made.log.append(tenantId, [
        ...story.before(),
        ...story.start(executionId, 0),
        story.tell("mc.execution.finished", last),
      ]);
      const { stdout } = check(await whole(await partsOf(made)));
      expect(lastLine(stdout), stdout).toBe("VERIFIED");
    }
  });

  test("fails with keys that are not those of the pack, or are for another use; and asks for keys where there are none", async () => {
    const folder = await whole();
    const published = world.published;
    const stranger2 = await newKeys();
    const foreign = stranger.write("OTHER", JSON.stringify(new World(stranger2, 1).published));
    const swapped = published.keys.map((key) => ({ ...key, use: key.use === "pack" ? "receipt" : key.use }));
    const misused = stranger.write("MISUSED", JSON.stringify({ ...published, keys: swapped }));
    const elsewhere = stranger.write("ELSEWHERE", JSON.stringify({ ...published, origin_prefix: "elsewhere/log" }));
    const empty = stranger.write("EMPTY", "");
    const early = { not_after: "2026-01-02T00:00:00.000Z" };
    const retired = (use: string) =>
      stranger.write(
        `RETIRED-${use}`,
        JSON.stringify({
          ...published,
          keys: published.keys.map((key) => ({ ...key, ...(key.use === use ? early : {}) })),
        }),
      );
    const noNotes = { ...published, keys: published.keys.filter(({ use }) => use !== "checkpoint") };
    const reasons = [
      [foreign, "a key that is not in KEYS"],
      [misused, "a key that is not in KEYS for this use (pack)"],
      [elsewhere, "of another log"],
      [empty, "KEYS is not a key set"],
      [stranger.write("NO-NOTES", JSON.stringify(noNotes)), "the checkpoint's signature does not verify"],
      [retired("checkpoint"), "the checkpoint's signature does not verify"],
      [retired("manifest"), "not of the time of its key"],
      [retired("pack"), "after the time of the key that signed it"],
    ] as const;
    for (const [file, reason] of reasons) {
      const { status, stdout } = check(folder, file);
      expect([status, lastLine(stdout)], file).toEqual([1, expect.stringContaining(reason)]);
    }
    const younger = published.keys.map((key) => ({
      ...key,
      ...(key.use === "pack" ? { not_before: "2027-01-01T00:00:00.000Z" } : {}),
    }));
    expect(check(folder, stranger.write("YOUNGER", JSON.stringify({ ...published, keys: younger }))).status).toBe(0);
    expect(stranger.sh([join(folder, "check.sh")]).status).toBe(2);
    expect(check(folder, join(folder, "none")).status).toBe(2);
    const own = check(folder, join(folder, "keys.json"));
    expect([own.status, own.stdout.includes("proves nothing")]).toEqual([0, true]);
    const copy = join(stranger.folder, "a folder with spaces");
    cpSync(folder, copy, { recursive: true });
    expect(stranger.sh(["check.sh", "../KEYS"], copy).status).toBe(0);
  });

  test("has a bundle verified by nobody's bytes but the signer's: a second payload in the same file is refused", async () => {
    const folder = await whole();
    const path = join(folder, "index.json");
    const text = readFileSync(path, "utf8");
    writeFileSync(path, text.replace("}]}", '}],"payload":"e30="}'));
    const { status, stdout } = check(folder);
    expect([status, stdout.includes("expected form")], stdout).toEqual([1, true]);
  });

  test.skipIf(tool("python3") === null)("Python's zipfile and unzip find the very files in the archive", async () => {
    const files = packFiles(parts);
    const zip = stranger.write("pack.zip", await packArchive([...files, await index(parts, files)]));
    const program = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as pack:
    assert pack.testzip() is None
    print("\\n".join(pack.namelist()))`;
    const python = spawnSync(tool("python3")!, ["-c", program, zip], { encoding: "utf8" });
    expect([python.status, python.stderr]).toEqual([0, ""]);
    expect(python.stdout.trimEnd().split("\n")).toEqual([...files.map(({ name }) => name), indexName]);
    const tested = spawnSync(tool("unzip")!, ["-tqq", zip], { encoding: "utf8" });
    expect([tested.status, tested.stdout]).toEqual([0, ""]);
  });
});

test("Sigstore's verifier accepts a pack's index, receipt and manifests by the log's key, and none by another", async () => {
  const keys = await newKeys();
  const world = new World(keys, 3);
  const story = new Story(3);
  world.log.append(tenantId, [...story.before(), ...story.start(), ...story.finish()]);
  await world.log.sealNow();
  const parts = await gather(packing(world), packing(world).log(tenantId), tenantId, executionId, 3);
  if (parts === null) throw new Error("the log does not hold the run");
  const files = packFiles(parts);
  const index = await signStatement(keys.statement, await packStatement(parts, files));
  const verifierOf = ({ spki, kid }: TestKeys["statement"]) =>
    new Verifier(
      {
        certificateAuthorities: [],
        timestampAuthorities: [],
        tlogs: [],
        ctlogs: [],
        publicKey: (hint) => {
          if (hint !== kid) throw new Error(`no key ${hint}`);
          const key = { key: Buffer.from(spki), format: "der", type: "spki" } as const;
          return { publicKey: createPublicKey(key), validFor: () => true };
        },
      },
      { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 },
    );
  const foreign = { ...(await newKeys()).statement, kid: keys.statement.kid };
  const signed = files.filter(({ name }) => name === "receipt.json" || name.startsWith("manifests/"));
  const bundles: unknown[] = [index, ...signed.map(({ bytes }) => JSON.parse(utf8Text(bytes)) as unknown)];
  expect(bundles).toHaveLength(3);
  for (const bundle of bundles) {
    const entity = toSignedEntity(bundleFromJSON(bundle));
    expect(() => verifierOf(keys.statement).verify(entity)).not.toThrow();
    expect(() => verifierOf(foreign).verify(entity)).toThrow("signature verification failed");
  }
});
