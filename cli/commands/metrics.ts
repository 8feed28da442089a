// `maestro metrics`: the tenant's counters, as Prometheus scrapes them.

import type { Command } from "commander";
import { leaf, type Act } from "../command.ts";
import { printableLines } from "../output.ts";
import type { Session } from "../session.ts";

export function metricCommands(program: Command, act: Act): void {
  leaf(program, "metrics", {
    summary: "print the tenant's counters in Prometheus' text format",
    examples: ["maestro metrics", "maestro metrics | grep mc_channel_upgrades_total"],
  }).action(act(show));
}

async function show(session: Session): Promise<void> {
  const text = await (await session.api()).metrics();
  session.out.result({ format: "prometheus-text-0.0.4", text }, () => printableLines(text.trimEnd()));
}
