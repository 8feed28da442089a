import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { sha256Hex } from "../../shared/contract/bytes.ts";
import { proposalBytes } from "../../shared/contract/proposal-bytes.ts";
import { maestro, testHost } from "../testing/host.ts";
import { apiKey } from "../testing/market.ts";
import { json, testServer } from "../testing/server.ts";

const id = "rot_01k9x6f6c8a0b1c2d3e4f5g6h7";
const running = {
  id,
  kind: "release",
  trust_domain: null,
  state: "published",
  started_by: "pri_01k9x6f6c8a0b1c2d3e4f5g6h7",
  old_keys: [],
  new_keys: [],
  consumers: [],
  waiting_for: ["plant-7-verifier"],
  obstacle: null,
  emergency: null,
  transitions: [{ state: "prepare", at: "2026-03-05T11:50:00.000Z" }],
};

test("who stops waiting for a rotation that has begun is told that it goes on, and how to see it", async () => {
  const server = await testServer();
  const host = testHost({ env: { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey } });
  server.on("POST /api/rotations", json(running));
  server.on(`GET /api/rotations/${id}`, () => host.interrupt());
  const { code, err } = await maestro(host, "rotation", "start", "release", "--wait", "60");
  expect([code, err]).toEqual([130, expect.stringContaining(`maestro rotation show ${id}`)]);
});

test("who waits for a rotation that somebody takes back waits no longer, and is told that it did not go through", async () => {
  const server = await testServer();
  const env = { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey };
  server.on("POST /api/rotations", json(running));
  server.on(`GET /api/rotations/${id}`, json({ ...running, state: "cancelled", waiting_for: [] }));
  server.on(`POST /api/rotations/${id}/cancel`, json({ ...running, state: "cancelled", waiting_for: [] }));
  const waited = await maestro(testHost({ env }), "rotation", "start", "release", "--wait", "60");
  expect([waited.code, waited.out]).toEqual([8, expect.stringContaining("cancelled")]);
  const cancelled = await maestro(testHost({ env }), "rotation", "cancel", id);
  expect([cancelled.code, cancelled.out]).toEqual([0, expect.stringContaining("cancelled")]);
});

const words = {
  id,
  kind: "release" as const,
  trust_domain: null,
  old_keys: [],
  reason: "the signer was broken into",
  proposed_by: running.started_by,
  proposed_at: "2026-03-05T11:50:00.000Z",
  breaks: ["plant-7-verifier has not acknowledged the new keys."],
};
const shownDigest = await sha256Hex(proposalBytes(words));

/** A server on which `words` are proposed, under `digest`. */
async function proposing(digest = shownDigest) {
  const server = await testServer();
  const proposals = [{ ...words, proposal_sha256: digest }];
  server.on("GET /api/rotations", json({ rotations: [], consumers: [], proposals }));
  server.on(`POST /api/rotations/${id}/approve`, json(running));
  const env = { MAESTRO_API_URL: server.url, MAESTRO_API_KEY: apiKey };
  const approved = () =>
    server.seen.filter(({ method }) => method === "POST").map(({ body }) => JSON.parse(body.toString()) as unknown);
  return { env, approved };
}

test("on a terminal an emergency is shown, and approved by the digest of what was shown once the answer is yes", async () => {
  // What the API says is the digest of it is no word of it.
  for (const served of [shownDigest, "0".repeat(64)]) {
    const { env, approved } = await proposing(served);
    const host = testHost({ env, stdin: Readable.from(["yes\n"]) });
    expect((await maestro(host, "rotation", "approve", id)).code).toBe(0);
    for (const shown of [words.reason, words.proposed_by, words.proposed_at, ...words.breaks, "Approve it?"])
      expect(host.err()).toContain(shown);
    expect(approved()).toEqual([{ proposal_sha256: shownDigest }]);
  }
});

test("nothing is approved by another answer, by none, by Ctrl-C, or by an id that nothing is proposed under", async () => {
  for (const [typed, code] of [
    ["no\n", 1],
    ["y\n", 1],
    ["", 1],
  ] as const) {
    const { env, approved } = await proposing();
    const host = testHost({ env, stdin: Readable.from([typed]) });
    expect([typed, (await maestro(host, "rotation", "approve", id)).code, approved()]).toEqual([typed, code, []]);
  }
  const { env, approved } = await proposing();
  const waiting = testHost({ env, stdin: new Readable({ read() {} }) });
  const answered = maestro(waiting, "rotation", "approve", id);
  await expect.poll(() => waiting.err()).toContain("Approve it?");
  waiting.interrupt();
  expect((await answered).code).toBe(130);
  const other = id.replace("rot_0", "rot_1");
  expect((await maestro(testHost({ env }), "rotation", "approve", other)).code).toBe(4);
  expect(approved()).toEqual([]);
});

test("without a terminal an emergency is approved by the digest that is given, and not without it", async () => {
  const { env, approved } = await proposing();
  const refused = await maestro(testHost({ env, stdin: "yes\n" }), "rotation", "approve", id);
  expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("--proposal")]);
  expect((await maestro(testHost({ env }), "rotation", "approve", id, "--proposal", "A".repeat(64))).code).toBe(2);
  expect(approved()).toEqual([]);
  const given = "1".repeat(64);
  expect((await maestro(testHost({ env }), "rotation", "approve", id, "--proposal", given)).code).toBe(0);
  expect(approved()).toEqual([{ proposal_sha256: given }]);
});
