// `maestro market`: publish packages; entitle and install them.

import { readFile, stat } from "node:fs/promises";
import { relative, resolve, isAbsolute } from "node:path";
import type { Command } from "commander";
import { base64, sha256Hex } from "../../shared/contract/bytes.ts";
import {
  artifactBytesMax,
  releasePredicateType,
  type EntitlementSet,
  type Release,
} from "../../shared/contract/http-market.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { statement } from "../../shared/signing/statement.ts";
import { channelArgument, group, integerFrom, leaf, packageArgument, type Act } from "../command.ts";
import { errorCode, Failure } from "../failure.ts";
import { writePrivate } from "../folders.ts";
import { packFolder, readPackage } from "../package/archive.ts";
import { makePublisherKey, publisherKeyPath, readPublisherKey } from "../package/publisher-key.ts";
import type { Session } from "../session.ts";

export function marketCommands(program: Command, act: Act): void {
  const market = group(program, "market", "packages: publish, entitle, install");
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
    summary: "sign a folder or a packed tar.gz as a release, and upload it",
    examples: ["maestro market publish ./sbom-inventory", "maestro market publish sbom-inventory.tar.gz"],
  }).action(act(publish));
  leaf(market, "show", {
    summary: "show a release: what it declares, who signed it",
    examples: [
      "maestro market show tools/sbom-inventory",
      "maestro market show tools/sbom-inventory --version 1.0.0 --json",
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .option("--version <version>", "this version")
    .option("--channel <channel>", "the version that this channel points to (default: stable)", channelArgument)
    .action(act(show));
  const entitlements = leaf(market, "entitlements [list]", {
    summary: "list what the tenant may install and run",
    examples: ["maestro market entitlements", "maestro market entitlements list --json"],
  });
  entitlements.action(act(listEntitlements));
  leaf(market, "entitle", {
    summary: "allow (or with --deny, forbid) a package on a channel",
    examples: [
      "maestro market entitle tools/sbom-inventory",
      "maestro market entitle tools/sbom-inventory --channel canary --if-match 3",
      'maestro market entitle tools/sbom-inventory --deny --reason "under review"',
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .option("--channel <channel>", "stable, or canary (which allows both)", channelArgument, "stable")
    .option("--deny", "forbid it")
    .option("--reason <text>", "kept in the history of entitlements", "")
    .option(
      "--if-match <version>",
      "only if the entitlements are at this version",
      integerFrom(0, Number.MAX_SAFE_INTEGER),
    )
    .action(act(entitle));
  leaf(market, "install", {
    summary: "install (or move to) the version that a channel points to",
    examples: [
      "maestro market install tools/sbom-inventory",
      "maestro market install tools/sbom-inventory --channel canary",
    ],
  })
    .argument("<package>", "package name", packageArgument)
    .option("--channel <channel>", "stable or canary", channelArgument, "stable")
    .action(act(install));
  leaf(market, "installs", { summary: "list what is installed", examples: ["maestro market installs"] }).action(
    act(listInstalls),
  );
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

async function publish(session: Session, source: string): Promise<void> {
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
  const release = await api.publish(artifact, bundle);
  session.out.result(release, () => releaseRecord(session, release));
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

const releaseRecord = (session: Session, release: Release): string =>
  session.out.record([
    ["package", release.package],
    ["version", release.version],
    ["first channel", release.channel],
    ["release", release.id],
    ["artifact", `${release.artifact_sha256}, ${release.artifact_bytes} bytes`],
    ["entry point", release.manifest.entry_point],
    ["reads input", release.manifest.permissions.read_input],
    [
      "limits",
      `${release.manifest.limits.wall_ms} ms, ${release.manifest.limits.output_bytes} bytes of output, ${release.manifest.limits.unpacked_bytes} unpacked`,
    ],
    ["privacy units a run", release.units],
    ["publisher key", release.publisher_bundle.verificationMaterial.publicKey.hint],
    ["countersigned by", release.marketplace_bundle.verificationMaterial.publicKey.hint],
    ["published", release.published_at],
    ["changelog", release.manifest.changelog === "" ? null : release.manifest.changelog],
  ]);

async function show(session: Session, name: string, options: { version?: string; channel?: Channel }): Promise<void> {
  if (options.version !== undefined && options.channel !== undefined) {
    throw new Failure("usage", "--version and --channel exclude each other");
  }
  const choice =
    options.version === undefined ? { channel: options.channel ?? ("stable" as const) } : { version: options.version };
  const release = await (await session.api()).release(name, choice);
  session.out.result(release, () => releaseRecord(session, release));
}

const entitlementTable = (session: Session, set: EntitlementSet): string =>
  [
    session.out.table(
      ["package", "channel", "allowed"],
      set.entitlements.map((row) => [row.package, row.channel, row.allowed]),
    ),
    session.out.paint.dim(`version ${set.version}`),
  ].join("\n");

async function listEntitlements(session: Session, word: string | undefined): Promise<void> {
  if (word !== undefined && word !== "list")
    throw new Failure("usage", `There is no \`maestro market entitlements ${word}\``);
  const set = await (await session.api()).entitlements();
  session.out.result(set, () => entitlementTable(session, set));
}

async function entitle(
  session: Session,
  name: string,
  options: { channel: Channel; deny?: boolean; reason: string; ifMatch?: number },
): Promise<void> {
  const row = { package: name, channel: options.channel, allowed: options.deny !== true };
  const set = await (await session.api()).entitle(row, options.reason, options.ifMatch ?? null);
  session.out.result(set, () => entitlementTable(session, set));
}

async function install(session: Session, name: string, options: { channel: Channel }): Promise<void> {
  const installed = await (await session.api()).install(name, options.channel);
  session.out.result(installed, () =>
    session.out.record([
      ["package", installed.package],
      ["version", installed.version],
      ["channel", installed.channel],
      ["artifact", installed.artifact_sha256],
      ["install", installed.id],
      ["changed", installed.changed_at],
    ]),
  );
}

async function listInstalls(session: Session): Promise<void> {
  const installs = await (await session.api()).installs();
  session.out.result({ installs }, () =>
    session.out.table(
      ["package", "version", "channel", "units", "changed"],
      installs.map((row) => [row.package, row.version, row.channel, row.units, row.changed_at]),
    ),
  );
}
