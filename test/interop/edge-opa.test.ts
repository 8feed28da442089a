// A stock OPA server against each provider's edge: it pulls a channel with a JWT-SVID out of a file that is renewed beneath it, verifies
// the signature that is in each bundle, answers by it, follows a new revision, and takes none that another key signed.

import { spawn, execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, test } from "vitest";
import { ephemeralFolder, startStack } from "../../scripts/stack/index.ts";
import { freePort } from "../../scripts/stack/ports.ts";
import { trustKey, workloadKey } from "../../shared/edge/serving-path.ts";
import { publish, sha256Of, type Bundle } from "../support/edge-fixture.ts";
import type { EdgeStoreHandle } from "../support/stack.ts";
import { bundleDocument, jwtEntry, jwtOf, newKeys, type KeyPair } from "../support/svid.ts";
import { tool } from "../support/tools.ts";

const opa = tool("opa");
const tenant = "opa-stranger";
/** OPA asks each second, an edge's timestamp is a second old at most; the rest is the machine's. */
const followMsMax = 6_000;

/** A key of an OPA bundle's own signature: the path of its file, and its public half. */
function signingKey(folder: string, name: string): { readonly path: string; readonly publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const path = join(folder, `${name}.pem`);
  writeFileSync(path, privateKey.export({ type: "sec1", format: "pem" }), { mode: 0o600 });
  return { path, publicKey: publicKey.export({ type: "spki", format: "pem" }).toString() };
}

const spiffeId = "spiffe://opa-stranger.example/opa";

/** A JWT-SVID of two minutes, as spiffe-helper leaves it for whoever reads `token_path`: in place of the one before, whole. */
async function renew(path: string, keys: KeyPair, kid: string): Promise<void> {
  const now = Math.floor(Date.now() / 1_000);
  const claims = { sub: spiffeId, aud: ["maestro-edge"], iat: now, exp: now + 120 };
  writeFileSync(`${path}.part`, await jwtOf(keys, { alg: "ES256", kid }, claims), { mode: 0o600 });
  renameSync(`${path}.part`, path);
}

/** A bundle as `opa build` makes and signs it, whose policy answers `version`. */
function buildBundle(folder: string, version: number, keyPath: string): Bundle {
  const source = join(folder, `source-${version}`);
  mkdirSync(source);
  writeFileSync(join(source, "gate.rego"), `package gate\n\nversion := ${version}\n`);
  const file = join(folder, `bundle-${version}.tar.gz`);
  const signing = ["--signing-alg", "ES256", "--signing-key", keyPath];
  execFileSync(opa ?? "opa", ["build", "--bundle", source, "--revision", `r${version}`, ...signing, "--output", file]);
  const bytes = new Uint8Array(readFileSync(file));
  return { bytes, digest: sha256Of(bytes) };
}

test.skipIf(opa === null)(
  "a stock OPA follows a channel at either provider by SVIDs that rotate beneath it, as long as its own key signed the bundles",
  { timeout: 120_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "maestro-opa-"));
    const stack = await startStack({ folder: ephemeralFolder(), ephemeral: true });
    const bucket = await stack.miniflare.getR2Bucket("EDGE_A", "maestro-edge");
    const { url, zone, accessKey } = stack.bunnyStorage;
    const stores: Readonly<Record<"a" | "b", Pick<EdgeStoreHandle, "put">>> = {
      a: { put: async (key, bytes) => void (await bucket.put(key, Buffer.from(bytes))) },
      b: {
        put: async (key, bytes) => {
          const body = new Uint8Array(bytes);
          const response = await fetch(`${url}/${zone}/${key}`, {
            method: "PUT",
            headers: { AccessKey: accessKey },
            body,
          });
          expect(response.status).toBe(201);
        },
      },
    };
    const [publisher, stranger] = [signingKey(folder, "publisher"), signingKey(folder, "stranger")];
    const bundles = [1, 2].map((version) => buildBundle(folder, version, publisher.path));
    const foreign = buildBundle(folder, 3, stranger.path);
    try {
      for (const provider of ["a", "b"] as const) {
        const store = { ...stores[provider], delete: async () => {} };
        await publish(store, tenant, { version: 1, channels: { "gateway/stable": bundles[0]! } });
        const [old, fresh] = [await newKeys("P-256"), await newKeys("P-256")];
        const trust = (sequence: number, keys: Readonly<Record<string, KeyPair>>): Promise<void> =>
          store.put(
            trustKey(tenant, "opa-stranger.example"),
            Buffer.from(
              bundleDocument(
                Object.entries(keys).map(([kid, key]) => jwtEntry(key, kid)),
                { spiffe_sequence: sequence },
              ),
            ),
          );
        await trust(1, { old, fresh });
        const workload = { fetcher_id: "pri_opa", tenant, spiffe_id: spiffeId, trust_domain: "opa-stranger.example" };
        await store.put(workloadKey(sha256Of(Buffer.from(spiffeId))), Buffer.from(JSON.stringify(workload)));
        const tokenPath = join(folder, `jwt-maestro-edge-${provider}.txt`);
        await renew(tokenPath, old, "old");
        const config = join(folder, `opa-${provider}.json`);
        const service = {
          url: `${stack.edge[provider]}/opa/${tenant}`,
          credentials: { bearer: { token_path: tokenPath } },
        };
        const polling = { min_delay_seconds: 1, max_delay_seconds: 1 };
        const signing = { keyid: "publisher" };
        const gateway = { service: "edge", resource: "gateway/stable/bundle.tar.gz", polling, signing };
        const keys = { publisher: { algorithm: "ES256", key: publisher.publicKey } };
        writeFileSync(
          config,
          JSON.stringify({ services: { edge: service }, keys, bundles: { gateway }, status: { console: true } }),
          { mode: 0o600 },
        );
        const address = `127.0.0.1:${await freePort()}`;
        const server = spawn(
          opa ?? "opa",
          ["run", "--server", "--addr", address, "--config-file", config, "--disable-telemetry"],
          { stdio: "ignore" },
        );
        const ended = new Promise((resolve) => server.once("exit", resolve));
        const answered = async (): Promise<unknown> => {
          const response = await fetch(`http://${address}/v1/data/gate/version`).catch(() => null);
          return response === null ? null : ((await response.json()) as { result?: unknown }).result;
        };
        const until = async (version: number, msMax: number): Promise<void> => {
          const deadline = performance.now() + msMax;
          while ((await answered()) !== version) {
            if (performance.now() > deadline) throw new Error(`provider ${provider}: no version ${version} in time`);
            await sleep(50);
          }
        };
        try {
          await until(1, 20_000);
          // Rotated: it takes the next SVID by itself, and the old authority is gone for good.
          await renew(tokenPath, fresh, "fresh");
          await trust(2, { fresh });
          await sleep(5_000);
          await publish(store, tenant, { version: 2, channels: { "gateway/stable": bundles[1]! } });
          await until(2, followMsMax);
          await publish(store, tenant, { version: 3, channels: { "gateway/stable": foreign } });
          const said = async (): Promise<string> => {
            const { result } = (await (await fetch(`http://${address}/v1/status`)).json()) as {
              result: { bundles: { gateway: { message?: string } } };
            };
            return result.bundles.gateway.message ?? "";
          };
          await expect.poll(said, { timeout: followMsMax }).toContain("failed to verify JWT signature");
          expect(await answered()).toBe(2);
        } finally {
          server.kill("SIGTERM");
          await ended;
        }
      }
    } finally {
      await stack.stop();
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
