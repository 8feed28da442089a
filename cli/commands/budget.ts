// `maestro budget`: the tenant's privacy budget, in micro-epsilon.

import type { Command } from "commander";
import { unitsMax, type PrivacyBudget } from "../../shared/contract/http-privacy.ts";
import { group, integerFrom, leaf, type Act } from "../command.ts";
import type { Session } from "../session.ts";

export function budgetCommands(program: Command, act: Act): void {
  const budget = group(program, "budget", "the tenant's privacy budget");
  leaf(budget, "show", {
    summary: "show what is spent, held and left",
    examples: ["maestro budget show", "maestro budget show --json"],
  }).action(act(showBudget));
  leaf(budget, "set", {
    summary: "set the limit, and how much comes back each hour",
    examples: ["maestro budget set --limit 1000 --leak-per-hour 100"],
  })
    .requiredOption("--limit <units>", "micro-epsilon that may be spent or held at one time", integerFrom(0, unitsMax))
    .requiredOption("--leak-per-hour <units>", "micro-epsilon that come back each hour", integerFrom(0, unitsMax))
    .action(act(setBudget));
}

const budgetRecord = (session: Session, budget: PrivacyBudget): string =>
  session.out.record([
    ["limit", budget.limit_units],
    ["spent", budget.spent_units],
    ["held by running", budget.held_units],
    ["left", budget.remaining_units],
    ["back each hour", budget.leak_units_per_hour],
  ]);

async function showBudget(session: Session): Promise<void> {
  const budget = await (await session.api()).budget();
  session.out.result(budget, () => budgetRecord(session, budget));
}

async function setBudget(session: Session, options: { limit: number; leakPerHour: number }): Promise<void> {
  const api = await session.api();
  const budget = await api.setBudget({ limit_units: options.limit, leak_units_per_hour: options.leakPerHour });
  session.out.result(budget, () => budgetRecord(session, budget));
}
