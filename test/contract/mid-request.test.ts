// A request that is under way while its certificate is renewed, or its authority revoked: through the TLS front, with a body that comes
// slowly, at a route of the API and at the edges' route of it.

import { once } from "node:events";
import { Agent, request as httpsRequest, type RequestOptions } from "node:https";
import type { ClientRequest, IncomingMessage } from "node:http";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { testFolder } from "../../cli/testing/host.ts";
import { initAuthority, readAuthority, rotateAuthority } from "../../cli/svid/authority-folder.ts";
import { mintSvid } from "../../cli/svid/mint.ts";
import type { SvidFiles } from "../../cli/svid/svid-folder.ts";
import type { SeededTenant } from "../../scripts/stack/seed.ts";
import type { Role } from "../../shared/contract/names.ts";
import { bundleOfState } from "../../shared/identity/issue/authority-state.ts";
import { parseSpiffeId, type SpiffeId } from "../../shared/identity/spiffe-id.ts";
import { reportOf } from "../support/fleet.ts";
import { callsAs } from "../support/identities.ts";
import { contractOf, type Contract } from "../support/openapi.ts";
import { freshKey, must } from "../support/publisher.ts";
import { useStack } from "../support/stack.ts";

const stack = useStack();
/** For the API to have read who it is: what comes later than that is refused, and the test fails. */
const beginMs = 2_000;
let api: Contract;
let tenant: SeededTenant;
let admin: ReturnType<typeof callsAs>;
let count = 0;

beforeAll(async () => {
  api = await contractOf(stack.apiUrl);
  tenant = await stack.seedTenant("mid-request");
  admin = callsAs(api, { authorization: `Bearer ${tenant.keys.admin}` });
});

function id(text: string): SpiffeId {
  const parsed = parseSpiffeId(text);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

/** A trust domain of the tenant's with an authority of its own, and a workload of that role. */
async function workload(role: Role) {
  const domain = `mid-request-${(count += 1)}.example`;
  const spiffeId = id(`spiffe://${domain}/${role}`);
  const folder = join(testFolder(), "authority");
  await initAuthority(folder, spiffeId.trustDomain, Date.now());
  const handIn = async (): Promise<void> => {
    must(200, await admin.handIn(domain, bundleOfState(await readAuthority(folder))));
  };
  must(204, await admin.state(domain));
  await handIn();
  must(201, await admin.register(spiffeId.uri, role));
  return {
    mint: async (): Promise<SvidFiles> =>
      (await mintSvid(await readAuthority(folder), { id: spiffeId, ttlSeconds: 600, audiences: [] }, Date.now())).files,
    /** Another key signs; the old one is believed on. */
    renewAuthority: async (): Promise<void> => {
      for (const move of ["prepare", "activate"] as const) await rotateAuthority(folder, move, ["x509"], Date.now());
      await handIn();
    },
    revokeAuthority: async (): Promise<void> => {
      for (const move of ["taint", "revoke"] as const) await rotateAuthority(folder, move, ["x509"], Date.now());
      await handIn();
    },
  };
}

interface Answer {
  readonly status: number;
  readonly code: unknown;
  /** Of the connection. */
  readonly port: number;
}

/** Requests with one certificate, over connections that are kept. */
function clientOf({ chainPem, keyPem }: SvidFiles) {
  const agent = new Agent({ keepAlive: true, cert: chainPem, key: keyPem, rejectUnauthorized: false });
  onTestFinished(() => agent.destroy());
  const open = (method: string, path: string, body: string): ClientRequest => {
    const headers = {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
      "idempotency-key": freshKey(),
    };
    const options: RequestOptions = { agent, method, headers: body === "" ? {} : headers };
    return httpsRequest(`${stack.tls.url}${path}`, options);
  };
  const answerOf = async (sent: ClientRequest): Promise<Answer> => {
    const [response] = (await once(sent, "response")) as [IncomingMessage];
    const port = response.socket.localPort ?? 0;
    const { code } = (await json(response)) as { readonly code?: unknown };
    return { status: response.statusCode ?? 0, code, port };
  };
  return {
    async get(path: string): Promise<Answer> {
      const sent = open("GET", path, "");
      sent.end();
      return await answerOf(sent);
    },
    /** Half of the body has gone, and the API has had its time; `finish` sends the rest. */
    async begin(path: string, body: string): Promise<{ readonly finish: () => Promise<Answer> }> {
      const sent = open("POST", path, body);
      const answer = answerOf(sent);
      answer.catch(() => {});
      sent.write(body.slice(0, body.length / 2));
      await sleep(beginMs);
      return {
        finish: () => {
          sent.end(body.slice(body.length / 2));
          return answer;
        },
      };
    },
  };
}

describe.each([
  ["a route of the API", "admin", "/api/keys", () => JSON.stringify({ role: "viewer" }), 201],
  [
    "the edges' route",
    "fetcher",
    "/api/edge/reports",
    () => JSON.stringify(reportOf({ now: Date.now(), instance: count })),
    200,
  ],
] as const)("at %s", (_, role, path, bodyOf, status) => {
  test("a request that began before its authority was revoked is answered; the next one of its connection is refused", async () => {
    const { mint, renewAuthority, revokeAuthority } = await workload(role);
    const client = clientOf(await mint());
    const before = await client.get("/api/whoami");
    expect(before.status).toBe(200);
    const held = await client.begin(path, bodyOf());
    await renewAuthority();
    await revokeAuthority();
    const answer = await held.finish();
    expect([answer.status, answer.code]).toEqual([status, undefined]);
    const next = await client.get("/api/whoami");
    expect([next.status, next.code, next.port]).toEqual([401, "svid_invalid", answer.port]);
    expect((await clientOf(await mint()).get("/api/whoami")).status).toBe(200);
  });

  test("a request that began before its certificate was renewed is answered, and so is one of the new certificate meanwhile", async () => {
    const { mint, renewAuthority } = await workload(role);
    const held = await clientOf(await mint()).begin(path, bodyOf());
    await renewAuthority();
    const renewed = clientOf(await mint());
    expect((await renewed.get("/api/whoami")).status).toBe(200);
    expect((await held.finish()).status).toBe(status);
    expect((await (await renewed.begin(path, bodyOf())).finish()).status).toBe(status);
  });
});
