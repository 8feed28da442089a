// `maestro flags`: what of the marketplace is switched off for the tenant, and what off means.

import { InvalidArgumentError, type Command } from "commander";
import { flagNames, type FlagList, type FlagName } from "../../shared/contract/http-flags.ts";
import { group, leaf, type Act } from "../command.ts";
import type { Session } from "../session.ts";

export function flagCommands(program: Command, act: Act): void {
  const flags = group(program, "flags", "what is switched off for the tenant");
  leaf(flags, "list", {
    summary: "list the flags and what off means",
    examples: ["maestro flags list", "maestro flags list --json"],
    isDefault: true,
  }).action(act(list));
  leaf(flags, "set", {
    summary: "switch a flag on or off",
    examples: ["maestro flags set market_channels off", "maestro flags set market_entitlements on"],
  })
    .argument("<flag>", flagNames.join(" or "), flagArgument)
    .argument("<state>", "on or off", stateArgument)
    .action(act(set));
}

function flagArgument(text: string): FlagName {
  const flag = flagNames.find((name) => name === text);
  if (flag === undefined) throw new InvalidArgumentError(`A flag is one of ${flagNames.join(", ")}.`);
  return flag;
}

function stateArgument(text: string): boolean {
  if (text !== "on" && text !== "off") throw new InvalidArgumentError("It is on or off.");
  return text === "on";
}

const flagTable = ({ out }: Session, { flags }: FlagList): string =>
  out.table(
    ["flag", "state", "changed", "by", "off means"],
    flags.map((one) => [one.flag, one.enabled ? "on" : "off", one.changed_at, one.changed_by, one.off_means]),
  );

async function list(session: Session): Promise<void> {
  const flags = await (await session.api()).flags();
  session.out.result(flags, () => flagTable(session, flags));
}

async function set(session: Session, flag: FlagName, enabled: boolean): Promise<void> {
  const flags = await (await session.api()).setFlag({ flag, enabled });
  session.out.result(flags, () => flagTable(session, flags));
}
