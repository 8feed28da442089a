// `maestro policy publish|promote|rollback|remove|list|root`: edge policies, from a folder of Rego to both CDN providers.

import { resolve } from "node:path";
import type { Command } from "commander";
import type {
  PolicyChanged,
  PolicyRevision,
  PolicySigning,
  ProviderState,
} from "../../shared/contract/http-policies.ts";
import { policyVersion } from "../../shared/contract/http-policies.ts";
import type { Channel } from "../../shared/contract/names.ts";
import { policyStatement } from "../../shared/edge/statement.ts";
import { signStatement } from "../../shared/signing/bundle.ts";
import { channelArgument, group, integerFrom, leaf, policyArgument, type Act } from "../command.ts";
import { Failure } from "../failure.ts";
import { readPublisherKey } from "../package/publisher-key.ts";
import { bundleFrom } from "../policy/bundle-source.ts";
import { opaCheck } from "../policy/opa-check.ts";
import { putDeltas } from "../policy/publish-deltas.ts";
import type { Session } from "../session.ts";
import { replayCommand } from "./policy-replay.ts";
import { rootCommands } from "./policy-root.ts";

export function policyCommands(program: Command, act: Act): void {
  const policy = group(program, "policy", "edge policies: publish, promote, roll back, and the root of trust");
  rootCommands(policy, act);
  replayCommand(policy, act);
  leaf(policy, "publish <source>", {
    summary: "sign a folder of Rego and data, or a packed OPA bundle, and publish it on a channel",
    more:
      "Of a folder the files *.rego (but for *_test.rego), data.json and .manifest are packed, the same bytes for the same\n" +
      "files. Without a .manifest one is made: dialect v1, the packages' and the data's first names as roots.\n" +
      "Deltas are made from what the channel had last and from what the other one has, where they are at most half as large.\n" +
      "Where an `opa` is on the PATH, `opa check` has to pass; the API itself compiles nothing.",
    examples: [
      "maestro policy publish ./gateway --name gateway",
      "maestro policy publish ./gateway --name gateway --channel canary --revision 2026-04-13.1",
      "maestro policy publish bundle.tar.gz --name gateway",
    ],
  })
    .requiredOption("--name <name>", "the policy's name", policyArgument)
    .option("--channel <channel>", "stable or canary", channelArgument, "stable")
    .option("--revision <revision>", "what its .manifest is to say; each revision of a policy is one bundle for ever")
    .option("--no-delta", "make no deltas: fetchers get the whole bundle")
    .option("--no-check", "do not ask the `opa` on the PATH whether the Rego compiles")
    .action(act(publish));
  leaf(policy, "promote", {
    summary: "give stable the bundle that canary has",
    examples: ["maestro policy promote gateway", "maestro policy promote gateway --from stable --to canary"],
  })
    .argument("<name>", "the policy's name", policyArgument)
    .option("--from <channel>", "where it is", channelArgument, "canary")
    .option("--to <channel>", "where it goes", channelArgument, "stable")
    .action(act(promote));
  leaf(policy, "rollback", {
    summary: "give a channel the bundle of an earlier revision, as a new one",
    examples: ["maestro policy rollback gateway", "maestro policy rollback gateway --channel canary --to-revision 3"],
  })
    .argument("<name>", "the policy's name", policyArgument)
    .option("--channel <channel>", "stable or canary", channelArgument, "stable")
    .option("--to-revision <number>", "whose bundle; the one before, where it is not given", integerFrom(1, 2 ** 40))
    .action(act(rollback));
  leaf(policy, "remove", {
    summary: "take a policy away from both channels: fetchers activate it no more",
    more:
      "What they have stays with them until the metadata that named it expires, a day at most. A policy of that name can be\n" +
      "published again; its revisions go on counting.",
    examples: ["maestro policy remove gateway --yes"],
  })
    .argument("<name>", "the policy's name", policyArgument)
    .option("--yes", "yes, this one")
    .action(act(remove));
  leaf(policy, "list", {
    summary: "the policies and what each provider has, or the revisions of one",
    examples: ["maestro policy list", "maestro policy list gateway"],
  })
    .argument("[name]", "the policy's name", policyArgument)
    .action(act(list));
}

async function publish(
  session: Session,
  source: string,
  options: { name: string; channel: Channel; revision?: string; delta: boolean; check: boolean },
): Promise<void> {
  if (options.revision !== undefined && !policyVersion.safeParse(options.revision).success)
    throw new Failure("usage", "--revision is 1 to 128 letters, digits and . _ + : @ / -");
  const signer = await readPublisherKey(session.host);
  if (signer === null)
    throw new Failure("usage", "You have no publisher key", {
      advice: "Make and register one first:",
      command: "maestro market keygen",
    });
  const api = await session.api();
  const { bytes, bundle, leftOut } = await bundleFrom(resolve(session.host.cwd, source), options.revision ?? null);
  const statement = policyStatement({
    policy: options.name,
    version: bundle.version,
    bundle_sha256: bundle.sha256,
    bundle_bytes: bundle.bytes,
    tar_sha256: bundle.tar_sha256,
    tar_bytes: bundle.tar_bytes,
  });
  if (leftOut.length > 0)
    session.out.note(
      `left out, since OPA does not need them: ${leftOut.slice(0, 10).join(", ")}${leftOut.length > 10 ? ", …" : ""}`,
    );
  if (options.check) session.out.note(checkWords[await opaCheck(session.host, bytes)]);
  if (options.delta)
    for (const told of await putDeltas(api, options.name, options.channel, { bytes, bundle })) session.out.note(told);
  const envelope = await signStatement(signer, statement);
  tellChange(session, await api.publishPolicy(options.name, options.channel, bytes, envelope));
}

const checkWords = {
  passed: "opa check: the Rego compiles",
  no_opa: "no opa on the PATH: whether the Rego compiles was not checked",
  no_answer: "opa did not answer: whether the Rego compiles was not checked",
} as const;

async function promote(session: Session, name: string, { from, to }: { from: Channel; to: Channel }): Promise<void> {
  if (from === to) throw new Failure("usage", "--from and --to are the same channel");
  tellChange(session, await (await session.api()).promotePolicy(name, from, to));
}

async function rollback(
  session: Session,
  name: string,
  options: { channel: Channel; toRevision?: number },
): Promise<void> {
  tellChange(session, await (await session.api()).rollbackPolicy(name, options.channel, options.toRevision ?? null));
}

async function remove(session: Session, name: string, { yes }: { yes?: true }): Promise<void> {
  if (yes !== true)
    throw new Failure("usage", `Removing ${name} takes it from every fetcher`, {
      advice: "Where that is meant:",
      command: `maestro policy remove ${name} --yes`,
    });
  const removed = await (await session.api()).removePolicy(name);
  session.out.result(removed, () =>
    session.out.record([
      ["policy", removed.policy],
      ["stable was", removed.stable_revision],
      ["canary was", removed.canary_revision],
      ...removed.providers.map(({ name: provider, state }) => [`provider ${provider}`, state] as const),
    ]),
  );
  noteProviders(session, removed.providers);
}

async function list(session: Session, name: string | undefined): Promise<void> {
  const api = await session.api();
  if (name !== undefined) {
    const policy = await api.policy(name);
    session.out.result(policy, () =>
      session.out.table(
        ["channel", "revision", "version", "outcome", "published", "sha256"],
        policy.revisions.map((row) => [
          row.channel,
          row.revision,
          row.version,
          row.outcome,
          row.published_at,
          row.bundle_sha256,
        ]),
      ),
    );
    return noteProviders(session, policy.providers);
  }
  const all = await api.policies();
  const on = (revision: PolicyRevision | null): string | null =>
    revision === null ? null : `${revision.version} (${revision.revision})`;
  session.out.result(all, () =>
    session.out.table(
      ["policy", "stable", "canary"],
      all.policies.map(({ name: policy, channels }) => [policy, on(channels.stable), on(channels.canary)]),
    ),
  );
  if (all.root === null) session.out.note("there is no root of trust yet: maestro policy root init");
  noteSigning(session, all.signing);
  noteProviders(session, all.providers);
}

/** What is not signed anew expires, and then fetchers serve nothing: whoever looks is told, with the way out. */
function noteSigning(session: Session, { failing_since, reason, expires }: PolicySigning): void {
  if (failing_since === null || reason === null) return;
  const why = {
    signer_unavailable: "the signer does not answer: the operator has to look at it",
    signer_refused: "the signer refuses what the API asks for: the operator has to deploy both in one version",
    keys_changed: "the root does not name the signer's keys: maestro policy root rotate",
  }[reason];
  const end = expires === null ? "" : `; fetchers believe what was signed before until ${expires}`;
  session.out.note(`nothing is signed since ${failing_since}, since ${why}${end}`);
}

function tellChange(session: Session, changed: PolicyChanged): void {
  session.out.result(changed, () =>
    session.out.record([
      ["policy", changed.policy],
      ["channel", changed.channel],
      ["revision", changed.revision],
      ["version", changed.version],
      ["outcome", changed.outcome],
      ["sha256", changed.bundle_sha256],
      ["tar sha256", changed.tar_sha256],
      ...changed.providers.map(({ name, state }) => [`provider ${name}`, state] as const),
    ]),
  );
  noteProviders(session, changed.providers);
}

/** What is behind catches up by itself; whoever publishes knows of it. */
function noteProviders(session: Session, providers: readonly ProviderState[]): void {
  for (const { name, state, behind_since, reason, attempts } of providers) {
    if (state === "current") continue;
    const why =
      behind_since === null ? "is on its way" : `is behind since ${behind_since} (${reason}, ${attempts} attempts)`;
    session.out.note(`provider ${name} ${why}; it catches up by itself`);
  }
}
