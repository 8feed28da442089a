// `maestro market review`: the reviewer's queue, and what a release changes.

import type { Command } from "commander";
import type { ReleaseDifference, ReleaseFile } from "../../shared/contract/http-market.ts";
import type { Page } from "../api/client.ts";
import type { Review } from "../api/market.ts";
import { group, leaf, notePage, paged, type Act } from "../command.ts";
import { printable } from "../output.ts";
import { queuedIdOf, releaseArgument, type NamedRelease } from "../release-choice.ts";
import { releaseRecord } from "../release-record.ts";
import type { Session } from "../session.ts";

export function reviewCommands(market: Command, act: Act): void {
  const review = group(market, "review", "releases that wait for a reviewer");
  paged(
    leaf(review, "list", {
      summary: "list what waits, oldest first",
      examples: ["maestro market review list", "maestro market review list --json"],
      isDefault: true,
    }),
  ).action(act(list));
  leaf(review, "show", {
    summary: "show a release and how it differs from the one before",
    examples: ["maestro market review show tools/sbom-inventory@1.1.0"],
  })
    .argument("<release>", "its id, or PACKAGE@VERSION", releaseArgument)
    .action(act(show));
  leaf(review, "approve", {
    summary: "have the marketplace countersign it and put it on its channel",
    more:
      "Whoever uploaded a release cannot approve it.\n\n" +
      "A version that was rejected is free again: PACKAGE@VERSION is whatever waits under that name by then. The id that `show` gave is the\n" +
      "release that it showed, and no other.",
    examples: [
      "maestro market review approve tools/sbom-inventory@1.1.0",
      'maestro market review approve rel_01k9x6f6c8a0b1c2d3e4f5g6h7 --reason "read all of it"',
    ],
  })
    .argument("<release>", "its id, or PACKAGE@VERSION", releaseArgument)
    .option("--reason <text>", "what the publisher is told", "")
    .action(act(decide("approve")));
  leaf(review, "reject", {
    summary: "refuse it; the publisher is told why",
    examples: ['maestro market review reject tools/sbom-inventory@1.1.0 --reason "the changelog hides the new limits"'],
  })
    .argument("<release>", "its id, or PACKAGE@VERSION", releaseArgument)
    .requiredOption("--reason <text>", "what the publisher is told")
    .action(act(decide("reject")));
}

async function list(session: Session, page: Page): Promise<void> {
  const queue = await (await session.api()).reviews({ limit: page.limit, cursor: page.cursor });
  session.out.result(queue, () =>
    session.out.table(
      ["release", "package", "version", "channel", "units", "submitted"],
      queue.releases.map((one) => [one.id, one.package, one.version, one.channel, one.units, one.submitted_at]),
    ),
  );
  notePage(session, ["market", "review", "list"], page, queue.next_cursor);
}

async function show(session: Session, named: NamedRelease): Promise<void> {
  const api = await session.api();
  const found = await api.review(await queuedIdOf(api, named));
  session.out.result(found, () => reviewText(session, found));
  session.out.note(`next: approve this release, and no other: maestro market review approve ${found.release.id}`);
}

function decide(verdict: "approve" | "reject") {
  return async (session: Session, named: NamedRelease, options: { reason: string }): Promise<void> => {
    const api = await session.api();
    const release = await api.decideReview(await queuedIdOf(api, named), verdict, options.reason);
    session.out.result(release, () => releaseRecord(session, release));
  };
}

function reviewText(session: Session, { release, difference }: Review): string {
  const { paint } = session.out;
  const { before, asks_for_more: more } = difference;
  const sections: string[][] = [[releaseRecord(session, release)]];
  sections.push([
    before === null
      ? paint.bold("There is no release before this one: everything in it is new.")
      : paint.bold(`Against ${printable(before.version)} (${before.release_id}):`),
    ...(difference.same_publisher_key === false ? [paint.red("! signed by another publisher key")] : []),
    unpackedText(difference),
  ]);
  if (more.length > 0) {
    sections.push([paint.yellow("It asks for more:"), ...more.map((one) => paint.yellow(`! ${printable(one)}`))]);
  }
  sections.push(manifestLines(session, difference), fileLines(session, difference));
  return sections
    .filter((lines) => lines.length > 0)
    .map((lines) => lines.join("\n"))
    .join("\n\n");
}

const unpackedText = ({ unpacked_bytes: { before, after } }: ReleaseDifference): string =>
  before === null ? `${after} bytes unpacked` : `${before} → ${after} bytes unpacked`;

const valueText = (value: unknown): string => (value === undefined ? "-" : printable(JSON.stringify(value)));

function manifestLines({ out }: Session, { manifest, before }: ReleaseDifference): string[] {
  if (manifest.length === 0) return [out.paint.bold("maestro.json: nothing changed")];
  const lines = manifest.map((change) =>
    before === null
      ? `+ ${printable(change.path)} ${valueText(change.after)}`
      : `~ ${printable(change.path)} ${valueText(change.before)} → ${valueText(change.after)}`,
  );
  return [out.paint.bold("maestro.json:"), ...lines];
}

function fileLines({ out }: Session, { files }: ReleaseDifference): string[] {
  const { paint } = out;
  const named = (file: ReleaseFile): string => `${printable(file.path)} (${file.bytes} bytes)`;
  return [
    paint.bold("Files:"),
    ...files.added.map((file) => paint.green(`+ ${named(file)}`)),
    ...files.removed.map((file) => paint.red(`- ${named(file)}`)),
    ...files.changed.map(({ path, before, after }) =>
      paint.yellow(`~ ${printable(path)} (${before.bytes} → ${after.bytes} bytes)`),
    ),
    paint.dim(`${files.unchanged_count} unchanged`),
  ];
}
