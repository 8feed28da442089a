// `maestro rotation`: the platform's signing keys, and the authorities of the tenant's trust domains, rotated while everything runs; for whom
// a rotation waits, and emergencies, which take two persons.

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { InvalidArgumentError, type Command } from "commander";
import {
  authorityName,
  consumerName,
  endStates,
  rotatedKind,
  type EmergencyProposal,
  type Rotated,
  type RotatedKind,
  type Rotation,
} from "../../shared/contract/http-rotations.ts";
import { sha256Hex } from "../../shared/contract/bytes.ts";
import { sha256Digest } from "../../shared/contract/names.ts";
import { proposalBytes } from "../../shared/contract/proposal-bytes.ts";
import { authoritiesOf, type AuthorityName } from "../../shared/identity/authorities.ts";
import { parseTrustDomain } from "../../shared/identity/spiffe-id.ts";
import { parseTrustBundle } from "../../shared/identity/trust-bundle.ts";
import { group, integerFrom, leaf, type Act } from "../command.ts";
import { isConfirmed } from "../confirmation.ts";
import type { ExitName } from "../exit-codes.ts";
import { errorCode, Failure } from "../failure.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";
import { trustedKeys } from "../trusted-keys.ts";
import { domainArgument } from "./identity.ts";

const exampleId = "rot_01k9x6f6c8a0b1c2d3e4f5g6h7";
const exampleName = "plant-7-verifier";
/** With --wait the rotation is looked at so often. */
const askEveryMs = 1_000;
const waitSecondsMax = 3_600;

const rotatedKinds = rotatedKind.options.join(", ");

export function rotationCommands(program: Command, act: Act): void {
  const rotation = group(program, "rotation", "rotate signing keys and authorities while everything runs");
  leaf(rotation, "start", {
    summary:
      "rotate the release keys, the audit log's keys, the key of quick links, the workers' authority, or a trust domain's",
    more:
      "New keys are made, published, and endorsed by the old ones. They sign once every consumer has them; the old ones end then,\n" +
      "and what they signed stays valid. A consumer that does not acknowledge blocks the switch, and is named.\n\n" +
      "The authority of a trust domain (fetcher) is the tenant's own: it makes the keys and switches, by SPIRE or `maestro svid authority`.\n" +
      "The rotation says what is to be done next, and who still presents the old one. Start it before the new keys are in the bundle.",
    examples: [
      "maestro rotation start release",
      "maestro rotation start audit --wait 60",
      "maestro rotation start fetcher --domain acme.example",
    ],
  })
    .argument("<kind>", rotatedKinds, rotatedArgument)
    .option("--domain <name>", "of the kind fetcher: the trust domain", domainArgument)
    .option("--wait <seconds>", `until it has ended, 1 to ${waitSecondsMax}`, integerFrom(1, waitSecondsMax))
    .action(act(start));
  leaf(rotation, "list", {
    summary: "list rotations, the newest first, their named consumers, and emergencies that nobody has approved",
    examples: ["maestro rotation list"],
    isDefault: true,
  }).action(act(list));
  leaf(rotation, "show <id>", {
    summary: "show a rotation: how far it is, its keys, for whom it waits",
    examples: [`maestro rotation show ${exampleId}`],
  }).action(act(async (session: Session, id: string) => tell(session, await (await session.api()).rotation(id))));
  leaf(rotation, "acknowledge", {
    summary: "say that a consumer has the new keys: those that this machine trusts",
    more:
      "The published keys are verified as ever (maestro audit keys --help), and the kids of the rotation's new ones are sent. Run it\n" +
      "where the consumer takes its keys from, once it has them. Of a trust domain's authority the keys are those of the bundle that the\n" +
      "consumer verifies with: --bundle.",
    examples: [
      `maestro rotation acknowledge ${exampleId} ${exampleName}`,
      `maestro rotation acknowledge ${exampleId} ${exampleName} --bundle bundle.json`,
    ],
  })
    .option("--bundle <file>", "of a trust domain's authority: the consumer's SPIFFE bundle document")
    .argument("<id>", "the rotation")
    .argument("<consumer>", "as it was named", nameArgument)
    .action(act(acknowledge));
  leaf(rotation, "resume <id>", {
    summary: "have a rotation that failed in a step try again now",
    examples: [`maestro rotation resume ${exampleId}`],
  }).action(act(step("resume")));
  leaf(rotation, "cancel <id>", {
    summary: "take back a rotation whose new keys sign nothing yet",
    more:
      "Until it is acknowledged; of a trust domain's authority (fetcher) until it is active. The new keys never sign: those that were published\n" +
      "stay so, as revoked, and the next rotation can be started. From then on a rotation goes to its end.",
    examples: [`maestro rotation cancel ${exampleId}`],
  }).action(act(step("cancel")));
  leaf(rotation, "emergency", {
    summary: "propose to rotate without waiting for anyone, and to revoke the old keys; another person approves it",
    more:
      "What it would break is said first. Nothing happens before the approval.\n\n" +
      "Of a trust domain (fetcher) nothing is believed of its authorities from the approval on, whatever its bundle says, for ever: of those\n" +
      "that are named, else of the old ones of the rotation that runs, else of all that are in force. The proposal names them.",
    examples: [
      'maestro rotation emergency release --reason "the signer was broken into"',
      'maestro rotation emergency fetcher --domain acme.example --reason "the server was broken into"',
    ],
  })
    .argument("<kind>", rotatedKinds, rotatedArgument)
    .option("--domain <name>", "of the kind fetcher: the trust domain", domainArgument)
    .option(
      "--authority <names...>",
      "of the kind fetcher: x509:KID or jwt:KID, as a rotation and a proposal show them",
    )
    .requiredOption("--reason <text>", "why, 1 to 500 characters")
    .action(act(emergency));
  leaf(rotation, "approve <id>", {
    summary: "approve an emergency that someone else proposed",
    more:
      "It is shown, and asked for, on a terminal. Elsewhere --proposal says what you have read, by its digest. Where someone has proposed anew\n" +
      "meanwhile, nothing is approved: read what stands now.",
    examples: [
      `maestro rotation approve ${exampleId}`,
      `maestro rotation approve ${exampleId} --proposal ${"0123456789abcdef".repeat(4)}`,
    ],
  })
    .option("--proposal <sha256>", "what you have read: its `proposal_sha256`", digestArgument)
    .action(act(approve));
  const consumer = group(rotation, "consumer", "who must have new keys before they sign");
  for (const [verb, summary] of [
    ["add", "name a consumer that rotations of these keys wait for"],
    ["remove", "strike out a consumer that is gone; not while a rotation waits for it"],
  ] as const) {
    leaf(consumer, verb, { summary, examples: [`maestro rotation consumer ${verb} release ${exampleName}`] })
      .argument("<kind>", rotatedKinds, rotatedArgument)
      .argument("<name>", "lower-case words, joined by - or .", nameArgument)
      .option("--domain <name>", "of the kind fetcher: the trust domain", domainArgument)
      .action(act(change(verb)));
  }
}

function rotatedArgument(text: string): RotatedKind {
  const kind = rotatedKind.safeParse(text);
  if (!kind.success) throw new InvalidArgumentError(`A kind is one of ${rotatedKinds}.`);
  return kind.data;
}

interface OfDomain {
  readonly domain?: string;
}

function rotatedOf(kind: RotatedKind, { domain }: OfDomain): Rotated {
  if (kind === "fetcher" && domain !== undefined) return { kind, trust_domain: domain };
  if (kind !== "fetcher" && domain === undefined) return { kind, trust_domain: null };
  throw new Failure(
    "usage",
    kind === "fetcher" ? "--domain is missing: whose authority" : "--domain is for the kind fetcher alone",
  );
}

function nameArgument(text: string): string {
  const parsed = consumerName.safeParse(text);
  if (!parsed.success) throw new InvalidArgumentError("A consumer's name is lower-case words, joined by - or .");
  return parsed.data;
}

async function start(
  session: Session,
  kind: RotatedKind,
  options: OfDomain & { readonly wait?: number },
): Promise<ExitName> {
  const { host } = session;
  const rotated = rotatedOf(kind, options);
  const api = await session.api();
  const until = host.now() + (options.wait ?? 0) * 1_000;
  let rotation = await api.startRotation(rotated);
  try {
    while (!endStates.includes(rotation.state) && host.now() < until) {
      await host.sleep(Math.min(askEveryMs, Math.max(1, until - host.now())), host.interrupted);
      rotation = await api.rotation(rotation.id);
    }
  } catch (error) {
    if (!host.interrupted.aborted) throw error;
    throw new Failure("interrupted", "Interrupted: the rotation goes on by itself, and nobody waits for it here", {
      advice: "See how far it is:",
      command: `maestro rotation show ${rotation.id}`,
    });
  }
  tell(session, rotation);
  return options.wait === undefined || rotation.state === "revoked" ? "ok" : "not_current";
}

async function list(session: Session): Promise<void> {
  const found = await (await session.api()).rotations();
  const { out } = session;
  out.result(found, () =>
    [
      out.table(
        ["rotation", "kind", "state", "started", "waiting for", "obstacle"],
        found.rotations.map((one) => [
          one.id,
          rotatedText(one),
          one.emergency === null ? one.state : `${one.state} (emergency)`,
          one.transitions[0]?.at,
          one.waiting_for.join(", ") || null,
          one.obstacle,
        ]),
      ),
      ...(found.consumers.length === 0
        ? []
        : [
            "",
            out.table(
              ["consumer", "of"],
              found.consumers.map((one) => [one.name, rotatedText(one)]),
            ),
          ]),
      ...found.proposals.flatMap((proposal) => ["", proposalText(proposal)]),
    ].join("\n"),
  );
}

async function acknowledge(
  session: Session,
  id: string,
  consumer: string,
  options: { readonly bundle?: string },
): Promise<void> {
  const api = await session.api();
  const { new_keys: wanted, trust_domain: domain } = await api.rotation(id);
  const trusted = new Set(await heldKids(session, domain, options.bundle));
  const held = wanted.map(({ kid }) => kid).filter((kid) => trusted.has(kid));
  if (held.length === 0)
    throw new Failure("failure", "The rotation's new keys are not among those that are trusted here", {
      advice: "They are published first: look at the rotation, and try again.",
      command: `maestro rotation show ${id}`,
    });
  tell(session, await api.acknowledgeRotation(id, consumer, held));
}

/** Of what the consumer verifies with: the bundle of a trust domain, or the published keys that are trusted here. */
async function heldKids(session: Session, domain: string | null, file: string | undefined): Promise<string[]> {
  if (domain === null && file === undefined) return (await trustedKeys(session)).keys.map(({ kid }) => kid);
  if (domain === null) throw new Failure("usage", "--bundle is for the authority of a trust domain alone");
  if (file === undefined)
    throw new Failure("usage", `--bundle is missing: the bundle of ${domain} that the consumer has`);
  let document: string;
  try {
    document = await readFile(resolve(session.host.cwd, file), "utf8");
  } catch (error) {
    throw new Failure("usage", `${file} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  const name = parseTrustDomain(domain);
  const parsed = name.ok ? await parseTrustBundle(name.value, document) : name;
  if (!parsed.ok) throw new Failure("usage", `${file} is no bundle of ${domain}: ${parsed.refusal.reason}`);
  return (await authoritiesOf(parsed.value)).map(({ kid }) => kid);
}

async function emergency(
  session: Session,
  kind: RotatedKind,
  options: OfDomain & { readonly reason: string; readonly authority?: readonly string[] },
): Promise<void> {
  const rotated = rotatedOf(kind, options);
  const authorities = (options.authority ?? []).map(authorityOf);
  if (kind !== "fetcher" && authorities.length > 0)
    throw new Failure("usage", "--authority is for the kind fetcher alone");
  const proposal = await (await session.api()).proposeEmergency(rotated, options.reason, authorities);
  session.out.result(proposal, () => proposalText(proposal));
  session.out.note(
    `next: an admin who did not propose it reads and approves it: maestro rotation approve ${proposal.id}`,
  );
}

async function approve(session: Session, id: string, options: { readonly proposal?: string }): Promise<void> {
  const api = await session.api();
  tell(session, await api.approveEmergency(id, options.proposal ?? (await readAndConfirmed(session, id))));
}

/** The digest of what was shown here, and not what the API says that it is. */
async function readAndConfirmed(session: Session, id: string): Promise<string> {
  const { host } = session;
  const proposal = (await (await session.api()).rotations()).proposals.find((one) => one.id === id);
  if (proposal === undefined)
    throw new Failure("not_found", `No emergency ${id} waits for approval`, {
      advice: "It may be approved already, or proposed anew under another id:",
      command: "maestro rotation list",
    });
  if (host.stdin.isTTY !== true)
    throw new Failure("usage", "--proposal is missing: there is no terminal to show the proposal on and to ask", {
      advice: "Read it, and name what you have read by its digest:",
      command: "maestro rotation list",
    });
  host.stderr.write(`${proposalText(proposal)}\n`);
  if (!(await isConfirmed(host, "Approve it?"))) throw new Failure("failure", "Nothing was approved");
  return await sha256Hex(proposalBytes(proposal));
}

function digestArgument(text: string): string {
  const digest = sha256Digest.safeParse(text);
  if (!digest.success) throw new InvalidArgumentError("A digest is 64 lower-case hex digits (SHA-256).");
  return digest.data;
}

function authorityOf(text: string): AuthorityName {
  const [slot, kid, ...more] = text.split(":");
  const parsed = authorityName.safeParse({ slot, kid });
  if (!parsed.success || more.length > 0)
    throw new Failure("usage", `${text} is no authority: x509: or jwt:, and 64 hex digits`);
  return parsed.data;
}

const step =
  (name: "resume" | "cancel") =>
  async (session: Session, id: string): Promise<void> =>
    tell(session, await (await session.api()).stepRotation(id, name));

const change =
  (verb: "add" | "remove") =>
  async (session: Session, kind: RotatedKind, name: string, options: OfDomain): Promise<void> => {
    const rotated = rotatedOf(kind, options);
    const api = await session.api();
    const consumer = await (verb === "add"
      ? api.addRotationConsumer(rotated, name)
      : api.removeRotationConsumer(rotated, name));
    session.out.result(
      consumer,
      () => `${verb === "add" ? "added" : "removed"}\t${rotatedText(consumer)}\t${consumer.name}`,
    );
  };

const rotatedText = ({ kind, trust_domain: domain }: Pick<Rotation, "kind" | "trust_domain">): string =>
  domain === null ? kind : `${kind} ${domain}`;

const proposalText = (proposal: EmergencyProposal): string => {
  const { id, reason, proposed_by, proposed_at, breaks, old_keys: keys, proposal_sha256: digest } = proposal;
  return [
    printable(
      `emergency ${id} of the ${rotatedText(proposal)} keys, proposed at ${proposed_at} by ${proposed_by}: ${reason}`,
    ),
    ...(keys.length === 0
      ? []
      : [printable(`It is about ${keys.map(({ slot, kid }) => `${slot}:${kid}`).join(", ")}.`)]),
    "It would break:",
    ...breaks.map((sentence) => printable(`  - ${sentence}`)),
    `proposal_sha256 ${digest}`,
  ].join("\n");
};

function tell(session: Session, rotation: Rotation): void {
  const { out } = session;
  const kids = (keys: Rotation["new_keys"]): string => keys.map(({ slot, kid }) => `${slot} ${kid}`).join(", ");
  out.result(rotation, () =>
    [
      out.record([
        ["rotation", rotation.id],
        ["kind", rotatedText(rotation)],
        ["state", rotation.state],
        ["waiting for", rotation.waiting_for.join(", ") || null],
        ["obstacle", rotation.obstacle],
        ["old", kids(rotation.old_keys) || null],
        ["new", kids(rotation.new_keys) || null],
        ["emergency", rotation.emergency?.reason ?? null],
        ...rotation.transitions.map(({ state, at }): [string, string] => [state, at]),
      ]),
      "",
      out.table(
        ["consumer", "has the new keys since"],
        rotation.consumers.map(({ name, built_in, acknowledged_at: at }) => [
          built_in ? `${name} (built in)` : name,
          at,
        ]),
      ),
    ].join("\n"),
  );
  if (rotation.waiting_for.length > 0 && rotation.consumers.some(({ built_in }) => !built_in))
    out.note(`next: each consumer acknowledges: maestro rotation acknowledge ${rotation.id} NAME`);
}
