// `maestro market explain`: whether the caller may do something, why not, and the smallest change that would allow it.

import type { Command } from "commander";
import type { Explanation } from "../../shared/contract/http-entitlements.ts";
import type { Channel } from "../../shared/contract/names.ts";
import {
  channelArgument,
  installArgument,
  integerFrom,
  leaf,
  packageArgument,
  versionArgument,
  type Act,
} from "../command.ts";
import { commandOfFix, fixLines } from "../fix-lines.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";

interface ExplainOptions {
  readonly channel?: Channel;
  readonly install?: string;
  readonly cohort?: number;
  readonly version?: string;
  readonly change?: string;
  readonly lift?: boolean;
}

export function explainCommands(market: Command, act: Act): void {
  leaf(market, "explain", {
    summary: "say whether you may do something, and what would have to change",
    more:
      "ACTION is a name of the API, as `x-action` in /openapi.json: execution.start, install.write, upgrade.start, …\n" +
      "The exit code is 0 for any answer; `allow` in --json is the answer.",
    examples: [
      "maestro market explain execution.start tools/sbom-inventory",
      "maestro market explain install.write tools/sbom-inventory --channel canary --install site-a",
      "maestro market explain rollback.start tools/sbom-inventory --version 1.0.0 --json",
    ],
  })
    .argument("<action>", "what you would do")
    .argument("[package]", "package name", packageArgument)
    .option("--channel <channel>", "for install.write and upgrade.start (default: stable)", channelArgument)
    .option("--install <name>", "which install (default: default)", installArgument)
    .option("--cohort <percent>", "for upgrade.start (default: 100)", integerFrom(1, 100))
    .option("--version <version>", "for rollback.start, release.review and bar.write", versionArgument)
    .option("--lift", "for bar.write: whether you may lift the bar")
    .option("--change <id>", "for entitlement.approve")
    .action(act(explain));
}

async function explain(
  session: Session,
  action: string,
  name: string | undefined,
  { channel, install, cohort, version, change, lift }: ExplainOptions,
): Promise<void> {
  const answer = await (
    await session.api()
  ).explain({
    action,
    ...(name === undefined ? {} : { package: name }),
    ...(channel === undefined ? {} : { channel }),
    ...(install === undefined ? {} : { install }),
    ...(cohort === undefined ? {} : { cohort_percent: cohort }),
    ...(version === undefined ? {} : { version }),
    ...(change === undefined ? {} : { change_id: change }),
    ...(lift === true ? { barred: false } : {}),
  });
  const fixes = answer.fixes.map((fix) => ({ ...fix, command: commandOfFix(fix) }));
  session.out.result({ ...answer, fixes }, () => explanationText(session, answer));
}

function explanationText({ out }: Session, answer: Explanation): string {
  const verdict = answer.allow ? out.paint.green("allow") : out.paint.red("deny");
  const sections: string[][] = [
    [
      `${verdict} ${printable(answer.action)}`,
      ...answer.reasons.map(printable),
      `rule: ${printable(answer.rule)}`,
      `role: ${answer.role}; may do this: ${answer.roles_allowed.join(", ")}`,
    ],
  ];
  if (answer.facts !== null) {
    const facts = Object.entries(answer.facts).flatMap(([key, value]) => factRows(key, value));
    sections.push([out.paint.bold("decided on"), out.record(facts)]);
  }
  if (answer.fixes.length > 0) {
    const words = answer.fixes.length === 1 ? "what would allow it" : `what would allow it, all ${answer.fixes.length}`;
    sections.push([out.paint.bold(words), ...answer.fixes.flatMap(fixLines)]);
  }
  if (!answer.complete) {
    sections.push([out.paint.yellow("You may not see all that it depends on: more may be in the way after this.")]);
  }
  return sections.map((lines) => lines.join("\n")).join("\n\n");
}

/** `install.version  1.0.0`: objects by their members, lists as JSON. */
function factRows(name: string, value: unknown): [string, string | null][] {
  if (value === null || value === undefined) return [[name, null]];
  if (typeof value !== "object" || Array.isArray(value)) {
    return [[name, typeof value === "string" ? value : JSON.stringify(value)]];
  }
  return Object.entries(value).flatMap(([key, member]) => factRows(`${name}.${key}`, member));
}
