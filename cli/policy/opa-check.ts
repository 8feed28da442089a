// Whether a bundle's Rego compiles, asked of the user's own `opa` where one is on the PATH. Called by `maestro policy publish`: the API
// reads bundles, and compiles none (docs/adr/ADR-1231-publisher-under-stress.md).

import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { errorCode, Failure } from "../failure.ts";
import type { Host } from "../host.ts";

const checkMsMax = 30_000;
const outputBytesMax = 64 * 1024;
const linesShown = 5;

/** `passed`, or why it was not asked. Throws Failure, with OPA's words, where the Rego does not compile. */
export async function opaCheck(host: Host, bundle: Uint8Array): Promise<"passed" | "no_opa" | "no_answer"> {
  const folder = await mkdtemp(join(tmpdir(), "maestro-opa-"));
  try {
    const path = join(folder, "bundle.tar.gz");
    await writeFile(path, bundle, { mode: 0o600 });
    const { PATH = "" } = host.env;
    const options = { cwd: folder, env: { PATH }, timeout: checkMsMax, maxBuffer: outputBytesMax };
    const outcome = await new Promise<{ readonly error: Error | null; readonly said: string }>((resolve) => {
      execFile("opa", ["check", "--bundle", "bundle.tar.gz"], options, (error, stdout, stderr) =>
        resolve({ error, said: `${stderr}${stdout}`.trim() }),
      );
    });
    if (outcome.error === null) return "passed";
    const code = errorCode(outcome.error);
    if (code === "ENOENT" || code === "EACCES") return "no_opa";
    // Killed, or something else than its exit code for what does not compile.
    if (typeof (outcome.error as { code?: unknown }).code !== "number" || outcome.said === "") return "no_answer";
    // Where each error is and what it is; the source that OPA draws below it would not keep its shape on our lines.
    const lines = outcome.said.split("\n").filter((line) => /\.rego:\d+/.test(line));
    const more = lines.length > linesShown ? `, and ${lines.length - linesShown} more` : "";
    const shown = (lines.length === 0 ? [outcome.said.split("\n")[0]!] : lines).slice(0, linesShown);
    throw new Failure("usage", `The Rego does not compile: ${shown.map((line) => line.trim()).join("; ")}${more}`, {
      advice: "Correct it, and publish again. --no-check publishes it as it is.",
    });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
