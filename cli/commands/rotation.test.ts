import { expect, test } from "vitest";
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
