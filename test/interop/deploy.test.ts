// What docs/DEPLOY.md and docs/edge/SERVING.md have people type, as far as it goes without an account: wrangler bundles each worker
// and reads its bindings; provider B's one file is made, and runs on Deno.

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { startEdgeB } from "../../scripts/stack/edge-b.ts";
import { startKeeper } from "../../scripts/stack/keeper.ts";
import { freePort } from "../../scripts/stack/ports.ts";

const root = resolve(import.meta.dirname, "../..");
/** Without these three wrangler looks for the network first. */
const offline = { WRANGLER_SEND_METRICS: "false", CLOUDFLARE_CF_FETCH_ENABLED: "false", WRANGLER_HIDE_BANNER: "true" };

test.each([
  ["workers/signer/wrangler.toml", []],
  ["workers/audit/wrangler.toml", ["--env", "production"]],
  ["wrangler.toml", ["--env", "production"]],
  ["workers/edge/wrangler.toml", []],
])("wrangler would deploy %s", { timeout: 120_000 }, async (config, flags) => {
  const folder = mkdtempSync(join(tmpdir(), "maestro-deploy-"));
  try {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [
        join(root, "node_modules/wrangler/bin/wrangler.js"),
        "deploy",
        "--dry-run",
        "--outdir",
        folder,
        "-c",
        config,
        ...flags,
      ],
      { cwd: root, env: { ...process.env, ...offline } },
    );
    expect(stdout).toMatch(/Total Upload: [\d.]+ KiB/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

/** https://docs.bunny.net/scripting/limits */
const scriptBytesMax = 10 * 1024 * 1024;

test("provider B's file, made as its page says, is whole and runs", { timeout: 120_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "maestro-deploy-"));
  mkdirSync(join(folder, "logs"));
  const keeper = startKeeper();
  try {
    const page = readFileSync(join(root, "docs/edge/SERVING.md"), "utf8");
    const command = /^ {4}npx esbuild (.+) --outfile=bunny\.js$/m.exec(page)?.[1] ?? "";
    const out = join(folder, "bunny.js");
    await promisify(execFile)(join(root, "node_modules/.bin/esbuild"), [...command.split(" "), `--outfile=${out}`], {
      cwd: root,
    });
    const script = readFileSync(out, "utf8");
    expect(script.length).toBeLessThan(scriptBytesMax);
    expect(Array.from(script.matchAll(/^import .* from "([^"]+)";$/gm), ([, name]) => name)).toEqual(["node:process"]);
    const edge = await startEdgeB({
      folder,
      port: await freePort(),
      script,
      settings: {
        BUNNY_STORAGE_URL: "http://127.0.0.1:9",
        BUNNY_STORAGE_ZONE: "zone",
        BUNNY_STORAGE_READ_ONLY_KEY: "none",
        API_ORIGIN: "http://127.0.0.1:9",
        EDGE_LINK_KEY: "",
        EDGE_METRICS_KEY: "",
      },
      keeper,
      onDeath: () => {},
    });
    try {
      expect((await fetch(`${edge.url}/tuf/acme/timestamp.json`)).status).toBe(401);
      expect((await fetch(`${edge.url}/api/whoami`)).status).toBe(502);
    } finally {
      await edge.stop();
    }
  } finally {
    await keeper.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
