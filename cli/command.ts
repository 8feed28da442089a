// How a command of `maestro` is declared: --json, examples, arguments parsed before anything happens. Used by the
// files in commands/.

import { InvalidArgumentError, type Command } from "commander";
import { channelNames, packageName, roleNames, type Channel, type Role } from "../shared/contract/names.ts";
import type { Session } from "./session.ts";
import type { ExitName } from "./exit-codes.ts";

/** Runs an action with a session and turns its end into the exit code; given by `program.ts`. */
export type Act = (action: Action) => (...args: unknown[]) => Promise<void>;

// commander hands arguments and options over as the declaration beside the action says; no type can follow it there.
// oxlint-disable-next-line typescript/no-explicit-any
export type Action = (session: Session, ...args: any[]) => Promise<ExitName | void>;

export interface Words {
  readonly summary: string;
  readonly more?: string;
  readonly examples: readonly string[];
}

/** A command that does something. `usage`: its name and arguments, as commander reads them. */
export function leaf(parent: Command, usage: string, words: Words): Command {
  return parent
    .command(usage)
    .summary(words.summary)
    .description([words.summary, ...(words.more === undefined ? [] : [words.more])].join("\n\n"))
    .option("--json", "print one JSON value on stdout")
    .addHelpText("after", `\nExamples:\n${words.examples.map((example) => `  $ ${example}`).join("\n")}`);
}

/** A command that only groups others. */
export const group = (parent: Command, name: string, summary: string): Command =>
  parent.command(name).summary(summary).description(summary).helpCommand(false);

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
