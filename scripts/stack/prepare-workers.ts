// Makes of each wrangler.toml and its entry file what Miniflare runs, options and a bundle, and of provider B's entry what Deno
// runs: cached between starts. Called by startStack, while PostgreSQL starts.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import type { BuildOptions, Plugin } from "esbuild";
import type { V4WorkerOptions } from "miniflare";
import { StackFailure } from "./failure.ts";
import { writePrivateJson } from "./state.ts";
import { projectFolder } from "./workers.ts";

export interface PreparedWorker {
  readonly name: string;
  readonly crons: readonly string[];
  /** What wrangler.toml says, still without modules. */
  readonly options: V4WorkerOptions;
  /** The bundle. */
  readonly script: string;
  /** Compiled WebAssembly that the bundle imports: the name there, and the file. */
  readonly wasm: readonly { readonly name: string; readonly file: string }[];
  /** The entry's folder, which module names are relative to. */
  readonly root: string;
  /** Absolute paths of every file that the bundle was made of. */
  readonly inputs: readonly string[];
}

/**
 * What Miniflare is to run. `configs` are absolute paths of wrangler.toml files, the API worker's first. `cachePath` is
 * where the answer is kept for the next start: reading it takes a moment, wrangler and the bundler some seconds.
 */
export async function prepareWorkers(configs: readonly string[], cachePath: string): Promise<PreparedWorker[]> {
  const key = cacheKey(configs);
  const kept = readCache(cachePath);
  if (kept !== null && kept.key === key && Object.entries(kept.inputs).every(([path, mark]) => markOf(path) === mark)) {
    return kept.workers;
  }
  const workers = await makeWorkers(configs);
  const inputs = Object.fromEntries(workers.flatMap((worker) => worker.inputs.map((path) => [path, markOf(path)])));
  writePrivateJson(cachePath, { key, inputs, workers } satisfies Cache);
  return workers;
}

interface Cache {
  readonly key: string;
  /** Each bundled file's size and time of change. */
  readonly inputs: Readonly<Record<string, string | null>>;
  readonly workers: PreparedWorker[];
}

/** Everything but the bundled files that the answer depends on. */
function cacheKey(configs: readonly string[]): string {
  const hash = createHash("sha256").update(process.version);
  for (const path of [fileURLToPath(import.meta.url), join(projectFolder, "package-lock.json"), ...configs]) {
    hash.update(`\0${path}\0`).update(readFileSync(path));
  }
  return hash.digest("hex");
}

function markOf(path: string): string | null {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? null : `${stat.size} ${stat.mtimeMs}`;
}

/** Null where there is none, or a broken one: it is made anew then. */
function readCache(path: string): Cache | null {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Cache;
  } catch {
    return null;
  }
}

/**
 * One file for Deno out of `entry`, as Bunny Edge Scripting takes it: nothing is imported at run time but `node:` modules. Kept
 * at `cachePath` as the workers are.
 */
export async function prepareDenoScript(entry: string, cachePath: string): Promise<string> {
  const key = cacheKey([entry]);
  const kept = readCache(cachePath);
  if (kept !== null && kept.key === key && Object.entries(kept.inputs).every(([path, mark]) => markOf(path) === mark)) {
    return kept.workers[0]?.script ?? "";
  }
  const made = await bundle(entry, denoRules);
  const inputs = Object.fromEntries(made.inputs.map((path) => [path, markOf(path)]));
  const worker = { ...made, name: "deno", crons: [], root: dirname(entry), options: { name: "deno", modules: [] } };
  writePrivateJson(cachePath, { key, inputs, workers: [worker] } satisfies Cache);
  return made.script;
}

async function makeWorkers(configs: readonly string[]): Promise<PreparedWorker[]> {
  // No look-ups, no banner: they stall without a network. Read by wrangler when it is loaded.
  process.env["WRANGLER_SEND_METRICS"] = "false";
  process.env["WRANGLER_HIDE_BANNER"] = "true";
  process.env["CLOUDFLARE_CF_FETCH_ENABLED"] = "false";
  const wrangler = await import("wrangler");
  return Promise.all(
    configs.map(async (path) => {
      const config = wrangler.unstable_readConfig({ config: path }, { hideWarnings: true });
      const { workerOptions, main } = wrangler.unstable_getMiniflareWorkerOptions(path);
      const { modulesRules: _, rootPath: __, ...bindings } = workerOptions;
      if (config.name === undefined || main === undefined) {
        throw new TypeError(`${path} names no worker or no entry file`);
      }
      if (!existsSync(main)) {
        throw new StackFailure(`The worker ${config.name} has no entry file ${main}.`, `Correct \`main\` in ${path}.`);
      }
      return {
        name: config.name,
        crons: config.triggers.crons ?? [],
        options: { ...bindings, name: config.name, modulesRoot: "/", modules: [] },
        root: dirname(main),
        ...(await bundle(main, workerRules)),
      };
    }),
  );
}

type BundleRules = Pick<BuildOptions, "conditions" | "external" | "define"> & { readonly sourcemap: "inline" | false };

/** As wrangler bundles: https://developers.cloudflare.com/workers/wrangler/bundling/#conditional-exports */
const workerRules: BundleRules = {
  conditions: ["workerd", "worker", "browser"],
  external: ["cloudflare:*", "node:*"],
  define: { "process.env.NODE_ENV": '"production"', "navigator.userAgent": '"Cloudflare-Workers"' },
  sourcemap: "inline",
};

const denoRules: BundleRules = {
  conditions: ["deno", "import"],
  external: ["node:*"],
  sourcemap: false,
};

async function bundle(entry: string, rules: BundleRules): Promise<Pick<PreparedWorker, "script" | "wasm" | "inputs">> {
  const esbuild = await import("esbuild");
  const wasm = new Map<string, string>();
  const compiledWasm: Plugin = {
    name: "compiled-wasm",
    setup(build) {
      build.onResolve({ filter: /\.wasm$/ }, (args) => {
        const file = resolve(args.resolveDir, args.path);
        const name = `${wasm.size}-${basename(file)}`;
        wasm.set(name, file);
        return { path: `./${name}`, external: true };
      });
    },
  };
  const result = await esbuild
    .build({
      entryPoints: [entry],
      absWorkingDir: projectFolder,
      bundle: true,
      write: false,
      metafile: true,
      format: "esm",
      target: "es2024",
      platform: "neutral",
      mainFields: ["browser", "module", "main"],
      ...rules,
      sourcesContent: false,
      outfile: "index.js",
      keepNames: false,
      logLevel: "silent",
      plugins: [compiledWasm],
    })
    .catch((error: unknown) => {
      const [first] =
        (error as { errors?: { text: string; location: { file: string; line: number } | null }[] }).errors ?? [];
      const where = first?.location ? ` (${first.location.file}:${first.location.line})` : "";
      throw new StackFailure(
        `${entry} cannot be bundled: ${first?.text ?? String(error)}${where}.`,
        "Correct it and start again.",
        { cause: error },
      );
    });
  return {
    script: result.outputFiles[0]?.text ?? "",
    wasm: [...wasm].map(([name, file]) => ({ name, file })),
    inputs: [...Object.keys(result.metafile.inputs).map((path) => resolve(projectFolder, path)), ...wasm.values()],
  };
}
