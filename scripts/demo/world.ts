// The demo's world: its own ephemeral stack, a tenant, the CLI as a person uses it, and the other paths by which the demo
// reads back what was written. Used by the steps.

import { spawn } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DuckDBInstance } from "@duckdb/node-api";
import { withClient } from "../stack/connection.ts";
import type { Stack } from "../stack/index.ts";
import { projectFolder } from "../stack/workers.ts";
import type { SeededTenant } from "../stack/seed.ts";

const cliOutputBytesMax = 32 * 1024 * 1024;

export interface CliResult {
  readonly code: number;
  readonly json: Record<string, unknown>;
  readonly stderr: string;
}

export type Row = Record<string, unknown>;

export class World {
  readonly stack: Stack;
  readonly tenant: SeededTenant;
  /** A folder of the demo's own: the CLI's home, inputs, outputs, downloads. */
  readonly folder: string;

  constructor(stack: Stack, tenant: SeededTenant) {
    this.stack = stack;
    this.tenant = tenant;
    this.folder = mkdtempSync(join(tmpdir(), "maestro-demo-"));
    mkdirSync(join(this.folder, "home"));
  }

  close(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** `maestro … --json` in a process of its own, with a home of its own, as the given role. The key goes by environment. */
  cli(role: keyof SeededTenant["keys"], ...args: readonly string[]): Promise<CliResult> {
    const env = {
      PATH: process.env["PATH"] ?? "",
      HOME: join(this.folder, "home"),
      MAESTRO_API_URL: this.stack.apiUrl,
      MAESTRO_API_KEY: this.tenant.keys[role],
    };
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, [join(projectFolder, "cli/main.ts"), ...args, "--json"], {
        cwd: this.folder,
        env,
        stdio: ["ignore", "pipe", "pipe"],
      });
      let stdout = "";
      let stderr = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        if (stdout.length < cliOutputBytesMax) stdout += text;
      });
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        if (stderr.length < cliOutputBytesMax) stderr += text;
      });
      child.on("error", reject);
      child.on("close", (code) => {
        const text = stdout.trim();
        resolve({ code: code ?? 1, json: text === "" ? {} : (JSON.parse(text) as Record<string, unknown>), stderr });
      });
    });
  }

  /** The same, and it must succeed. */
  async run(role: keyof SeededTenant["keys"], ...args: readonly string[]): Promise<Record<string, unknown>> {
    const result = await this.cli(role, ...args);
    if (result.code !== 0) {
      throw new Error(
        `maestro ${args.join(" ")} ended with ${result.code}: ${result.stderr.trim() || JSON.stringify(result.json)}`,
      );
    }
    return result.json;
  }

  /** Rows from Postgres as its owner: past the API, past row security. */
  async rows(query: string, ...values: readonly unknown[]): Promise<Row[]> {
    const { rows } = await withClient(this.stack.databaseUrls.owner, (client) => client.query<Row>(query, [...values]));
    return rows;
  }

  /** An object straight from the bucket's own API: past the workers. */
  async object(bucket: "artifacts" | "audit", key: string): Promise<Uint8Array<ArrayBuffer> | null> {
    const r2 = await this.#bucket(bucket);
    const object = await r2.get(key);
    return object === null ? null : new Uint8Array(await object.arrayBuffer());
  }

  async keys(bucket: "artifacts" | "audit", prefix: string): Promise<string[]> {
    return (await (await this.#bucket(bucket)).list({ prefix })).objects.map(({ key }) => key);
  }

  /** The tenant's segments, copied from the bucket to a folder where DuckDB reads them. */
  async segmentFolder(): Promise<string> {
    const folder = mkdtempSync(join(this.folder, "segments-"));
    for (const key of await this.keys("audit", `${this.tenant.tenant_id}/seg/`)) {
      const bytes = await this.object("audit", key);
      if (bytes === null) throw new Error(`${key} was listed, but is not there`);
      writeFileSync(join(folder, key.slice(key.lastIndexOf("/") + 1)), bytes);
    }
    return folder;
  }

  /** Asks DuckDB, a reader of Parquet that is not ours, about all segments; `$1` of the query is not needed. */
  async duckdb(query: (segments: string) => string): Promise<Row[]> {
    const folder = await this.segmentFolder();
    const instance = await DuckDBInstance.create(":memory:");
    const connection = await instance.connect();
    try {
      const result = await connection.runAndReadAll(query(`read_parquet('${folder}/*.parquet')`));
      return result.getRowObjectsJson();
    } finally {
      connection.closeSync();
      instance.closeSync();
      rmSync(folder, { recursive: true, force: true });
    }
  }

  async #bucket(bucket: "artifacts" | "audit") {
    return bucket === "artifacts"
      ? await this.stack.miniflare.getR2Bucket("ARTIFACTS", "maestro-api")
      : await this.stack.miniflare.getR2Bucket("AUDIT_BUCKET", "maestro-audit");
  }
}

/** Asks until the answer is there. Throws after `waitMs`, naming what was waited for. */
export async function until<T>(what: string, waitMs: number, ask: () => Promise<T | null>): Promise<T> {
  const end = performance.now() + waitMs;
  for (;;) {
    const answer = await ask();
    if (answer !== null) return answer;
    if (performance.now() > end) throw new Error(`${what} did not come within ${waitMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
