// How a command of `maestro` is declared: --json, examples, arguments parsed before anything happens. Used by the
// files in commands/.

import { InvalidArgumentError, type Command } from "commander";
import {
  channelNames,
  packageName,
  roleNames,
  version as versionName,
  type Channel,
  type Role,
} from "../shared/contract/names.ts";
import type { Page } from "./api/client.ts";
import { policyName } from "../shared/contract/http-policies.ts";
import { installName } from "../shared/contract/http-installs.ts";
import { printable } from "./output.ts";
import type { Session } from "./session.ts";
import type { ExitName } from "./exit-codes.ts";
import { shellLine } from "./shell-words.ts";

/** Runs an action with a session and turns its end into the exit code; given by `program.ts`. */
export type Act = (action: Action) => (...args: unknown[]) => Promise<void>;

// commander hands arguments and options over as the declaration beside the action says; no type can follow it there.
// oxlint-disable-next-line typescript/no-explicit-any
export type Action = (session: Session, ...args: any[]) => Promise<ExitName | void>;

export interface Words {
  readonly summary: string;
  readonly more?: string;
  readonly examples: readonly string[];
  /** What its group does when no command of it is named. */
  readonly isDefault?: true;
}

/** A command that does something. `usage`: its name and arguments, as commander reads them. */
export function leaf(parent: Command, usage: string, words: Words): Command {
  return parent
    .command(usage, { isDefault: words.isDefault === true })
    .summary(words.summary)
    .description([words.summary, ...(words.more === undefined ? [] : [words.more])].join("\n\n"))
    .option("--json", "print one JSON value on stdout")
    .addHelpText("after", `\nExamples:\n${words.examples.map((example) => `  $ ${example}`).join("\n")}`);
}

/** A command that only groups others. Of a word that is none of them it names those that there are. */
export function group(parent: Command, name: string, summary: string): Command {
  const made = parent.command(name).summary(summary).description(summary).helpCommand(false);
  return (
    made
      .on("command:*", ([word = ""]: readonly string[]) => refuseWord(made, word))
      // A group with a default command gives it every word that it does not know itself.
      .hook("preSubcommand", (_, chosen) => {
        const [word] = made.args;
        if (word === undefined || word === chosen.name() || word.startsWith("-")) return;
        if (chosen.registeredArguments.length === 0) refuseWord(made, word);
      })
  );
}

function refuseWord(of: Command, word: string): never {
  const words: string[] = [];
  for (let one: Command | null = of; one !== null; one = one.parent) words.unshift(one.name());
  const names = of.commands.map((command) => command.name()).join(", ");
  of.error(`error: unknown command '${word}'; ${words.join(" ")} has: ${names}`, { code: "commander.unknownCommand" });
}

export function integerFrom(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d{1,15}$/.test(text) || value < min || value > max) {
      throw new InvalidArgumentError(`It is a whole number from ${min} to ${max}.`);
    }
    return value;
  };
}

export function channelArgument(text: string): Channel {
  const channel = channelNames.find((name) => name === text);
  if (channel === undefined) throw new InvalidArgumentError(`A channel is one of ${channelNames.join(", ")}.`);
  return channel;
}

export function roleArgument(text: string): Role {
  const role = roleNames.find((name) => name === text);
  if (role === undefined) throw new InvalidArgumentError(`A role is one of ${roleNames.join(", ")}.`);
  return role;
}

export function packageArgument(text: string): string {
  const parsed = packageName.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError(`${parsed.error.issues[0]?.message ?? "not a package name"}.`);
  return parsed.data;
}

export function policyArgument(text: string): string {
  const parsed = policyName.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError(`${parsed.error.issues[0]?.message ?? "not a policy's name"}.`);
  return parsed.data;
}

export function versionArgument(text: string): string {
  const parsed = versionName.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError("A version is semver 2.0, like 1.2.3 or 1.2.3-rc.1.");
  return parsed.data;
}

export function installArgument(text: string): string {
  const parsed = installName.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError(`${parsed.error.issues[0]?.message ?? "not an install's name"}.`);
  return parsed.data;
}

/** A list that comes in pages: --limit and --cursor. */
export const paged = (command: Command): Command =>
  command
    .option("--limit <count>", "1 to 100", integerFrom(1, 100), 20)
    .option("--cursor <cursor>", "`next_cursor` of the page before");

/** Tells on stderr how to get the next page; `words`: the command that gave this one. */
export function notePage(session: Session, words: readonly string[], page: Page, nextCursor: string | null): void {
  if (nextCursor === null || session.out.json) return;
  const line = shellLine(["maestro", ...words, "--limit", String(page.limit), "--cursor", nextCursor]);
  session.out.note(`more: ${printable(line)}`);
}
