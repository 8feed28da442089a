// `maestro run`: one run of an installed package around its verified artifact. The API decides and records; the bytes
// of input and output stay on this machine, only their digests leave it.

import { createHash, randomUUID } from "node:crypto";
import { createReadStream } from "node:fs";
import { chmod, constants, copyFile, mkdir, mkdtemp, open, realpath, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import type { PublishedKeys } from "../../shared/contract/http-audit.ts";
import type { Execution, FinishExecution, StartExecution } from "../../shared/contract/http-executions.ts";
import type { Api } from "../api.ts";
import { installArgument, leaf, packageArgument, type Act } from "../command.ts";
import type { ExitName } from "../exit-codes.ts";
import { errorCode, Failure } from "../failure.ts";
import { notWritten, requireFilePlace, requireWritableFolder } from "../folders.ts";
import { printable, printableLines } from "../output.ts";
import { unpackPackage } from "../package/archive.ts";
import { artifactOf } from "../package/artifact-cache.ts";
import { findIsolation, type Isolation } from "../package/isolation.ts";
import { runSandboxed, type RunEnd, type SandboxResult } from "../package/sandbox.ts";
import { verifyRelease } from "../package/verify-release.ts";
import type { Session } from "../session.ts";
import { trustedKeys } from "../trusted-keys.ts";

const inputBytesMax = 256 * 1024 * 1024;

interface RunOptions {
  readonly install: string;
  readonly out?: string;
  readonly requireIsolation?: boolean;
}

export function runCommands(program: Command, act: Act): void {
  leaf(program, "run", {
    summary: "run an installed package on a file, in a sandbox, with a receipt",
    more:
      "What the sandbox keeps away and what it does not: maestro help sandbox.\n" +
      "A release counts only by keys that are trusted since the first use of this API: maestro audit keys --help.",
    examples: [
      "maestro run tools/sbom-inventory package-lock.json",
      "maestro run tools/sbom-inventory package-lock.json --out sbom.json --json",
      "maestro run tools/sbom-inventory package-lock.json --install site-a",
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .argument("<input>", "the file that it reads")
    .option("--install <name>", "which of the tenant's installs runs", installArgument, "default")
    .option("--out <file>", "where the output goes (default: <package>-<execution>.out in this folder)")
    .option("--require-isolation", "refuse to run where the network cannot be cut off")
    .action(act(run));
}

/** The private folder of one run: everything of it goes when the run is over. */
interface Workplace {
  readonly folder: string;
  readonly input: string;
  readonly inputSha256: string;
}

async function run(session: Session, name: string, input: string, options: RunOptions): Promise<ExitName> {
  const out = options.out === undefined ? null : resolve(session.host.cwd, options.out);
  await requireWritableFolder(out === null ? session.host.cwd : dirname(out));
  if (out !== null) await requireFilePlace(out);
  const isolation = await findIsolation();
  if (isolation.network === "open" && options.requireIsolation === true) {
    throw new Failure("failure", "This machine cannot cut a run off from the network", {
      advice: "Linux with user namespaces can.",
    });
  }
  const api = await session.api();
  // Started runs are finished even when the person has pressed Ctrl-C.
  const finishing = await session.api({ evenWhenInterrupted: true });
  const folder = await realpath(await mkdtemp(join(tmpdir(), "maestro-run-")));
  try {
    const place = await takeInput(folder, resolve(session.host.cwd, input));
    // Before anything is started: with keys that are not trusted no release would be believed, and the run only paid for.
    const keys = await trustedKeys(session);
    const asked = { package: name, install: options.install, input_sha256: place.inputSha256 };
    const started = await api.startExecution(asked);
    return await performAndFinish(session, { api, finishing, keys, place, asked, started, isolation, out });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

interface Running {
  readonly api: Api;
  readonly finishing: Api;
  readonly keys: PublishedKeys;
  readonly place: Workplace;
  readonly asked: StartExecution;
  readonly started: Execution;
  readonly isolation: Isolation;
  readonly out: string | null;
}

async function performAndFinish(session: Session, running: Running): Promise<ExitName> {
  const { finishing, started } = running;
  let result: SandboxResult;
  let outputPath: string | null = null;
  try {
    result = await perform(session, running);
    if (succeeded(result)) {
      outputPath = running.out ?? resolve(session.host.cwd, `${basename(started.package)}-${started.id}.out`);
      await moveInto(join(running.place.folder, "output"), outputPath);
    }
  } catch (error) {
    // The run began, so it ends as failed, whatever went wrong here; what went wrong is what the person is told.
    const failed: FinishExecution = { outcome: "failed", exit_code: null, output_sha256: null };
    if ((await finish(session, finishing, started, failed)) !== null)
      session.out.note(`${started.id} is recorded as failed`);
    throw error;
  }
  const end = await finish(session, finishing, started, {
    outcome: succeeded(result) ? "succeeded" : "failed",
    exit_code: result.exitCode,
    output_sha256: succeeded(result) ? result.outputSha256 : null,
  });
  if (!succeeded(result) && result.stderrTail.trim() !== "" && !session.out.json) {
    session.out.note(session.out.paint.dim("the package said:"));
    session.out.note(printableLines(result.stderrTail.trimEnd()).replaceAll(/^/gm, "  "));
  }
  if (result.network === "open") {
    session.out.note("note: this machine could not cut the run off from the network (maestro help sandbox)");
  }
  const exit = exitOf(result);
  session.out.result(
    {
      execution: end.recorded ? end.execution : started,
      outcome: succeeded(result) ? "succeeded" : "failed",
      end: result.end,
      exit_code: result.exitCode,
      output: outputPath,
      output_bytes: result.outputBytes,
      output_sha256: succeeded(result) ? result.outputSha256 : null,
      stderr: result.stderrTail,
      network: result.network,
      finish_recorded: end.recorded,
    },
    () =>
      session.out.record([
        ["execution", started.id],
        ["package", `${started.package} ${started.version}`],
        ["outcome", succeeded(result) ? "succeeded" : `failed: ${endWords(result)}`],
        ["output", outputPath],
        ["output sha256", succeeded(result) ? result.outputSha256 : null],
        ["network", result.network],
      ]),
  );
  return exit === "ok" && !end.recorded ? end.why : exit;
}

async function perform(session: Session, running: Running): Promise<SandboxResult> {
  const { api, keys, place, started, isolation } = running;
  requireAsked(running);
  const [release, artifact] = await Promise.all([
    api.release(started.package, { version: started.version }),
    artifactOf(session.host, started.release_sha256, () => api.artifact(started.release_sha256)),
  ]);
  const manifest = await verifyRelease(started, release, keys, artifact.bytes);
  const packageFolder = join(place.folder, "package");
  await mkdir(packageFolder, { mode: 0o700 });
  await unpackPackage(artifact.bytes, manifest.limits.unpacked_bytes, packageFolder);
  return runSandboxed({
    folder: packageFolder,
    entryPoint: manifest.entry_point,
    input: manifest.permissions.read_input ? place.input : null,
    outputFile: join(place.folder, "output"),
    wallMs: manifest.limits.wall_ms,
    outputBytesMax: manifest.limits.output_bytes,
    interrupted: session.host.interrupted,
    isolation,
  });
}

/** A release of another package is signed as well as this one's: which of them runs is not for the API to say. */
function requireAsked({ asked, started }: Pick<Running, "asked" | "started">): void {
  const other = (["package", "install", "input_sha256"] as const).find((member) => started[member] !== asked[member]);
  if (other === undefined) return;
  throw new Failure("verification_failed", `The API started another run than the one that was asked for (${other})`, {
    advice: "Nothing was run. Tell whoever answers for the API.",
    facts: { asked, started },
  });
}

const succeeded = (result: SandboxResult): boolean => result.end === "exited" && result.exitCode === 0;

function exitOf(result: SandboxResult): ExitName {
  if (result.end === "interrupted") return "interrupted";
  if (result.end === "not_started") return "failure";
  return succeeded(result) ? "ok" : "package_failed";
}

const endSentences: Record<Exclude<RunEnd, "exited">, string> = {
  killed: "it was killed by a signal",
  time_limit: "it went past its time limit",
  output_limit: "it wrote more than its manifest declares",
  interrupted: "interrupted",
  not_started: "Node could not be started",
};
const endWords = (result: SandboxResult): string =>
  result.end === "exited" ? `exit code ${result.exitCode}` : endSentences[result.end];

type Finish =
  | { readonly recorded: true; readonly execution: Execution }
  | { readonly recorded: false; readonly why: ExitName };

/** Where the finish cannot be recorded the person is told; the run's deadline ends it then. */
async function finish(session: Session, api: Api, started: Execution, body: FinishExecution): Promise<Finish> {
  try {
    return { recorded: true, execution: await api.finishExecution(started.id, body) };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    session.out.note(
      `warning: the end of ${started.id} could not be recorded: ${printable(error.message)}. It expires by itself at ${started.deadline_at}.`,
    );
    return { recorded: false, why: error.exit };
  }
}

/** Copies the input, so that what is hashed is what the package reads, whatever happens to the original. */
async function takeInput(folder: string, path: string): Promise<Workplace> {
  const copy = join(folder, "input");
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new Failure("usage", `The input ${path} is not a file`);
    if (found.size > inputBytesMax)
      throw new Failure("usage", `The input has ${found.size} bytes; the most is ${inputBytesMax}`);
    await copyFile(path, copy, constants.COPYFILE_EXCL);
    await chmod(copy, 0o400);
  } catch (error) {
    if (error instanceof Failure || errorCode(error) === null) throw error;
    throw new Failure("usage", `The input ${path} cannot be read (${errorCode(error)})`);
  }
  const hash = createHash("sha256");
  for await (const chunk of createReadStream(copy) as AsyncIterable<Buffer>) hash.update(chunk);
  return { folder, input: copy, inputSha256: hash.digest("hex") };
}

/**
 * Puts the output in place at once: a reader never sees a part. The part has a name that nobody else uses or foresees: not
 * another run with the same --out, and not whoever else may write into that folder.
 */
async function moveInto(from: string, to: string): Promise<void> {
  const part = join(dirname(to), `.maestro-${randomUUID()}.part`);
  try {
    await copyFile(from, part, constants.COPYFILE_EXCL);
    const file = await open(part, "r+");
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(part, to);
  } catch (error) {
    await rm(part, { force: true });
    throw notWritten(to, error);
  }
}
