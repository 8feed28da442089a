// What `maestro svid mint` issues, in the hands of go-spiffe: X.509 and JWT, of both key ages while the authority rotates; and
// go-spiffe as a client of our TLS front, by mutual TLS and by its bundle endpoint.

import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { maestro, testHost, type TestHost } from "../../cli/testing/host.ts";
import { certificatesInPem } from "../../shared/identity/pem.ts";
import { bundlePath, startTlsFront, type TlsFront } from "../../scripts/stack/tls-front.ts";
import { ask, buildGoSpiffe, type GoSpiffe } from "../support/go-spiffe.ts";
import { tool } from "../support/tools.ts";

const go = tool("go");
const workload = "spiffe://mc.local/tenant/demo/publisher/ci";
const server = "spiffe://mc.local/platform/api";

async function run(host: TestHost, ...argv: string[]): Promise<string> {
  const { code, out, err } = await maestro(host, "svid", ...argv);
  expect([code, err]).toEqual([0, ""]);
  return out;
}
const mint = (host: TestHost, id: string, out: string) =>
  run(host, "mint", "--authority", "authority", "--id", id, "--jwt", "maestro-api", "--out", out);
const bundle = (host: TestHost) => run(host, "bundle", "--authority", "authority");
const readIn = (host: TestHost, ...path: string[]): string => readFileSync(join(host.home, ...path), "utf8");

async function hostWithAuthority(): Promise<TestHost> {
  const host = testHost();
  await run(host, "authority", "init", "authority", "--trust-domain", "mc.local");
  await mint(host, workload, "svid");
  return host;
}

describe.skipIf(go === null)("go-spiffe", () => {
  let goSpiffe: GoSpiffe;
  beforeAll(() => {
    goSpiffe = buildGoSpiffe(go!);
  }, 300_000);
  afterAll(() => goSpiffe.remove());

  test("takes both key ages through a rotation, and only the new one once the old is revoked", async () => {
    const host = await hostWithAuthority();
    const questions = (folder: string): Uint8Array<ArrayBuffer>[] => {
      const chain = certificatesInPem(readIn(host, folder, "svid.pem"));
      if (!chain.ok) throw new Error(chain.refusal.reason);
      return [ask.chain(chain.value), ask.token("maestro-api", readIn(host, folder, "jwt-maestro-api.txt").trim())];
    };
    const holds = async (): Promise<boolean[]> =>
      (
        await goSpiffe.answers([
          ask.bundle("mc.local", await bundle(host)),
          ask.time(Date.now()),
          ...questions("svid"),
          ...questions("new"),
        ])
      ).slice(1);
    await run(host, "authority", "prepare", "authority");
    await run(host, "authority", "activate", "authority");
    await mint(host, workload, "new");
    expect(await holds()).toEqual([true, true, true, true, true]);
    await run(host, "authority", "taint", "authority");
    expect(await holds()).toEqual([true, true, true, true, true]);
    await run(host, "authority", "revoke", "authority");
    expect(await holds()).toEqual([true, false, false, true, true]);
  });

  async function frontOf(host: TestHost): Promise<TlsFront> {
    await mint(host, server, "server");
    const behind = createServer((request, response) => {
      const { tlsClientAuth } = JSON.parse(String(request.headers["mf-cf-blob"])) as {
        tlsClientAuth: { certPresented: string };
      };
      response.end(`presented ${tlsClientAuth.certPresented}`);
    });
    await new Promise<void>((resolve) => behind.listen(0, "127.0.0.1", resolve));
    const document = await bundle(host);
    const front = await startTlsFront({
      port: 0,
      target: `http://127.0.0.1:${(behind.address() as AddressInfo).port}`,
      svid: { chainPem: readIn(host, "server", "svid.pem"), keyPem: readIn(host, "server", "svid.key") },
      bundle: () => document,
    });
    onTestFinished(async () => {
      await front.stop();
      await new Promise((resolve) => behind.close(resolve));
    });
    return front;
  }

  test("shakes hands with our front by mutual TLS, with the folder that `mint` wrote, and with no other ID", async () => {
    const host = await hostWithAuthority();
    const front = await frontOf(host);
    const folder = join(host.home, "svid");
    const got = await goSpiffe.client("get", front.url, server, folder, join(folder, "bundle.json"));
    expect(got).toEqual({ ok: true, text: "presented 1" });
    const other = await goSpiffe.client("get", front.url, workload, folder, join(folder, "bundle.json"));
    expect([other.ok, other.text]).toEqual([false, expect.stringContaining("unexpected ID")]);
  });

  test("federates with our front's bundle endpoint (https_spiffe), and not with a server of another authority", async () => {
    const host = await hostWithAuthority();
    const front = await frontOf(host);
    const known = join(host.home, "svid", "bundle.json");
    const got = await goSpiffe.client("federate", "mc.local", `${front.url}${bundlePath}`, server, known);
    expect(got.ok, got.text).toBe(true);
    expect(JSON.parse(got.text)).toMatchObject({ spiffe_sequence: 1, spiffe_refresh_hint: 60 });
    const stranger = await hostWithAuthority();
    writeFileSync(join(host.home, "stranger.json"), await bundle(stranger));
    const refused = await goSpiffe.client(
      "federate",
      "mc.local",
      `${front.url}${bundlePath}`,
      server,
      join(host.home, "stranger.json"),
    );
    expect(refused.ok).toBe(false);
  });
});
