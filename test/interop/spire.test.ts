// SPIRE's own CA, bundle endpoint and bundle client (test/interop/spire) against ours: `maestro svid verify` takes what SPIRE issues
// and refuses what was changed, and each fetches the other's bundle by https_spiffe.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { TLSSocket } from "node:tls";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { maestro, testHost, type TestHost } from "../../cli/testing/host.ts";
import { bundlePath, startTlsFront } from "../../scripts/stack/tls-front.ts";
import { checkBundleServer } from "../../shared/identity/bundle-endpoint.ts";
import { emptyBundleState, receiveBundle } from "../../shared/identity/bundle-state.ts";
import { certificatesInPem, pemOfCertificates } from "../../shared/identity/pem.ts";
import { parseSpiffeId, type SpiffeId } from "../../shared/identity/spiffe-id.ts";
import { parseTrustBundle, type TrustBundle } from "../../shared/identity/trust-bundle.ts";
import { tool } from "../support/tools.ts";

const go = tool("go");
const domain = "spire.example";
const workload = `spiffe://${domain}/tenant/demo/publisher/ci`;
const documentBytesMax = 524_288;

interface Issued {
  readonly server_id: string;
  readonly url: string;
  readonly bundle: string;
  readonly chain: string;
  readonly token: string;
}

function id(text: string): SpiffeId {
  const parsed = parseSpiffeId(text);
  if (!parsed.ok) throw new Error(parsed.refusal.reason);
  return parsed.value;
}

async function bundleOf(document: string): Promise<TrustBundle> {
  const parsed = await parseTrustBundle(id(workload).trustDomain, document);
  if (!parsed.ok) throw new Error(`${parsed.refusal.section}: ${parsed.refusal.reason}`);
  return parsed.value;
}

/** The document of an https_spiffe endpoint; throws before anything is asked where the server is not `server` under `known`. */
function fetchBundle(url: string, server: SpiffeId, known: TrustBundle): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { rejectUnauthorized: false, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
        if (text.length > documentBytesMax) response.destroy(new Error("the document is too large"));
      });
      response.on("end", () => resolve(text));
      response.on("error", reject);
    });
    asked.on("error", reject);
    asked.on("socket", (socket) => {
      socket.once("secureConnect", () => {
        const raw = (socket as TLSSocket).getPeerX509Certificate()?.raw;
        const chain = raw === undefined ? [] : [new Uint8Array(raw)];
        checkBundleServer(server, chain, () => known, Date.now()).then((checked) => {
          if (checked.ok) asked.end();
          else asked.destroy(new Error(`${checked.refusal.section}: ${checked.refusal.reason}`));
        }, reject);
      });
    });
  });
}

describe.skipIf(go === null)("SPIRE", () => {
  const folder = mkdtempSync(join(tmpdir(), "maestro-spire-"));
  const program = join(folder, "spire");
  let issued: Issued;
  let end: () => Promise<void>;

  beforeAll(async () => {
    const built = spawnSync(go!, ["build", "-o", program, "."], {
      cwd: join(import.meta.dirname, "spire"),
      encoding: "utf8",
    });
    if (built.status !== 0) throw new Error(`SPIRE's packages do not build: ${built.stderr}`);
    const child = spawn(program, ["serve", domain, "maestro-api"], { stdio: ["pipe", "pipe", "inherit"] });
    const ended = once(child, "close");
    end = async () => {
      child.stdin.end();
      const [status] = (await ended) as [number | null];
      if (status !== 0) throw new Error(`SPIRE's part ended with ${status}`);
    };
    const lines = createInterface({ input: child.stdout });
    const [line] = (await Promise.race([once(lines, "line"), ended])) as [unknown];
    issued = JSON.parse(String(line)) as Issued;
  }, 600_000);
  afterAll(async () => {
    await end();
    rmSync(folder, { recursive: true });
  });

  const verify = async (host: TestHost, file: string, text: string): Promise<[number, unknown]> => {
    writeFileSync(join(host.home, file), text);
    writeFileSync(join(host.home, "bundle.json"), issued.bundle);
    const bundle = ["--bundle", "bundle.json", "--trust-domain", domain, "--audience", "maestro-api", "--json"];
    const { code, json } = await maestro(host, "svid", "verify", file, ...bundle);
    return [code, json()];
  };

  test("what it issues holds at `maestro svid verify`, X.509 and JWT, and with one bit changed it does not", async () => {
    const host = testHost();
    expect(await verify(host, "svid.pem", issued.chain)).toMatchObject([0, { kind: "x509-svid", spiffe_id: workload }]);
    expect(await verify(host, "token.jwt", issued.token)).toMatchObject([0, { kind: "jwt-svid", spiffe_id: workload }]);
    const chain = certificatesInPem(issued.chain);
    if (!chain.ok) throw new Error(chain.refusal.reason);
    const taken: number[] = [];
    for (let at = 0; at < chain.value[0]!.length; at += 7) {
      const changed = chain.value.map((der) => new Uint8Array(der));
      changed[0]![at]! ^= 1;
      if ((await verify(host, "changed.pem", pemOfCertificates(changed)))[0] !== 7) taken.push(at);
    }
    expect(taken).toEqual([]);
    const [header, claims, signature] = issued.token.split(".");
    const other = Buffer.from(
      Buffer.from(claims!, "base64url").toString("utf8").replace("/publisher/", "/admin/"),
    ).toString("base64url");
    expect(await verify(host, "changed.jwt", `${header}.${other}.${signature}`)).toMatchObject([
      7,
      { section: "JWT-SVID 4" },
    ]);
  });

  test("its bundle endpoint federates with us: its server is believed by its ID alone, and its document is taken", async () => {
    const known = await bundleOf(issued.bundle);
    const document = await fetchBundle(issued.url, id(issued.server_id), known);
    const state = await receiveBundle(emptyBundleState(known.trustDomain, Date.now()), document, Date.now());
    expect([state.refused, state.bundle?.sequence, state.bundle?.refreshHint]).toEqual([null, 3, 60]);
    expect([state.bundle?.authorities.length, [...(state.bundle?.jwtKeys.keys() ?? [])]]).toEqual([1, ["jwt-1"]]);
    await expect(fetchBundle(issued.url, id(workload), known)).rejects.toThrow("SPIFFE Federation 5.2.2.4");
  });

  test("our bundle endpoint federates with its client, which takes the document, and refuses another server", async () => {
    const host = testHost();
    const svid = (...argv: string[]) => maestro(host, "svid", ...argv);
    await svid("authority", "init", "authority", "--trust-domain", "mc.local");
    await svid("authority", "prepare", "authority");
    const server = "spiffe://mc.local/platform/api";
    await svid("mint", "--authority", "authority", "--id", server, "--out", "server");
    const readIn = (name: string): string => readFileSync(join(host.home, "server", name), "utf8");
    const front = await startTlsFront({
      port: 0,
      target: "http://127.0.0.1:9",
      svid: { chainPem: readIn("svid.pem"), keyPem: readIn("svid.key") },
      bundle: () => readIn("bundle.json"),
    });
    onTestFinished(() => front.stop());
    const fetchAs = async (serverId: string): Promise<{ status: number | null; text: string }> => {
      const known = join(host.home, "server", "bundle.json");
      const child = spawn(program, ["fetch", "mc.local", `${front.url}${bundlePath}`, serverId, known]);
      const chunks: Buffer[] = [];
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      const [status] = (await once(child, "close")) as [number | null];
      return { status, text: Buffer.concat(chunks).toString("utf8") };
    };
    const { status, text } = await fetchAs(server);
    expect(status, text).toBe(0);
    // SPIRE's reader keeps no sequence.
    const fetched = JSON.parse(text) as { spiffe_refresh_hint: number; keys: { use: string }[] };
    expect([fetched.spiffe_refresh_hint, fetched.keys.map(({ use }) => use).toSorted()]).toEqual([
      60,
      ["jwt-svid", "jwt-svid", "x509-svid", "x509-svid"],
    ]);
    expect(await fetchAs("spiffe://mc.local/platform/other")).toEqual({
      status: 1,
      text: expect.stringContaining("unexpected ID"),
    });
  });
});
