// One entitlement as a person asks for it on the command line: what was there, changed only in what was given. Used by
// `market entitle` and `market change propose`.

import { InvalidArgumentError, type Command } from "commander";
import {
  versionRange,
  type Entitlement,
  type EntitlementSet,
  type RunWindow,
} from "../shared/contract/http-entitlements.ts";
import type { Channel } from "../shared/contract/names.ts";
import { channelArgument, integerFrom, packageArgument } from "./command.ts";
import { neverWord, windowArgument, windowsText } from "./run-windows.ts";
import { Failure } from "./failure.ts";

const runsPerDayMax = 1_000_000;

/** `false`: taken away by its --no- option. */
export interface RowOptions {
  readonly channel?: Channel;
  readonly deny?: true;
  readonly range?: string | false;
  readonly window?: readonly (RunWindow | typeof neverWord)[] | false;
  readonly runsPerDay?: number | false;
  readonly reason: string;
}

export const rowOptions = (command: Command): Command =>
  command
    .argument("<package>", "package name", packageArgument)
    .option(
      "--channel <channel>",
      "stable, or canary, which covers both (default: as it is, else stable)",
      channelArgument,
    )
    .option("--deny", "forbid it")
    .option("--range <range>", "versions that may be installed and run, like `>=1 <2`", rangeArgument)
    .option("--no-range", "any version")
    .option(
      "--window <window>",
      "when runs may start, in UTC, like `mon-fri 08:00-18:00`; again for another, `never` for none",
      collectWindows,
    )
    .option("--no-window", "at any time")
    .option("--runs-per-day <count>", "runs that may start in a UTC day", integerFrom(0, runsPerDayMax))
    .option("--no-runs-per-day", "any number")
    .option("--reason <text>", "kept in the history of entitlements", "");

function rangeArgument(text: string): string {
  const parsed = versionRange.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError(`${parsed.error.issues[0]?.message ?? "not a range"}.`);
  return parsed.data;
}

function collectWindows(text: string, before: RowOptions["window"]): NonNullable<RowOptions["window"]> {
  return [...(Array.isArray(before) ? before : []), text.trim() === neverWord ? neverWord : windowArgument(text)];
}

/** The row to send: the API replaces rows as a whole, so what was not given is taken from the row that there is. */
export function rowFrom(set: EntitlementSet, name: string, options: RowOptions): Entitlement {
  const before = set.entitlements.find((row) => row.package === name);
  return {
    package: name,
    channel: options.channel ?? before?.channel ?? "stable",
    allowed: options.deny !== true,
    version_range: given(options.range, before?.version_range),
    run_windows: given(windowsOf(options.window), before?.run_windows),
    runs_per_day_max: given(options.runsPerDay, before?.runs_per_day_max),
  };
}

const given = <T>(option: T | false | undefined, before: T | null | undefined): T | null =>
  option === undefined ? (before ?? null) : option === false ? null : option;

function windowsOf(windows: RowOptions["window"]): RunWindow[] | false | undefined {
  if (windows === undefined || windows === false) return windows;
  const open = windows.filter((window) => window !== neverWord);
  if (open.length > 0 && open.length < windows.length) {
    throw new Failure("usage", `--window ${neverWord} stands alone: it means that no run may start at all`);
  }
  return open;
}

export const rowColumns = ["package", "channel", "allowed", "versions", "runs start", "runs a day"] as const;

/** null as a person reads it: `any`. */
export const rowCells = (row: Entitlement) => [
  row.package,
  row.channel,
  row.allowed,
  row.version_range ?? "any",
  windowsText(row.run_windows) ?? "any time",
  row.runs_per_day_max ?? "any",
];
