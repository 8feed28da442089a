// What docs/DEPLOY.md has people type, as far as it goes without an account: wrangler bundles each worker and reads its bindings.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";

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
