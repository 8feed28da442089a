// `maestro market search|show|versions|channels`: what is in the marketplace.

import type { Command } from "commander";
import type { Channel } from "../../shared/contract/names.ts";
import type { Page } from "../api/client.ts";
import { channelArgument, leaf, notePage, packageArgument, paged, versionArgument, type Act } from "../command.ts";
import { Failure } from "../failure.ts";
import { releaseRecord } from "../release-record.ts";
import type { Session } from "../session.ts";

export function browseCommands(market: Command, act: Act): void {
  paged(
    leaf(market, "search [words...]", {
      summary: "find packages by words in their names and descriptions; all of them without a word",
      examples: ["maestro market search sbom", "maestro market search npm inventory --json"],
    }),
  ).action(act(search));
  leaf(market, "show", {
    summary: "show a release: what it declares, its state, who signed it",
    examples: [
      "maestro market show tools/sbom-inventory",
      "maestro market show tools/sbom-inventory --version 1.0.0 --json",
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .option("--version <version>", "this version", versionArgument)
    .option("--channel <channel>", "the version that this channel points to (default: stable)", channelArgument)
    .action(act(show));
  paged(
    leaf(market, "versions", {
      summary: "list a package's releases, newest first",
      examples: ["maestro market versions tools/sbom-inventory"],
    }).argument("<package>", "package name", packageArgument),
  ).action(act(versions));
  leaf(market, "channels", {
    summary: "show where a package's channels point",
    examples: ["maestro market channels tools/sbom-inventory"],
  })
    .argument("<package>", "package name", packageArgument)
    .action(act(channels));
}

async function search(session: Session, words: readonly string[], page: Page): Promise<void> {
  const q = words.length === 0 ? undefined : words.join(" ");
  const found = await (await session.api()).packages(q, { limit: page.limit, cursor: page.cursor });
  session.out.result(found, () =>
    session.out.table(
      ["package", "stable", "canary", "releases", "published", "description"],
      found.packages.map((one) => [
        one.name,
        one.stable,
        one.canary,
        one.release_count,
        one.published_at,
        one.description,
      ]),
    ),
  );
  notePage(session, ["market", "search", ...words], page, found.next_cursor);
}

async function show(session: Session, name: string, options: { version?: string; channel?: Channel }): Promise<void> {
  if (options.version !== undefined && options.channel !== undefined) {
    throw new Failure("usage", "--version and --channel exclude each other");
  }
  const choice =
    options.version === undefined ? { channel: options.channel ?? ("stable" as const) } : { version: options.version };
  const release = await (await session.api()).release(name, choice);
  session.out.result(release, () => releaseRecord(session, release));
}

async function versions(session: Session, name: string, page: Page): Promise<void> {
  const list = await (await session.api()).versions(name, { limit: page.limit, cursor: page.cursor });
  session.out.result(list, () =>
    session.out.table(
      ["version", "state", "first channel", "units", "bytes", "uploaded", "published", "release"],
      list.releases.map((release) => [
        release.version,
        release.state,
        release.channel,
        release.units,
        release.artifact_bytes,
        release.uploaded_at,
        release.published_at,
        release.id,
      ]),
    ),
  );
  notePage(session, ["market", "versions", name], page, list.next_cursor);
}

async function channels(session: Session, name: string): Promise<void> {
  const pointers = await (await session.api()).channels(name);
  session.out.result({ channels: pointers }, () =>
    session.out.table(
      ["channel", "points to", "move", "moved", "artifact"],
      pointers.map((pointer) => [
        pointer.channel,
        pointer.version,
        pointer.sequence,
        pointer.moved_at,
        pointer.artifact_sha256,
      ]),
    ),
  );
}
