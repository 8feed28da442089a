// The whole command line of `maestro`: what commands there are, and how any of them ends. Called by `main.ts` and by tests.

import { Command, CommanderError } from "commander";
import { auditCommands } from "./commands/audit.ts";
import { budgetCommands } from "./commands/budget.ts";
import { disclosureCommands } from "./commands/disclosure.ts";
import { edgeCommands } from "./commands/edge.ts";
import { executionCommands } from "./commands/executions.ts";
import { flagCommands } from "./commands/flags.ts";
import { helpCommands } from "./commands/help.ts";
import { identityCommands } from "./commands/identity.ts";
import { keyCommands } from "./commands/keys.ts";
import { principalCommands } from "./commands/principals.ts";
import { loginCommands } from "./commands/login.ts";
import { marketCommands } from "./commands/market.ts";
import { metricCommands } from "./commands/metrics.ts";
import { policyCommands } from "./commands/policy.ts";
import { pqlCommands } from "./commands/pql.ts";
import { rotationCommands } from "./commands/rotation.ts";
import { runCommands } from "./commands/run.ts";
import { statusCommands } from "./commands/status.ts";
import { svidCommands } from "./commands/svid.ts";
import { witnessCommands } from "./commands/witness.ts";
import type { Act } from "./command.ts";
import { exitCodeOf, type ExitName } from "./exit-codes.ts";
import type { Host } from "./host.ts";
import { createOutput } from "./output.ts";
import { reportFailure } from "./report-failure.ts";
import { createSession } from "./session.ts";

export interface Ending {
  exit: ExitName;
}

export function buildProgram(host: Host, ending: Ending): Command {
  const program = new Command("maestro")
    .description("Signed packages, runs with receipts, and an audit log that anyone can verify.")
    .option("--json", "print one JSON value on stdout")
    .option("--svid <dir>", "call the API as the SPIFFE identity in this folder (MAESTRO_SVID)")
    .exitOverride()
    .helpCommand(false)
    .showHelpAfterError("(add --help for how it is used)")
    .configureOutput({
      writeOut: (text) => void host.stdout.write(text),
      writeErr: (text) => void host.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .addHelpText("after", "\nMore: maestro help exit-codes, maestro help files, maestro help sandbox");
  const act: Act =
    (action) =>
    async (...args) => {
      const command = args.pop() as Command;
      const options = command.optsWithGlobals<{ readonly json?: true; readonly svid?: string }>();
      const session = createSession(host, options.json === true, options.svid);
      ending.exit = (await action(session, ...args)) ?? "ok";
    };
  loginCommands(program, act);
  statusCommands(program, act);
  keyCommands(program, act);
  principalCommands(program, act);
  identityCommands(program, act);
  marketCommands(program, act);
  policyCommands(program, act);
  runCommands(program, act);
  executionCommands(program, act);
  pqlCommands(program, act);
  disclosureCommands(program, act);
  auditCommands(program, act);
  witnessCommands(program, act);
  edgeCommands(program, act);
  svidCommands(program, act);
  rotationCommands(program, act);
  budgetCommands(program, act);
  flagCommands(program, act);
  metricCommands(program, act);
  helpCommands(program, act);
  return program;
}

/** Runs one command line (without the program's name) and answers the exit code. Never throws. */
export async function runMaestro(argv: readonly string[], host: Host): Promise<number> {
  const ending: Ending = { exit: "ok" };
  try {
    await buildProgram(host, ending).parseAsync(argv, { from: "user" });
    return exitCodeOf(ending.exit);
  } catch (error) {
    const json = argv.includes("--json");
    if (!(error instanceof CommanderError)) return reportFailure(host, json, error);
    if (error.exitCode === 0) return exitCodeOf("ok"); // --help
    // commander has said on stderr what is wrong.
    if (json) {
      const title = error.message.replace(/^error: /, "");
      createOutput(host, true).result({ error: { title, exit: "usage", exit_code: exitCodeOf("usage") } }, () => "");
    }
    return exitCodeOf("usage");
  }
}
