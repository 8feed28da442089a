// `maestro market install|installs|status|history|rollouts`: what the tenant has, and how it came there.

import type { Command } from "commander";
import type { Channel } from "../../shared/contract/names.ts";
import type { Page } from "../api/client.ts";
import { channelArgument, installArgument, leaf, notePage, packageArgument, paged, type Act } from "../command.ts";
import { statusText } from "../package-status.ts";
import type { Session } from "../session.ts";
import { trustedKeys } from "../trusted-keys.ts";
import { notePointer, verifiedText, verifyMove } from "../verify-moves.ts";

export function installCommands(market: Command, act: Act): void {
  leaf(market, "install", {
    summary: "install (or move to) the version that a channel points to, and verify what came",
    more:
      "Verified are the publisher's signature, the marketplace's countersignature and the signed channel pointer, with the\n" +
      "keys that are trusted since the first use of this API; exit code 7 where one does not hold.",
    examples: [
      "maestro market install tools/sbom-inventory",
      "maestro market install tools/sbom-inventory --channel canary --name site-a",
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .option("--channel <channel>", "stable or canary", channelArgument, "stable")
    .option("--name <name>", "which of the tenant's installs: a host, a site", installArgument, "default")
    .action(act(install));
  leaf(market, "installs", { summary: "list what is installed", examples: ["maestro market installs"] }).action(
    act(listInstalls),
  );
  leaf(market, "status", {
    summary: "show all of a package: installs, channels, rollout and gate, what is barred",
    examples: ["maestro market status tools/sbom-inventory"],
  })
    .argument("<package>", "package name", packageArgument)
    .action(act(status));
  paged(
    leaf(market, "history", {
      summary: "list how a package's installs moved, newest first",
      examples: [
        "maestro market history tools/sbom-inventory",
        "maestro market history tools/sbom-inventory --install site-a --json",
      ],
    })
      .argument("<package>", "package name", packageArgument)
      .option("--install <name>", "of this install only", installArgument),
  ).action(act(history));
  paged(
    leaf(market, "rollouts", {
      summary: "list a package's rollouts, newest first",
      examples: ["maestro market rollouts tools/sbom-inventory"],
    }).argument("<package>", "package name", packageArgument),
  ).action(act(rollouts));
}

async function install(session: Session, name: string, options: { channel: Channel; name: string }): Promise<void> {
  const api = await session.api();
  // Before anything is changed: with keys that are not trusted nothing could be verified afterwards.
  const keys = await trustedKeys(session);
  const installed = await api.install({ package: name, channel: options.channel, name: options.name });
  const verified = await verifyMove(api, keys, { package: name, channel: options.channel, releases: [installed] });
  session.out.result({ ...installed, verified }, () =>
    session.out.record([
      ["package", installed.package],
      ["install", installed.name],
      ["version", installed.version],
      ["channel", installed.channel],
      ["artifact", installed.artifact_sha256],
      ["verified", verifiedText(verified)],
      ["pinned", installed.pinned],
      ["id", installed.id],
      ["changed", installed.changed_at],
    ]),
  );
  notePointer(session, verified, installed.version);
}

async function listInstalls(session: Session): Promise<void> {
  const installs = await (await session.api()).installs();
  session.out.result({ installs }, () =>
    session.out.table(
      ["package", "install", "version", "channel", "units", "pinned", "changed"],
      installs.map((row) => [row.package, row.name, row.version, row.channel, row.units, row.pinned, row.changed_at]),
    ),
  );
}

async function status(session: Session, name: string): Promise<void> {
  const found = await (await session.api()).status(name);
  session.out.result(found, () => statusText(session, found));
}

async function history(session: Session, name: string, options: Page & { install?: string }): Promise<void> {
  const page = { limit: options.limit, cursor: options.cursor };
  const found = await (await session.api()).installHistory(name, options.install, page);
  session.out.result(found, () =>
    session.out.table(
      ["changed", "install", "from", "to", "channel", "cause", "by", "rollout"],
      found.entries.map((entry) => [
        entry.changed_at,
        entry.name,
        entry.from_version,
        entry.version,
        entry.channel,
        entry.cause,
        entry.principal_id,
        entry.rollout_id,
      ]),
    ),
  );
  const only = options.install === undefined ? [] : ["--install", options.install];
  notePage(session, ["market", "history", name, ...only], page, found.next_cursor);
}

async function rollouts(session: Session, name: string, page: Page): Promise<void> {
  const found = await (await session.api()).rollouts(name, { limit: page.limit, cursor: page.cursor });
  session.out.result(found, () =>
    session.out.table(
      ["rollout", "version", "channel", "cohort", "state", "rule", "started", "ended"],
      found.rollouts.map((one) => [
        one.id,
        one.version,
        one.channel,
        `${one.cohort_percent}%`,
        one.state,
        one.rule,
        one.started_at,
        one.ended_at,
      ]),
    ),
  );
  notePage(session, ["market", "rollouts", name], page, found.next_cursor);
}
