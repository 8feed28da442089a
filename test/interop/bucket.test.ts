// `maestro audit verify --bucket` against a real S3 server: versitygw (https://github.com/versity/versitygw), which serves a
// folder and checks signatures. cli/bucket.test.ts has the failures that such a server does not have on demand.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openBucket, parseBucketUrl } from "../../cli/bucket.ts";
import { maestro, testHost, type TestHost } from "../../cli/testing/host.ts";
import { freePort } from "../../scripts/stack/ports.ts";
import { eventText } from "../../shared/contract/events.ts";
import { eventAt, seeded, tenantId } from "../simulation/audit-events.ts";
import { newKeys, World } from "../simulation/audit-world.ts";
import { tool } from "../support/tools.ts";

const versitygw = tool("versitygw");
const accessKey = "maestro-interop";
const secret = "a-secret-of-versitygw";
const startMsMax = 20_000;

let folder: string;
let url: string;
let stop: () => Promise<void>;

beforeAll(async () => {
  if (versitygw === null) return;
  folder = mkdtempSync(join(tmpdir(), "maestro-bucket-"));
  const keys = await newKeys();
  const world = new World(keys, 41);
  const next = seeded(41);
  for (const count of [600, 40, 1]) {
    world.log.append(
      tenantId,
      Array.from({ length: count }, (_, at) => eventText(eventAt(count * 100 + at, next))),
    );
    await world.settle();
  }
  for (const [key, bytes] of world.objects) {
    mkdirSync(dirname(join(folder, "mc-audit", key)), { recursive: true });
    writeFileSync(join(folder, "mc-audit", key), bytes);
  }
  // More than one page of a listing.
  mkdirSync(join(folder, "many", "p"), { recursive: true });
  for (let at = 0; at < 2_300; at += 1) writeFileSync(join(folder, "many", "p", String(at).padStart(5, "0")), "");
  writeFileSync(join(folder, "keys.json"), JSON.stringify(world.published));
  const port = await freePort();
  url = `http://127.0.0.1:${port}`;
  const server = spawn(
    versitygw,
    ["--access", accessKey, "--secret", secret, "--port", `127.0.0.1:${port}`, "--quiet", "posix", folder],
    { stdio: "ignore" },
  );
  const ended = new Promise((resolve) => server.once("exit", resolve));
  stop = async () => {
    server.kill();
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  const end = performance.now() + startMsMax;
  while (performance.now() < end && !(await fetch(url).catch(() => null))) await sleep(50);
});

afterAll(async () => {
  await stop?.();
});

const hostWith = (env: Record<string, string> = {}): TestHost =>
  testHost({
    env: { AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secret, AWS_REGION: "us-east-1", ...env },
  });

const verify = async (host: TestHost, bucket = "mc-audit", ...more: string[]) =>
  await maestro(host, "audit", "verify", "--bucket", `${url}/${bucket}`, "--keys", join(folder, "keys.json"), ...more);

describe.skipIf(versitygw === null)("a bucket behind a real S3 server", () => {
  test("verifies to its newest manifest, is remembered, and is copied into a folder that verifies, too", async () => {
    const host = hostWith();
    const first = await verify(host, "mc-audit", "--out", "copy", "--json");
    expect([first.code, first.err]).toEqual([0, ""]);
    expect(first.json()).toMatchObject({ verdict: "VERIFIED-TO", tenant_id: tenantId });
    expect((await verify(host, "mc-audit", "--tenant", tenantId, "--json")).json()).toMatchObject({
      verdict: "VERIFIED",
      size: first.json()["size"],
    });
    const copy = await maestro(host, "audit", "verify", "--dir", "copy", "--keys", join(folder, "keys.json"), "--json");
    expect(copy.json()).toMatchObject({ verdict: "VERIFIED", size: first.json()["size"] });
  });

  test("is a GAP where an object of any kind is gone", async () => {
    const name = "00000000000000000000-00000000000000000800";
    for (const [key, row] of [
      [`seg/${name}.parquet`, 0],
      [`manifest/${name}.json`, 0],
      ["tile/0/001", 256],
    ] as const) {
      const path = join(folder, "mc-audit", tenantId, key);
      renameSync(path, join(folder, "aside"));
      const { code, json } = await verify(hostWith(), "mc-audit", "--json");
      renameSync(join(folder, "aside"), path);
      expect([key, code, json()]).toMatchObject([key, 7, { verdict: "GAP", first_bad: { row } }]);
    }
  });

  test("refuses a wrong secret and another region, and says no word of the secret", async () => {
    const cases: [Record<string, string>, string, number, string][] = [
      [{ AWS_SECRET_ACCESS_KEY: `${secret}x` }, "mc-audit", 3, "403 SignatureDoesNotMatch"],
      [{ AWS_ACCESS_KEY_ID: "nobody" }, "mc-audit", 1, "refuses the request (404 XAdminUserNotFound)"],
      [{ AWS_REGION: "eu-west-1" }, "mc-audit", 1, "400 AuthorizationHeaderMalformed"],
      [{}, "no-such-bucket", 4, "is not there"],
    ];
    for (const [env, bucket, exit, words] of cases) {
      const { code, out, err } = await verify(hostWith(env), bucket);
      expect([code, err]).toEqual([exit, expect.stringContaining(words)]);
      expect(out + err).not.toContain(secret);
    }
  });

  test("lists 2,300 keys over its pages, each once, and goes on behind any of them", async () => {
    const bucket = openBucket(hostWith(), parseBucketUrl(`${url}/many`));
    const keysAfter = async (after: string | null): Promise<string[]> => {
      const keys: string[] = [];
      for await (const key of bucket.keys("p/", after)) keys.push(key);
      return keys;
    };
    const all = await keysAfter(null);
    expect(all).toEqual(Array.from({ length: 2_300 }, (_, at) => `p/${String(at).padStart(5, "0")}`));
    expect(await keysAfter("p/01100")).toEqual(all.slice(1_101));
    expect(await bucket.folders()).toEqual(["p"]);
  });
});
