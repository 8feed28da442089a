// `maestro witness` as a process of its own: the protocol over HTTP, its bounds, its end, and a state that survives it.

import type { ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { connect } from "node:net";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { originOf, signCheckpoint, verifierKey } from "../../shared/audit/checkpoint.ts";
import { openCosignature } from "../../shared/audit/cosignature.ts";
import { parseNote, parseSignatureLines, parseVerifierKey } from "../../shared/audit/note.ts";
import { addCheckpointText, requestBytesMax } from "../../shared/audit/witness.ts";
import type { Signer } from "../../shared/signing/keys.ts";
import { seeded, tenantId } from "../../test/simulation/audit-events.ts";
import { newSigner, originPrefix, textsOf, World } from "../../test/simulation/audit-world.ts";
import { isDeep } from "../../test/support/sampled.ts";
import { startWitness, type RunningWitness } from "../../test/support/witness-process.ts";
import { maestro, testFolder, testHost } from "../testing/host.ts";
import { openWitnessState } from "./state.ts";

const origin = "log.example/one";
let signer: Signer;
let log: string;
beforeAll(async () => {
  signer = await newSigner("Ed25519");
  log = await verifierKey(origin, signer.spki);
});

const root = (fill: number): Uint8Array<ArrayBuffer> => new Uint8Array(32).fill(fill);
const note = (size: number, fill = size): Promise<string> => signCheckpoint(signer, { origin, size, root: root(fill) });

const running = new Set<ChildProcess>();
afterEach(() => {
  for (const child of running) child.kill("SIGKILL");
  running.clear();
});

async function serve(state: string, ...options: string[]): Promise<RunningWitness> {
  const witness = await startWitness(state, ["--log", log, "--listen", "127.0.0.1:0", ...options]);
  running.add(witness.child);
  return witness;
}

const post = (url: string, body: string | Uint8Array<ArrayBuffer>): Promise<Response> =>
  fetch(`${url}/add-checkpoint`, { method: "POST", body });
const ask = async (url: string, old: number, text: string): Promise<Response> =>
  post(url, addCheckpointText(old, [], text));

test("serves both calls of the protocol, logs a line a request, ends at SIGTERM, and remembers everything the next time", async () => {
  const state = join(testFolder(), "witness");
  const first = await serve(state, "--name", "witness.example/w1");
  const key = (await parseVerifierKey(first.vkey))!;
  expect(key.name).toBe("witness.example/w1");
  const eight = await note(8);
  const answer = await ask(first.url, 0, eight);
  expect(answer.status).toBe(200);
  const body = await answer.text();
  const opened = await openCosignature(parseNote(eight)!.text, parseSignatureLines(body)!, key, Date.now() / 1000);
  expect(opened.state).toBe("valid");
  const path = `/${createHash("sha256").update(origin).digest("hex")}/checkpoint`;
  expect(await (await fetch(first.url + path)).text()).toBe(eight + body);
  const conflict = await ask(first.url, 3, eight);
  expect([conflict.status, conflict.headers.get("content-type"), await conflict.text()]).toEqual([
    409,
    "text/x.tlog.size",
    "8\n",
  ]);
  expect((await ask(first.url, 8, await note(8, 9))).status).toBe(422);
  for (const [method, where, status] of [
    ["GET", "/add-checkpoint", 405],
    ["POST", "/", 404],
    ["GET", "/", 404],
    ["GET", "/../../etc/passwd", 404],
  ] as const) {
    expect((await fetch(first.url + where, { method })).status).toBe(status);
  }
  first.child.kill("SIGTERM");
  expect(await first.ended).toBe(0);
  const lines = first
    .err()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines.map(({ status }) => status)).toEqual([200, 200, 409, 422, 405, 404, 404, 404]);
  expect(lines[0]).toMatchObject({ method: "POST", path: "/add-checkpoint", origin, size: 8 });

  const second = await serve(state);
  expect(second.vkey).toBe(first.vkey);
  expect((await ask(second.url, 0, await note(9))).status).toBe(409);
  expect((await ask(second.url, 8, await note(8, 9))).status).toBe(422);
  expect((await ask(second.url, 8, eight)).status).toBe(200);
  expect(statSync(join(state, "witness.sqlite")).mode & 0o777).toBe(0o600);
}, 30_000);

test("a kill at any moment leaves a state that starts, and that forgets nothing it has answered", async () => {
  const keys = { checkpoint: signer, statement: await newSigner("P-256") };
  const world = new World(keys, 21);
  const watchedLog = await verifierKey(originOf(originPrefix, tenantId), signer.spki);
  const notes = [""];
  for (const text of textsOf(60, seeded(21)).filter((event) => !event.includes("mc.execution.finished"))) {
    world.log.append(tenantId, [text]);
    await world.log.sealNow();
    notes.push(world.log.checkpoint()!);
  }
  const requestFor = async (old: number, size: number): Promise<string> =>
    addCheckpointText(old, old === 0 ? [] : (await world.log.consistencyProof(old, size))!, notes[size]!);
  const state = join(testFolder(), "witness");
  let [answered, asked] = [0, 0];
  for (let round = 0; round < 2; round += 1) {
    const { url, child, ended } = await serve(state, "--log", watchedLog);
    // On a slow machine the first answer takes long: the moment is counted from it.
    let tellFirst = (): void => undefined;
    const first = new Promise<void>((resolve) => (tellFirst = resolve));
    const asking = (async () => {
      while (answered + 1 < notes.length) {
        asked = answered + 1;
        const response = await post(url, await requestFor(answered, asked));
        if (response.status !== 200) throw new Error(`the witness answered ${response.status}`);
        await response.text();
        answered = asked;
        tellFirst();
      }
    })()
      .catch((error: unknown) => {
        if (!(error instanceof TypeError)) throw error;
      })
      .finally(() => tellFirst());
    await first;
    await new Promise((resolve) => setTimeout(resolve, 60 + round * 25));
    child.kill("SIGKILL");
    await Promise.all([ended, asking]);
    expect(answered).toBeGreaterThan(0);
    // What was on its way when it was killed may be durable: then it was never seen, and is asked for from there.
    const opened = await openWitnessState(state, null);
    const { size } = (await opened.store.read(originOf(originPrefix, tenantId)))!;
    opened.close();
    expect([answered, asked]).toContain(size);
    answered = size;
  }
}, 30_000);

describe("one witness", () => {
  let shared: RunningWitness;
  const folder = mkdtempSync(join(tmpdir(), "maestro-witness-"));
  beforeAll(async () => {
    shared = await serve(folder);
    running.delete(shared.child);
  });
  afterAll(() => {
    shared.child.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  });

  test("of a hundred clients at once, with ten trees of one size, cosigns one of them", async () => {
    const notes = await Promise.all(Array.from({ length: 100 }, (_, at) => note(5, at % 10)));
    const statuses = await Promise.all(notes.map(async (text) => (await ask(shared.url, 0, text)).status));
    // The first one wins; whoever had the same root came with an old size that was no longer right.
    expect(statuses.filter((status) => status === 200)).toHaveLength(1);
    expect(statuses.filter((status) => status === 409)).toHaveLength(99);
  });

  test("refuses a request that is too large, and reads one as large as may be", async () => {
    // The connection may be cut before the answer is read.
    const response = await post(shared.url, new Uint8Array(requestBytesMax + 1)).catch(() => null);
    expect([413, undefined]).toContain(response?.status);
    expect((await post(shared.url, "x".repeat(requestBytesMax))).status).toBe(400);
  });

  test("holds its address: another one there is a conflict, with what to do", async () => {
    const { host: address } = new URL(shared.url);
    const ended = await maestro(testHost(), "witness", "serve", "--state", "w", "--log", log, "--listen", address);
    expect(ended).toMatchObject({ code: 5 });
    expect(ended.err).toContain("--listen");
  });

  // It takes those seconds: in `npm run test:deep` only.
  test.each(isDeep ? [10] : [])("cuts off a client that sends one request for longer than %i seconds", async () => {
    const { port } = new URL(shared.url);
    const socket = connect(Number(port), "127.0.0.1");
    const startedAt = Date.now();
    let answer = "";
    socket.on("data", (chunk) => (answer += chunk.toString()));
    socket.write("POST /add-checkpoint HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\n");
    const drip = setInterval(() => socket.write("o"), 500);
    await new Promise((resolve) => socket.once("close", resolve));
    clearInterval(drip);
    expect(Date.now() - startedAt).toBeLessThan(15_000);
    expect(answer).toMatch(/^(?:HTTP\/1\.1 408 |$)/);
    expect((await fetch(shared.url)).status).toBe(404);
  });

  test("is not kept from ending by a client that sends nothing more", async () => {
    const { port } = new URL(shared.url);
    const socket = connect(Number(port), "127.0.0.1");
    socket.on("error", () => undefined);
    socket.write("POST /add-checkpoint HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nold 0\n");
    await new Promise((resolve) => setTimeout(resolve, 100));
    shared.child.kill("SIGINT");
    expect(await shared.ended).toBe(0);
    socket.destroy();
  });
});

test("two processes on one state are one witness", async () => {
  const state = join(testFolder(), "witness");
  const one = await serve(state);
  const two = await serve(state);
  expect(two.vkey).toBe(one.vkey);
  const statuses = await Promise.all(
    Array.from({ length: 40 }, async (_, at) => (await ask([one, two][at % 2]!.url, 0, await note(5, at))).status),
  );
  expect(statuses.filter((status) => status !== 409)).toEqual([200]);
}, 30_000);

describe("refuses to start on", () => {
  const made = async (): Promise<string> => {
    const folder = join(testFolder(), "witness");
    const state = await openWitnessState(folder, null);
    await state.store.advance(origin, null, { size: 3, root_sha256: "a".repeat(64) }, await note(3));
    state.close();
    return folder;
  };
  const start = async (folder: string): Promise<{ code: number; out: string; err: string }> => {
    const host = testHost();
    host.interrupt();
    return maestro(host, "witness", "serve", "--state", folder, "--log", log, "--listen", "127.0.0.1:0");
  };

  test("no damage at all: it starts", async () => {
    expect(await start(await made())).toMatchObject({ code: 0 });
  });

  test.each<[string, (path: string, database: () => DatabaseSync) => void]>([
    ["a file that is cut short", (path) => truncateSync(path, statSync(path).size - 4_096)],
    [
      "a file of something else",
      (path) => writeFileSync(path, "not a database, but long enough to look at".repeat(40)),
    ],
    ["a page of zeros", (path) => writeFileSync(path, readFileSync(path).fill(0, 8_192, 12_288))],
    ["another program's database", (_, database) => database().exec("pragma application_id = 7")],
    ["the state of a later version", (_, database) => database().exec("pragma user_version = 2")],
    ["a state without its key", (_, database) => database().exec("delete from witness")],
    ["a key that is none", (_, database) => database().exec(`update witness set jwk = '{"kty":"OKP"}'`)],
    ["a head that is none", (_, database) => database().exec("update logs set root_sha256 = 'x'")],
    ["a head under another log", (_, database) => database().exec("update logs set origin = 'log.example/two'")],
  ])("%s, and says what to do", async (_, damage) => {
    const folder = await made();
    const path = join(folder, "witness.sqlite");
    const databases: DatabaseSync[] = [];
    damage(path, () => {
      databases.push(new DatabaseSync(path));
      return databases[0]!;
    });
    for (const database of databases) database.close();
    const { code, err } = await start(folder);
    expect(code).toBe(1);
    expect(err).toContain("is damaged");
    expect(err).toContain("Put back a copy of the newest state");
    expect(err).not.toContain('"d"');
  });
});

describe("`maestro witness key`", () => {
  test("makes a witness once, and prints the same key from then on", async () => {
    const host = testHost();
    const first = await maestro(host, "witness", "key", "--state", "w", "--name", "witness.example/w1");
    expect(first.code).toBe(0);
    expect(await parseVerifierKey(first.out.trim())).toMatchObject({ name: "witness.example/w1", type: 4 });
    expect((await maestro(host, "witness", "key", "--state", "w")).out).toBe(first.out);
    const renamed = await maestro(host, "witness", "key", "--state", "w", "--name", "w2");
    expect(renamed).toMatchObject({ code: 2 });
    expect(renamed.err).toContain("A witness keeps its name");
  });

  test.each([
    ["--name", "two words"],
    ["--name", "a+b"],
    ["--name", ""],
  ])("refuses %s %j", async (...given) => {
    expect(await maestro(testHost(), "witness", "key", "--state", "w", ...given)).toMatchObject({ code: 2 });
  });
});

test.each([
  ["a log's key that is none", ["--log", "nonsense"]],
  ["a witness's key for a log's", ["--log", "w1+5de3b2a7+BAAA"]],
  ["an address that is none", ["--listen", "somewhere"]],
  ["a port beyond all ports", ["--listen", "127.0.0.1:65536"]],
])("`maestro witness serve` refuses %s before it makes anything", async (_, given) => {
  const host = testHost();
  const withLog = given.includes("--log") ? [] : ["--log", log];
  expect(await maestro(host, "witness", "serve", "--state", "w", ...withLog, ...given)).toMatchObject({ code: 2 });
  expect(existsSync(join(host.home, "w"))).toBe(false);
});
