// Witnesses of the real stack: two are `maestro witness serve`, the third lies. A stack of its own, since who the witnesses
// are is said before it starts.

import { createServer, type Server } from "node:http";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openWitnessState } from "../../cli/witness/state.ts";
import { maestro, testHost, type TestHost } from "../../cli/testing/host.ts";
import { ephemeralFolder, startStack, type Stack } from "../../scripts/stack/index.ts";
import { freePort } from "../../scripts/stack/ports.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { anchorTenantId } from "../../shared/audit/anchor-event.ts";
import { originOf, parseCheckpoint, verifierKey } from "../../shared/audit/checkpoint.ts";
import { cosign, witnessVerifierKey } from "../../shared/audit/cosignature.ts";
import { TenantLog } from "../../shared/audit/log.ts";
import { parseNote } from "../../shared/audit/note.ts";
import { parseProofFile } from "../../shared/audit/proof-file.ts";
import { base64Bytes } from "../../shared/contract/bytes.ts";
import { eventText } from "../../shared/contract/events.ts";
import type { anchoringList, PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { GrantsPort } from "../../shared/disclosure/grants.ts";
import { importSigner } from "../../shared/signing/keys.ts";
import { gzip, sha256 } from "../../workers/audit/hashing.ts";
import type { z } from "zod";
import { eventAt, randomBytes, seeded } from "../simulation/audit-events.ts";
import { newSigner } from "../simulation/audit-world.ts";
import { jsonCall } from "../support/publisher.ts";
import { openSql } from "../support/sqlite.ts";
import { useStack } from "../support/stack.ts";
import { startWitness, type RunningWitness } from "../support/witness-process.ts";

const folder = mkdtempSync(join(tmpdir(), "maestro-witnesses-"));
const states = [join(folder, "w1"), join(folder, "w2")] as const;
const running: RunningWitness[] = [];
let stack: Stack;
let tenant: SeededTenant;
let liar: Server;
let vkeys: string[];

/** Answers every request with a stranger's signature under its own name. */
async function startLiar(name: string): Promise<Server> {
  const stranger = await newSigner("Ed25519");
  const server = createServer((request, response) => {
    void (async () => {
      let body = "";
      for await (const chunk of request as AsyncIterable<Buffer>) body += chunk.toString("utf8");
      const note = parseNote(body.slice(body.indexOf("\n\n") + 2));
      response.end(await cosign(stranger, name, note?.text ?? "", Math.floor(Date.now() / 1000)));
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

beforeAll(async () => {
  const ports = [await freePort(), await freePort()];
  vkeys = [];
  for (const [at, state] of states.entries()) {
    const opened = await openWitnessState(state, `witness.test/w${at + 1}`);
    vkeys.push(opened.vkey);
    opened.close();
  }
  liar = await startLiar("witness.test/liar");
  vkeys.push(await witnessVerifierKey("witness.test/liar", (await newSigner("Ed25519")).spki));
  const urls = [...ports, (liar.address() as AddressInfo).port].map((port) => `http://127.0.0.1:${port}`);
  const witnesses = urls.map((url, at) => ({ url, vkey: vkeys[at]! }));
  stack = await startStack({
    folder: ephemeralFolder(),
    ephemeral: true,
    witnesses,
    bundlesFolder: useStack().bundlesFolder,
  });
  const keys = (await (await fetch(`${stack.apiUrl}/api/audit/keys`)).json()) as PublishedKeys;
  const key = keys.keys.find(({ use }) => use === "checkpoint")!;
  const log = await verifierKey(originOf(keys.origin_prefix, anchorTenantId), base64Bytes(key.spki));
  for (const [at, state] of states.entries()) {
    running.push(await startWitness(state, ["--log", log, "--listen", `127.0.0.1:${ports[at]}`]));
  }
  tenant = await stack.seedTenant("witnessed");
}, 90_000);
afterAll(async () => {
  for (const { child } of running) child.kill("SIGKILL");
  liar?.close();
  await stack?.stop();
  rmSync(folder, { recursive: true });
});

const get = (path: string): Promise<Response> =>
  fetch(`${stack.apiUrl}${path}`, { headers: { authorization: `Bearer ${tenant.keys.admin}` } });

/** Grows the tenant's log by some rows; answers its published size. */
async function grow(): Promise<number> {
  const before = await sizeOf();
  const made = await fetch(`${stack.apiUrl}/api/keys`, jsonCall(tenant.keys.admin, "POST", { role: "viewer" }));
  expect(made.status).toBe(201);
  await expect.poll(sizeOf, { timeout: 20_000 }).toBeGreaterThan(before);
  return await sizeOf();
}
async function sizeOf(): Promise<number> {
  const answer = await get("/api/audit/checkpoint");
  return answer.status === 200 ? parseCheckpoint(await answer.text())!.size : 0;
}

/** A verifier with a home of its own, which remembers nothing. */
function newcomer(): TestHost {
  return testHost({ env: { MAESTRO_API_URL: stack.apiUrl, MAESTRO_API_KEY: tenant.keys.auditor } });
}
let policies = 0;
function policyFile(quorum: string): string {
  policies += 1;
  const path = join(folder, `policy-${policies}.txt`);
  writeFileSync(path, [...vkeys.map((vkey, at) => `witness w${at + 1} ${vkey}`), quorum, ""].join("\n"));
  return path;
}
const ofThree = (count: number): string => policyFile(`group G ${count} w1 w2 w3\nquorum G`);
async function verify(...options: string[]): Promise<Record<string, unknown> & { code: number }> {
  const { code, json } = await maestro(newcomer(), "audit", "verify", "--json", ...options);
  return { code, ...json() };
}

const copy = join(folder, "copy");
const keysFile = join(folder, "keys.json");
const offline = (from: string): string[] => ["--dir", from, "--keys", keysFile];

test("before the first cosignature there is no anchoring: a 404, and UNWITNESSED for who asks for one", async () => {
  await grow();
  expect((await get("/api/audit/anchor")).status).toBe(404);
  expect(await verify("--witnesses", ofThree(1))).toMatchObject({
    code: 7,
    verdict: "UNWITNESSED",
    head: null,
    witnesses: { agreed: 0, of: 3, size: 0 },
  });
});

test("within a cron's turn the head is anchored and cosigned; the verdict says how many agreed; the liar's line is dropped", async () => {
  const size = await grow();
  await stack.runScheduled();
  const { anchorings } = (await (await get("/api/audit/anchor")).json()) as z.infer<typeof anchoringList>;
  expect(anchorings).toHaveLength(1);
  const { checkpoint } = parseProofFile(anchorings[0]!.proof)!;
  expect(parseNote(checkpoint)!.signatures.map(({ name }) => name)).toEqual([
    `maestro.local/log/${anchorTenantId}`,
    ...["witness.test/w1", "witness.test/w2"].toSorted(
      (one, other) => checkpoint.indexOf(one) - checkpoint.indexOf(other),
    ),
  ]);
  expect(anchorings[0]!.body).not.toContain(tenant.tenant_id);
  const verdict = await verify("--witnesses", ofThree(2));
  expect(verdict).toMatchObject({
    code: 0,
    verdict: "VERIFIED",
    remembered: null,
    witnesses: { agreed: 2, of: 3, names: ["w1", "w2"], size, since: expect.stringMatching(/^20\d\d-/) as string },
  });
  expect(verdict["reason"]).toMatch(/2 of 3 witnesses agreed on \d+ rows? since 20/);
  const words = await maestro(newcomer(), "audit", "verify", "--witnesses", ofThree(2));
  expect(words.out).toMatch(/^VERIFIED all \d+ rows are as signed; 2 of 3 witnesses agreed on \d+ rows? since 20/);
  expect(await verify("--witnesses", ofThree(3))).toMatchObject({ code: 7, verdict: "UNWITNESSED", size });
  // Without a policy nothing is claimed that was not asked for.
  const plain = await verify();
  expect(plain).toMatchObject({ code: 0, verdict: "VERIFIED-TO" });
  expect(plain).not.toHaveProperty("witnesses");
});

test("the anchor log's rows are in the bucket and not in Postgres, where no tenant could ask about them", async () => {
  const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  try {
    const { rows } = await owner.query("select from audit_events where tenant_id = $1", [anchorTenantId]);
    expect(rows).toEqual([]);
  } finally {
    await owner.end();
  }
  const bucket = await stack.miniflare.getR2Bucket("AUDIT_BUCKET", "maestro-audit");
  const { objects } = await bucket.list({ prefix: `${anchorTenantId}/manifest/` });
  expect(objects.length).toBeGreaterThan(0);
});

test("events that come past the queue, as a link's do, have their log asked for its head too", async () => {
  const { tenant_id: id } = await stack.seedTenant("linked");
  const namespace = await stack.miniflare.getDurableObjectNamespace("DISCLOSURE_GRANTS", "maestro-audit");
  const grants = namespace.get(namespace.idFromName(id)) as unknown as GrantsPort;
  await grants.grant("pri_00000000000000000000000000", {
    id: "grt_00000000000000000000000000",
    execution_id: "exe_00000000000000000000000000",
    pack_sha256: "a".repeat(64),
    expires_at: new Date(Date.now() + 60_000).toISOString(),
    one_time: false,
    audience: null,
  });
  const owner = new pg.Client({ connectionString: stack.databaseUrls.owner });
  await owner.connect();
  try {
    const noted = async (): Promise<number | null> =>
      (await owner.query("select from audit_activity where tenant_id = $1", [id])).rowCount;
    await expect.poll(noted, { timeout: 20_000 }).toBe(1);
  } finally {
    await owner.end();
  }
});

test("a folder's copy verifies offline with its witnesses, and a tail that is cut off there is a GAP", async () => {
  await grow();
  await stack.runScheduled();
  expect(await verify("--out", copy)).toMatchObject({ code: 0 });
  expect(await maestro(newcomer(), "audit", "keys", "--out", keysFile)).toMatchObject({ code: 0 });
  const size = await sizeOf();
  const whole = await verify(...offline(copy), "--witnesses", ofThree(2));
  expect(whole).toMatchObject({ code: 0, verdict: "VERIFIED", size, witnesses: { agreed: 2, size } });
  const cut = join(folder, "cut");
  cpSync(copy, cut, { recursive: true });
  const place = join(cut, tenant.tenant_id);
  const last = readdirSync(join(place, "manifest")).toSorted().at(-1)!.slice(0, -".json".length);
  for (const file of ["checkpoint", `manifest/${last}.json`, `seg/${last}.parquet`]) rmSync(join(place, file));
  expect(await verify(...offline(cut))).toMatchObject({ code: 0, verdict: "VERIFIED-TO" });
  expect(await verify(...offline(cut), "--witnesses", ofThree(2))).toMatchObject({
    code: 7,
    verdict: "GAP",
    witnesses: { agreed: 2, size },
  });
  // Without its anchorings a copy is as good as its signatures.
  rmSync(join(place, "anchor"), { recursive: true });
  expect(await verify(...offline(cut), "--witnesses", ofThree(2))).toMatchObject({ code: 7, verdict: "UNWITNESSED" });
});

test("a log that was written anew and signed by the real keys, behind the witnesses' backs, is DIVERGED", async () => {
  const secrets = JSON.parse(readFileSync(join(stack.folder, "secrets.json"), "utf8")) as {
    worker_keys: { CHECKPOINT_KEY: string; STATEMENT_KEY: string };
  };
  const forged = join(folder, "forged");
  const next = seeded(3);
  const put = (key: string, bytes: string | Uint8Array): void => {
    mkdirSync(dirname(join(forged, key)), { recursive: true });
    writeFileSync(join(forged, key), bytes);
  };
  const log = new TenantLog({
    sql: openSql(":memory:"),
    sha256,
    gzip,
    clock: () => Date.now(),
    random: (count) => randomBytes(next, count),
    log: () => undefined,
    originPrefix: "maestro.local/log",
    rows: {
      write: async () => undefined,
      seal: async (_, { to }) => ({ sealed_to: to, hours: [], days: [] }),
    },
    meter: { report: async () => undefined },
    signed: async (_, work) =>
      await work({
        checkpoint: await importSigner(secrets.worker_keys.CHECKPOINT_KEY, "Ed25519"),
        statement: await importSigner(secrets.worker_keys.STATEMENT_KEY, "P-256"),
      }),
    bucket: {
      get: async () => null,
      digest: async () => null,
      list: async () => [],
      putIfAbsent: async (key, bytes) => {
        put(key, bytes);
        return "created";
      },
    },
  });
  const { tenant_id: id } = tenant;
  log.append(
    id,
    Array.from({ length: 30 }, (_, at) => eventText(eventAt(at * 3, next, id))),
  );
  await log.sealNow();
  put(`${id}/checkpoint`, log.checkpoint()!);
  expect(await verify(...offline(forged))).toMatchObject({ code: 0, verdict: "VERIFIED-TO", size: 30 });
  cpSync(join(copy, id, "anchor"), join(forged, id, "anchor"), { recursive: true });
  expect(await verify(...offline(forged), "--witnesses", ofThree(2))).toMatchObject({ code: 7, verdict: "DIVERGED" });
});

test("an anchoring that was changed is TAMPERED", async () => {
  const changed = join(folder, "changed");
  cpSync(copy, changed, { recursive: true });
  const place = join(changed, tenant.tenant_id, "anchor");
  const path = join(place, readdirSync(place).toSorted().at(-1)!);
  writeFileSync(path, readFileSync(path, "utf8").replace(/\\"tree_size\\":\d+/, String.raw`\"tree_size\":1`));
  expect(await verify(...offline(changed), "--witnesses", ofThree(2))).toMatchObject({ code: 7, verdict: "TAMPERED" });
});

test("with one witness dead, the other one's word still counts, and what both saw before as well", async () => {
  const both = await sizeOf();
  running[1]!.child.kill("SIGKILL");
  await running[1]!.ended;
  const size = await grow();
  await stack.runScheduled();
  expect(await verify("--witnesses", ofThree(1))).toMatchObject({
    code: 0,
    verdict: "VERIFIED",
    witnesses: { agreed: 1, names: ["w1"], size },
  });
  expect(await verify("--witnesses", ofThree(2))).toMatchObject({
    code: 0,
    verdict: "VERIFIED",
    size,
    witnesses: { agreed: 2, size: both },
  });
});

test("`maestro witness log` prints the key that witnesses of this service watch, and a broken policy is told by its line", async () => {
  const { code, out } = await maestro(newcomer(), "witness", "log");
  expect(code).toBe(0);
  const withLog = policyFile(`log ${out.trim()}\nquorum w1`);
  expect(await verify("--witnesses", withLog)).toMatchObject({ code: 0, verdict: "VERIFIED" });
  const broken = await maestro(newcomer(), "audit", "verify", "--witnesses", policyFile("quorum w4"));
  expect(broken).toMatchObject({ code: 2 });
  expect(broken.err).toContain("line 4: w4 is not defined before it is used");
});
