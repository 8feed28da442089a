// `maestro market keygen|pack|publish|submit|yank|promote`: what a publisher does with releases and channels.

import { readFile, stat } from "node:fs/promises";
import { relative, resolve, isAbsolute } from "node:path";
import type { Command } from "commander";
import { base64, sha256Hex } from "../../shared/contract/bytes.ts";
import { artifactBytesMax, releasePredicateType, type Release } from "../../shared/contract/http-market.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { statement } from "../../shared/signing/statement.ts";
import type { Api } from "../api.ts";
import { channelArgument, leaf, packageArgument, versionArgument, type Act } from "../command.ts";
import { errorCode, Failure } from "../failure.ts";
import { writePrivate } from "../folders.ts";
import { packFolder, readPackage } from "../package/archive.ts";
import { makePublisherKey, publisherKeyPath, readPublisherKey } from "../package/publisher-key.ts";
import { releaseArgument, releaseIdOf, type NamedRelease } from "../release-choice.ts";
import { releaseRecord } from "../release-record.ts";
import type { Session } from "../session.ts";

export function publishCommands(market: Command, act: Act): void {
  leaf(market, "keygen", {
    summary: "make this user's publisher key, and register its public half",
    more: "A key that is there already is registered again, never replaced.",
    examples: ["maestro market keygen"],
  }).action(act(keygen));
  leaf(market, "pack <dir>", {
    summary: "pack a folder with a maestro.json into a tar.gz, the same bytes for the same files",
    examples: ["maestro market pack ./sbom-inventory --out sbom-inventory.tar.gz"],
  })
    .requiredOption("--out <file>", "where the tar.gz goes")
    .action(act(pack));
  leaf(market, "publish <source>", {
    summary: "sign a folder or a packed tar.gz as a release, and hand it in for review",
    more:
      "A release is on its channel once a reviewer has approved it and the marketplace has countersigned it.\n" +
      "A draft waits for `maestro market submit` first.",
    examples: ["maestro market publish ./sbom-inventory", "maestro market publish sbom-inventory.tar.gz --draft"],
  })
    .option("--draft", "upload it, and hand it in later")
    .action(act(publish));
  leaf(market, "submit", {
    summary: "hand a draft in for review",
    examples: [
      "maestro market submit tools/sbom-inventory@1.0.0",
      "maestro market submit rel_01k9x6f6c8a0b1c2d3e4f5g6h7",
    ],
  })
    .argument("<release>", "its id, or PACKAGE@VERSION", releaseArgument)
    .action(act(submit));
  leaf(market, "yank", {
    summary: "take a published release back: nothing new is installed from it, what runs goes on",
    examples: ['maestro market yank tools/sbom-inventory@1.0.0 --reason "loses components without a version"'],
  })
    .argument("<release>", "its id, or PACKAGE@VERSION", releaseArgument)
    .requiredOption("--reason <text>", "what is wrong with it")
    .action(act(yank));
  leaf(market, "promote", {
    summary: "point a channel to a published version, without an upload",
    more: "Without a version: the one that canary points to. A move to an older version needs --down.",
    examples: [
      "maestro market promote tools/sbom-inventory",
      "maestro market promote tools/sbom-inventory 1.1.0 --channel canary",
      "maestro market promote tools/sbom-inventory 1.0.0 --down",
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .argument("[version]", "a published version", versionArgument)
    .option("--channel <channel>", "stable or canary", channelArgument, "stable")
    .option("--down", "yes, to an older version than it points to now")
    .action(act(promote));
}

async function keygen(session: Session): Promise<void> {
  const api = await session.api();
  const kept = await readPublisherKey(session.host);
  const signer = kept ?? (await makePublisherKey(session.host));
  const registered = await api.addPublisherKey(base64(signer.spki));
  const path = publisherKeyPath(session.host);
  session.out.result({ ...registered, made: kept === null, file: path }, () =>
    session.out.record([
      ["key", registered.key_id],
      ["file", `${path}${kept === null ? "" : " (was there already)"}`],
      ["registered", registered.created_at],
    ]),
  );
}

async function pack(session: Session, folder: string, options: { out: string }): Promise<void> {
  const source = resolve(session.host.cwd, folder);
  const out = resolve(session.host.cwd, options.out);
  const within = relative(source, out);
  if (!within.startsWith("..") && !isAbsolute(within)) {
    throw new Failure("usage", "--out is inside the folder; the next pack would hold this one");
  }
  const { archive, manifest, files, bytes } = await asAuthor(async () => {
    const archive = await packFolder(source);
    return { archive, ...(await readPackage(archive)) };
  });
  await writePrivate(out, archive);
  const sha256 = await sha256Hex(archive);
  session.out.result(
    {
      package: manifest.name,
      version: manifest.version,
      out,
      sha256,
      bytes: archive.length,
      files,
      unpacked_bytes: bytes,
    },
    () =>
      session.out.record([
        ["package", `${manifest.name} ${manifest.version} (${manifest.channel})`],
        ["file", `${out}, ${archive.length} bytes, ${files} files`],
        ["sha256", sha256],
      ]),
  );
}

async function publish(session: Session, source: string, options: { draft?: boolean }): Promise<void> {
  const signer = await readPublisherKey(session.host);
  if (signer === null) {
    throw new Failure("usage", "You have no publisher key", {
      advice: "Make and register one first:",
      command: "maestro market keygen",
    });
  }
  const api = await session.api();
  const { artifact, manifest } = await asAuthor(async () => {
    const artifact = await artifactFrom(resolve(session.host.cwd, source));
    return { artifact, manifest: (await readPackage(artifact)).manifest };
  });
  const bundle = await signStatement(
    signer,
    statement({
      subject: [{ name: `${manifest.name}@${manifest.version}`, digest: { sha256: await sha256Hex(artifact) } }],
      predicateType: releasePredicateType,
      predicate: { manifest, artifact_bytes: artifact.length },
    }),
  );
  const release = await api.publish(artifact, bundle, options.draft === true);
  tellRelease(session, release);
}

/** A release as its publisher sees it, and who has to do what next. */
function tellRelease(session: Session, release: Release): void {
  session.out.result(release, () => releaseRecord(session, release));
  const next = nextStep(release);
  if (next !== null) session.out.note(next);
}

function nextStep({ state, package: name, version }: Release): string | null {
  if (state === "draft") return `next: hand it in for review: maestro market submit ${name}@${version}`;
  if (state !== "in_review") return null;
  return `next: a reviewer who did not upload it looks at it and decides: maestro market review approve ${name}@${version}`;
}

async function submit(session: Session, named: NamedRelease): Promise<void> {
  const api = await session.api();
  tellRelease(session, await api.submit(await releaseIdOf(api, named)));
}

async function yank(session: Session, named: NamedRelease, options: { reason: string }): Promise<void> {
  const api = await session.api();
  const release = await api.yank(await releaseIdOf(api, named), options.reason);
  session.out.result(release, () => releaseRecord(session, release));
}

async function promote(
  session: Session,
  name: string,
  wanted: string | undefined,
  options: { channel: Channel; down?: boolean },
): Promise<void> {
  const api = await session.api();
  const version = wanted ?? (await canaryVersion(api, name));
  const pointer = await api.moveChannel({
    package: name,
    channel: options.channel,
    version,
    down: options.down === true,
  });
  session.out.result(pointer, () =>
    session.out.record([
      ["package", pointer.package],
      ["channel", pointer.channel],
      ["points to", pointer.version],
      ["artifact", pointer.artifact_sha256],
      ["move", pointer.sequence],
      ["moved", pointer.moved_at],
    ]),
  );
}

async function canaryVersion(api: Api, name: string): Promise<string> {
  const canary = (await api.channels(name)).find(({ channel }) => channel === "canary");
  if (canary !== undefined) return canary.version;
  throw new Failure("usage", `Nothing of ${name} is on canary; name the version`, {
    advice: "What there is:",
    command: `maestro market versions ${name}`,
  });
}

/** To its author, a package that no one would accept is a wrong argument, not a failed verification. */
async function asAuthor<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof Failure) || error.exit !== "verification_failed") throw error;
    throw new Failure("usage", error.message, { advice: "Correct it, and pack it again." });
  }
}

async function artifactFrom(path: string): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const found = await stat(path);
    if (found.isDirectory()) return await packFolder(path);
    if (found.size > artifactBytesMax) {
      throw new Failure("usage", `${path} has ${found.size} bytes; a package has at most ${artifactBytesMax}`);
    }
    return new Uint8Array(await readFile(path));
  } catch (error) {
    if (error instanceof Failure || errorCode(error) === null) throw error;
    throw new Failure("usage", `${path} cannot be read (${errorCode(error)})`);
  }
}
