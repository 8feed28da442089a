// A download of the API that is read slowly and held open while the authority of its SVID is revoked. It was decided before its first
// byte, so it ends; nothing else begins by that SVID. (edge-identity.test.ts has the edges.)

import { createHash, KeyObject, randomBytes } from "node:crypto";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { Agent, request as httpsRequest } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, expect, onTestFinished, test } from "vitest";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import { callsAs, TestDomain } from "../support/identities.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { manifestOf, must, packageOf, publishRelease, registeredSigner } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";
import { newKeys, pemOf } from "../support/svid.ts";

const stack = useStack();
/** More than all buffers between a reader that has stopped and what it reads from. */
const largeBytes = 16 * 1024 * 1024;
/** A reader takes so much, and then waits. */
const pieceBytes = 1024 * 1024;
let api: Contract;
let tenant: SeededTenant;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("held-download");
});

const sha256Of = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");

interface Asked extends RequestOptions {
  readonly headers?: Readonly<Record<string, string>>;
}

/** The answer has begun, and nothing of its body is read yet. */
async function begun(url: string, options: RequestOptions): Promise<IncomingMessage> {
  const sent = url.startsWith("https:") ? httpsRequest(url, options) : httpRequest(url, options);
  const answer = once(sent, "response") as Promise<[IncomingMessage]>;
  sent.end();
  const [response] = await answer;
  return response;
}

async function statusOf(url: string, options: RequestOptions): Promise<number> {
  const response = await begun(url, options);
  response.resume();
  await once(response, "end");
  return response.statusCode ?? 0;
}

/** The rest of the body, with a rest after each piece. */
async function readSlowly(response: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let since = 0;
  for await (const piece of response as AsyncIterable<Buffer>) {
    pieces.push(piece);
    since += piece.length;
    if (since < pieceBytes) continue;
    since = 0;
    await sleep(20);
  }
  return Buffer.concat(pieces);
}

test("of the API ends whole, by a certificate and by a token; by neither anything begins, a range of it neither", async () => {
  const signer = await registeredSigner(api, tenant);
  const limits = { wall_ms: 10_000, output_bytes: 1_000_000, unpacked_bytes: 2 * largeBytes };
  const manifest = manifestOf("tools/held-download", { limits });
  // Random, so that it is as large when packed.
  const artifact = await packageOf(manifest, `// ${randomBytes(largeBytes).toString("base64")}`);
  expect(artifact.length).toBeGreaterThan(largeBytes);
  await publishRelease(api, tenant, signer, manifest, artifact);
  const admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
  const domain = await TestDomain.make("held-download.example");
  must(204, await admin.state(domain.name));
  must(200, await admin.handIn(domain.name, domain.document()));
  must(201, await admin.register(`spiffe://${domain.name}/operator`, "operator"));

  const path = `/api/market/artifacts/${sha256Of(artifact)}`;
  const keys = await newKeys("P-256");
  const agent = new Agent({
    cert: pemOf(await domain.leaf("/operator", { keys })),
    key: KeyObject.from(keys.privateKey).export({ type: "pkcs8", format: "pem" }),
    rejectUnauthorized: false,
  });
  onTestFinished(() => agent.destroy());
  const ways: readonly (readonly [string, Asked])[] = [
    [`${stack.tls.url}${path}`, { agent }],
    [`${stack.apiUrl}${path}`, { headers: { authorization: `Bearer ${await domain.token("/operator")}` } }],
  ];
  const held = await Promise.all(ways.map(([url, options]) => begun(url, options)));
  expect(held.map(({ statusCode }) => statusCode)).toEqual([200, 200]);
  must(200, await admin.handIn(domain.name, domain.document([])));
  for (const [url, options] of ways) {
    expect(await statusOf(url, options)).toBe(401);
    const range = { ...options.headers, range: "bytes=1048576-" };
    expect(await statusOf(url, { ...options, headers: range })).toBe(401);
  }
  for (const response of held) expect(sha256Of(await readSlowly(response))).toBe(sha256Of(artifact));
}, 60_000);
