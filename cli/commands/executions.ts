// `maestro executions`: the tenant's runs.

import type { Command } from "commander";
import type { Execution } from "../../shared/contract/http-executions.ts";
import type { Page } from "../api/client.ts";
import { group, leaf, notePage, paged, type Act } from "../command.ts";
import type { Session } from "../session.ts";

export function executionCommands(program: Command, act: Act): void {
  const executions = group(program, "executions", "runs of packages");
  paged(
    leaf(executions, "list", {
      summary: "list runs, newest first",
      examples: ["maestro executions list", "maestro executions list --limit 5 --json"],
    }),
  ).action(act(list));
  leaf(executions, "show <id>", {
    summary: "show one run",
    examples: ["maestro executions show exe_01k9x6f6c8a0b1c2d3e4f5g6h7"],
  }).action(act(show));
}

async function list(session: Session, options: Page): Promise<void> {
  const page = await (await session.api()).executions({ limit: options.limit, cursor: options.cursor });
  session.out.result(page, () =>
    session.out.table(
      ["id", "package", "version", "status", "exit", "ms", "units", "started"],
      page.executions.map((run) => [
        run.id,
        run.package,
        run.version,
        run.status,
        run.exit_code,
        run.duration_ms,
        run.units,
        run.started_at,
      ]),
    ),
  );
  notePage(session, ["executions", "list"], options, page.next_cursor);
}

export const executionRecord = (session: Session, run: Execution): string =>
  session.out.record([
    ["execution", run.id],
    ["package", `${run.package} ${run.version} (${run.channel})`],
    ["install", run.install],
    ["status", run.status],
    ["exit code", run.exit_code],
    ["release", run.release_sha256],
    ["input", run.input_sha256],
    ["output", run.output_sha256],
    ["privacy units", run.units],
    ["started", run.started_at],
    ["finished", run.finished_at],
    ["duration", run.duration_ms === null ? null : `${run.duration_ms} ms`],
  ]);

async function show(session: Session, id: string): Promise<void> {
  const run = await (await session.api()).execution(id);
  session.out.result(run, () => executionRecord(session, run));
}
