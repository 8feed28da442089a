// `maestro market`: everything of the marketplace; each file beside this one has one subject.

import type { Command } from "commander";
import { group, type Act } from "../command.ts";
import { browseCommands } from "./market-browse.ts";
import { changeCommands } from "./market-changes.ts";
import { entitlementCommands } from "./market-entitlements.ts";
import { explainCommands } from "./market-explain.ts";
import { holdCommands } from "./market-holds.ts";
import { installCommands } from "./market-installs.ts";
import { publishCommands } from "./market-publish.ts";
import { reviewCommands } from "./market-review.ts";
import { upgradeCommands } from "./market-upgrades.ts";

export function marketCommands(program: Command, act: Act): void {
  const market = group(program, "market", "packages: publish, review, entitle, install, upgrade, roll back");
  publishCommands(market, act);
  reviewCommands(market, act);
  browseCommands(market, act);
  entitlementCommands(market, act);
  changeCommands(market, act);
  explainCommands(market, act);
  installCommands(market, act);
  upgradeCommands(market, act);
  holdCommands(market, act);
}
