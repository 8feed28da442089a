// `maestro market upgrade|rollback`: installs moved forward, in cohorts that a health gate watches, and back.

import type { Command } from "commander";
import type { InstallMove, RollbackResult, Rollout, UpgradeResult } from "../../shared/contract/http-installs.ts";
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
import type { ExitName } from "../exit-codes.ts";
import { rolloutFields } from "../package-status.ts";
import type { Session } from "../session.ts";
import { trustedKeys } from "../trusted-keys.ts";
import { verifiedText, verifyMove, type ToldRelease, type Verified } from "../verify-moves.ts";
import { watchRollout } from "../watch-rollout.ts";

export function upgradeCommands(market: Command, act: Act): void {
  leaf(market, "upgrade", {
    summary: "move installs to the version that a channel points to, all of them or a cohort, and verify it",
    more:
      "Less than 100% starts (or widens) a rollout. The health gate compares its runs with the others' and, where the new\n" +
      "version fails more often, takes it back and bars it. Verified as `market install` does, exit code 7.\n" +
      "With --watch the exit code is 10 where the rollout was aborted, 5 where another took its place.",
    examples: [
      "maestro market upgrade tools/sbom-inventory",
      "maestro market upgrade tools/sbom-inventory --channel canary --cohort 10 --watch",
      'maestro market upgrade tools/sbom-inventory --cohort 50 --despite-gate --reason "few runs at night"',
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .option("--channel <channel>", "stable or canary", channelArgument, "stable")
    .option("--cohort <percent>", "share of the installs, 1 to 100", integerFrom(1, 100), 100)
    .option("--despite-gate", "widen although the gate holds")
    .option("--reason <text>", "kept with the rollout", "")
    .option("--watch", "show the rollout until it ends; Ctrl-C ends the watching alone")
    .action(act(upgrade));
  leaf(market, "rollback", {
    summary: "take a version back: installs go to one that they had and are pinned there, and it is barred",
    more:
      "Unless told otherwise, what is taken back is the version that a rollout tries, else the last one rolled out; each install\n" +
      "on it goes to what was good for it before. With --install one install goes back, and what it leaves is barred where\n" +
      "it was the last one on it.",
    examples: [
      "maestro market rollback tools/sbom-inventory",
      'maestro market rollback tools/sbom-inventory --to 1.0.0 --install site-a --reason "wrong hashes"',
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .option("--to <version>", "all go to this version, which they had before", versionArgument)
    .option("--install <name>", "this install only", installArgument)
    .option("--reason <text>", "kept with the bar", "")
    .action(act(rollback));
}

interface UpgradeOptions {
  readonly channel: Channel;
  readonly cohort: number;
  readonly despiteGate?: boolean;
  readonly reason: string;
  readonly watch?: boolean;
}

async function upgrade(session: Session, name: string, options: UpgradeOptions): Promise<ExitName> {
  const api = await session.api();
  const keys = await trustedKeys(session);
  const upgraded = await api.upgrade({
    package: name,
    channel: options.channel,
    cohort_percent: options.cohort,
    despite_gate: options.despiteGate === true,
    reason: options.reason,
  });
  const { channel } = upgraded.rollout;
  const verified = await verifyMove(api, keys, { package: name, channel, releases: releasesOf(upgraded) });
  const isWatched = options.watch === true && upgraded.rollout.state === "running";
  if (!isWatched) {
    session.out.result({ ...upgraded, verified }, () => upgradeText(session, upgraded, verified));
    noteSmallCohort(session, upgraded);
    return "ok";
  }
  if (!session.out.json) session.out.note(upgradeText(session, upgraded, verified));
  noteSmallCohort(session, upgraded);
  const ended = await watchRollout(session, api, upgraded.rollout);
  session.out.result({ ...upgraded, rollout: ended, verified }, () => session.out.record(rolloutFields(ended)));
  return exitOf(ended);
}

function exitOf({ state }: Rollout): ExitName {
  if (state === "aborted") return "package_failed";
  return state === "superseded" ? "conflict" : "ok";
}

/** The rollout's own release, and the last good ones that installs outside of the cohort moved to. */
function releasesOf({ rollout, moves }: UpgradeResult): ToldRelease[] {
  const others = new Set(moves.map((move) => move.to_version).filter((version) => version !== rollout.version));
  return [rollout, ...[...others].map((version) => ({ version }))];
}

function noteSmallCohort(
  session: Session,
  { in_cohort, smallest_cohort_percent: smallest, rollout }: UpgradeResult,
): void {
  if (in_cohort > 0 || smallest === null) return;
  session.out.note(
    `note: no install is in a cohort of ${rollout.cohort_percent}%; the smallest that has one is --cohort ${smallest}`,
  );
}

const upgradeText = (session: Session, result: UpgradeResult, verified: Verified): string =>
  [
    session.out.record([
      ...rolloutFields(result.rollout),
      ["installs", `${result.installs}, ${result.in_cohort} in the cohort, ${result.pinned} pinned`],
      ["verified", verifiedText(verified)],
    ]),
    ...moveLines(session, result.moves),
  ].join("\n");

function moveLines({ out }: Session, moves: readonly InstallMove[]): string[] {
  if (moves.length === 0) return ["", out.paint.dim("no install moved")];
  return [
    "",
    out.table(
      ["install", "from", "to", "cause"],
      moves.map((move) => [move.name, move.from_version, move.to_version, move.cause]),
    ),
  ];
}

async function rollback(
  session: Session,
  name: string,
  { to, install, reason }: { to?: string; install?: string; reason: string },
): Promise<void> {
  const result = await (
    await session.api()
  ).rollback({
    package: name,
    ...(to === undefined ? {} : { to_version: to }),
    ...(install === undefined ? {} : { install }),
    reason,
  });
  session.out.result(result, () => rollbackText(session, result));
}

const rollbackText = (session: Session, result: RollbackResult): string =>
  [
    session.out.record([
      ["package", result.package],
      ["barred", result.barred.map(({ version }) => version).join(", ") || null],
      ["rollout aborted", result.rollout_aborted],
    ]),
    ...moveLines(session, result.moves),
    ...(result.unmoved.length === 0
      ? []
      : [
          "",
          session.out.paint.yellow("not moved"),
          session.out.table(
            ["install", "why"],
            result.unmoved.map(({ name, why }) => [name, why]),
          ),
        ]),
  ].join("\n");
