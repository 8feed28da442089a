// `npm run test:interop`: test/interop, which checks this project against foreign programs and vectors written elsewhere, and
// test/e2e, which takes README's tours.
// What is absent is skipped with a sentence; where CI=true it is required, and what can be installed is.
//   go, opa, python3, duckdb, openssl, unzip, versitygw
//                      found on the PATH; the tests get their paths as MAESTRO_TOOL_GO, …_OPA and so on
//   MAESTRO_VECTORS    folder of vectors, default ../shared/vectors
//   MAESTRO_DEEP=1     mutants of SVIDs at full count, which takes a quarter of an hour
// `--mutants`: these mutants alone, which need Go alone; `npm run test:deep` runs that.

import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { delimiter, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { endGroupsOnSignals, runGroup } from "./run/group.ts";
import { countTests } from "./run/vitest-report.ts";
import { projectFolder } from "./stack/workers.ts";

const suiteMsMax = process.env["MAESTRO_DEEP"] === "1" ? 4 * 3_600_000 : 900_000;
const installMsMax = 600_000;
/** What Go builds where CI has none of it. versitygw is an S3 server over a folder. */
const modules = {
  opa: "github.com/open-policy-agent/opa@v1.22.2",
  versitygw: "github.com/versity/versitygw/cmd/versitygw@v1.8.0",
} as const;
const duckdbPackage = "duckdb-cli==1.5.6";
const required = process.env["CI"] === "true";
const mutantsTest = "test/interop/spiffe-fuzz.test.ts";
const cacheFolder = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "maestro-interop");

function find(name: string): string | null {
  const go = spawnSync("go", ["env", "GOPATH"], { encoding: "utf8" });
  const folders = [
    join(cacheFolder, "bin"),
    ...(process.env["PATH"] ?? "").split(delimiter),
    join(go.stdout?.trim() || homedir(), "bin"),
  ];
  for (const folder of folders) {
    const path = join(folder, name);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not there: the next folder.
    }
  }
  return null;
}

/** Into a cache folder, once. */
function install(name: keyof typeof modules): string | null {
  const folder = join(cacheFolder, "bin");
  mkdirSync(folder, { recursive: true });
  console.log(`installing ${modules[name]} with Go`);
  const { status } = spawnSync("go", ["install", modules[name]], {
    stdio: "inherit",
    env: { ...process.env, GOBIN: folder },
    timeout: installMsMax,
  });
  return status === 0 ? find(name) : null;
}

/** Where CI has no DuckDB, Python's package of its command line is one: into the cache folder, once. */
function installDuckdb(python: string): string | null {
  const folder = join(cacheFolder, "duckdb");
  console.log(`installing ${duckdbPackage} with pip`);
  const { status } = spawnSync(python, ["-m", "pip", "install", "--quiet", "--target", folder, duckdbPackage], {
    stdio: "inherit",
    timeout: installMsMax,
  });
  const program = join(folder, "duckdb_cli", "duckdb");
  if (status !== 0 || !existsSync(program)) return null;
  mkdirSync(join(cacheFolder, "bin"), { recursive: true });
  rmSync(join(cacheFolder, "bin", "duckdb"), { force: true });
  symlinkSync(program, join(cacheFolder, "bin", "duckdb"));
  return find("duckdb");
}

async function main(): Promise<number> {
  endGroupsOnSignals();
  const { values } = parseArgs({ options: { mutants: { type: "boolean", default: false } } });
  return values.mutants ? await runMutants() : await runAll();
}

async function runMutants(): Promise<number> {
  const go = find("go");
  if (go !== null) return await runTests(["--project", "interop", mutantsTest], { MAESTRO_TOOL_GO: go }, 0);
  console.log(required ? "FAILED  go is not installed, and CI requires it" : "skipped go is not installed");
  return required ? 1 : 0;
}

async function runAll(): Promise<number> {
  const tools = {
    go: find("go"),
    opa: find("opa"),
    python3: find("python3"),
    duckdb: find("duckdb"),
    openssl: find("openssl"),
    unzip: find("unzip"),
    versitygw: find("versitygw"),
  };
  if (required && tools.go !== null) {
    tools.opa ??= install("opa");
    tools.versitygw ??= install("versitygw");
  }
  if (required && tools.duckdb === null && tools.python3 !== null) tools.duckdb = installDuckdb(tools.python3);
  const vectors = resolve(projectFolder, process.env["MAESTRO_VECTORS"] ?? "../shared/vectors");
  const absent = [
    ...Object.entries(tools).flatMap(([name, path]) => (path === null ? [`${name} is not installed`] : [])),
    ...(existsSync(vectors) ? [] : [`the folder of vectors ${vectors} is not there (MAESTRO_VECTORS)`]),
  ];
  for (const what of absent)
    console.log(required ? `FAILED  ${what}, and CI requires it` : `skipped ${what}: so are the tests that need it`);

  return await runTests(
    ["--project", "interop", "--project", "e2e"],
    {
      MAESTRO_VECTORS: existsSync(vectors) ? vectors : "",
      ...Object.fromEntries(
        Object.entries(tools).map(([name, path]) => [`MAESTRO_TOOL_${name.toUpperCase()}`, path ?? ""]),
      ),
    },
    absent.length,
  );
}

/** `absent`: how much is not there that CI requires. Answers the exit code. */
async function runTests(
  chosen: readonly string[],
  env: Readonly<Record<string, string>>,
  absent: number,
): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "maestro-interop-"));
  const reportPath = join(folder, "report.json");
  const { status, timedOut, output } = await runGroup(
    [
      "vitest",
      "run",
      ...chosen,
      "--passWithNoTests",
      "--reporter=default",
      "--reporter=json",
      `--outputFile.json=${reportPath}`,
    ],
    {
      outputPath: join(folder, "interop.log"),
      timeoutMs: suiteMsMax,
      env: {
        NO_COLOR: "1",
        MAESTRO_INTEROP: "1",
        ...env,
      },
    },
  );
  const count = countTests(reportPath, status, timedOut);
  rmSync(folder, { recursive: true, force: true });
  console.log(output.trimEnd());
  for (const name of count.skipped) console.log(`skipped ${name}`);
  const failed = count.failed + (required ? absent + count.skipped.length : 0);
  console.log(`\n${count.passed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
