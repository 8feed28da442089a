// The pre-hook of `npm start`, `npm test` and their like: makes node_modules what package-lock.json says, and sees to it
// that Node 24 from npm runs. Plain JavaScript for whatever Node (20 or newer) the machine has; nothing is installed
// yet when it starts. It runs `npm ci`, never `npm install`, which would rewrite the lockfile.

import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const project = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(project, "node_modules");
const lockPath = join(project, "package-lock.json");
const installedPath = join(modules, ".package-lock.json");
const stampPath = join(modules, ".maestro-installed.json");
const nodeMajorMin = 20;
const nodeMajorRun = 24;

/** @param {string} sentence @param {string} wayOut @returns {never} */
function fail(sentence, wayOut) {
  process.stderr.write(`${sentence}\n→ ${wayOut}\n`);
  process.exit(1);
}

function checkMachine() {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < nodeMajorMin) {
    fail(
      `This is Node ${process.versions.node}, and the project needs Node ${nodeMajorMin} or newer.`,
      "Install a newer Node from https://nodejs.org/ and run the command again.",
    );
  }
  if (process.platform === "linux" && process.report) {
    process.report.excludeNetwork = true;
    const report = process.report.getReport();
    const { header } = typeof report === "string" ? JSON.parse(report) : report;
    if (!header.glibcVersionRuntime) {
      fail(
        "This Linux has musl instead of glibc, and the Workers runtime (workerd) has no build for it.",
        "Use a distribution with glibc, like Debian, Ubuntu or Fedora.",
      );
    }
  }
}

/** @param {string} path */
const digest = (path) => createHash("sha256").update(readFileSync(path)).digest("hex");

/** @param {string} path @returns {any} null when it is missing or broken: both mean "install again" */
function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch {
    return null;
  }
}

/** True where npm's own record of what it installed says the same as the lockfile. */
function isInstalled() {
  const record = readJson(installedPath);
  if (record === null) return false;
  const stamp = readJson(stampPath);
  if (stamp !== null && stamp.lock === digest(lockPath) && stamp.installed === digest(installedPath)) return true;
  const wanted =
    readJson(lockPath)?.packages ??
    fail("package-lock.json cannot be read.", "Restore it: git checkout package-lock.json");
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === "") return true;
    const installed = record.packages?.[path];
    if (installed === undefined) return entry.optional === true;
    return installed.version === entry.version && installed.integrity === entry.integrity;
  });
}

function writeStamp() {
  const stamp = { lock: digest(lockPath), installed: digest(installedPath) };
  const kept = readJson(stampPath);
  if (kept?.lock === stamp.lock && kept?.installed === stamp.installed) return;
  try {
    writeFileSync(stampPath, `${JSON.stringify(stamp)}\n`);
  } catch (error) {
    // A read-only node_modules works as well: the next start compares the lockfiles again.
    if (!["EACCES", "EROFS", "EPERM"].includes(error.code)) throw error;
  }
}

/** A Node that `npm ci` does not delete while it runs: not the one in node_modules. */
function outsideNode() {
  if (!process.execPath.startsWith(`${modules}/`)) return process.execPath;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const candidate = join(folder, "node");
    if (folder !== "" && existsSync(candidate) && !realpathSync(candidate).startsWith(`${realpathSync(modules)}/`))
      return candidate;
  }
  return fail(
    "The lockfile has changed, and there is no Node outside of node_modules to install with.",
    "Remove node_modules and run: npm ci",
  );
}

function install() {
  const npm = process.env.npm_execpath ?? "";
  const [command, before] = npm.endsWith("npm-cli.js") ? [outsideNode(), [npm]] : ["npm", []];
  const progress = process.stderr.isTTY === true;
  process.stderr.write("Installing what package-lock.json lists (npm ci): about 800 MB, once.\n");
  const started = Date.now();
  const { status, error, signal } = spawnSync(
    command,
    [
      ...before,
      "ci",
      "--no-audit",
      "--no-fund",
      ...(progress ? ["--progress=true"] : ["--progress=false", "--loglevel=error"]),
    ],
    {
      cwd: project,
      // npm's own talk belongs to standard error: standard output is the command's.
      stdio: ["ignore", 2, 2],
    },
  );
  if (error) fail(`npm ci cannot be started: ${error.message}.`, "Is npm installed? Try: npm ci");
  if (status !== 0)
    fail(
      `npm ci ended with ${signal ?? `exit status ${status}`}; its messages are above.`,
      "Correct what they name (often the network or a full disk) and run the command again.",
    );
  process.stderr.write(`Installed in ${Math.round((Date.now() - started) / 1000)} s.\n`);
}

/** Null when Node from npm runs, else what is the matter with it. */
function nodeTrouble() {
  const { stdout, error } = spawnSync(join(modules, ".bin", "node"), ["--version"], { encoding: "utf8" });
  if (!error && stdout?.startsWith(`v${nodeMajorRun}.`)) return null;
  return error ? error.code : stdout?.trim() || "no answer";
}

function checkNode() {
  const trouble = nodeTrouble();
  if (trouble === null) return;
  fail(
    `Node ${nodeMajorRun} from npm is not usable (${trouble}): its install script was not run, as with --ignore-scripts.`,
    "Allow install scripts (npm config get ignore-scripts; allowScripts in package.json lists them) and run: npm ci",
  );
}

checkMachine();
// A Node that an earlier `npm ci --ignore-scripts` left broken is mended, unless scripts are still ignored.
if (!isInstalled() || (process.env.npm_config_ignore_scripts !== "true" && nodeTrouble() !== null)) install();
checkNode();
writeStamp();
