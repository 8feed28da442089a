// `maestro identity`: the trust domains that the tenant's workloads come from, their bundles, and which SPIFFE ID is which principal.

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { InvalidArgumentError, Option, type Command } from "commander";
import {
  trustDomainName,
  type BundleEndpointStated,
  type BundleTaken,
  type TrustDomainView,
} from "../../shared/contract/http-identity.ts";
import { principalId } from "../../shared/contract/http-tenancy.ts";
import type { Role } from "../../shared/contract/names.ts";
import { parseSpiffeId, type SpiffeId } from "../../shared/identity/spiffe-id.ts";
import { bundleBytesMax, parseTrustBundle, type TrustBundle } from "../../shared/identity/trust-bundle.ts";
import { registrableId } from "../../shared/identity/workload-rules.ts";
import { group, leaf, roleArgument, type Act } from "../command.ts";
import { Failure, errorCode } from "../failure.ts";
import { interruptedFailure } from "../http.ts";
import type { Session } from "../session.ts";
import { fetchBySpiffe } from "../svid/bundle-fetch.ts";

export function identityCommands(program: Command, act: Act): void {
  const identity = group(program, "identity", "workloads: trust domains, their bundles, and SPIFFE IDs");
  domainCommands(group(identity, "domain", "trust domains that the tenant's workloads come from"), act);
  bundleCommands(group(identity, "bundle", "what SVIDs of a trust domain are verified with"), act);
  workloadCommands(group(identity, "workload", "which SPIFFE ID is which principal"), act);
}

function domainCommands(domain: Command, act: Act): void {
  leaf(domain, "list", {
    summary: "list the trust domains: when each bundle was confirmed, and when its first authority ends",
    more:
      "`alarm` where a third of that authority's life is left, or less: its SVIDs are refused after its end. And where a bundle that comes\n" +
      "from an endpoint was not confirmed for three times as long as it is to be asked after, ten minutes at least.",
    examples: ["maestro identity domain list"],
    isDefault: true,
  }).action(act(listDomains));
  leaf(domain, "set", {
    summary: "state a trust domain of the tenant's, and where its bundle comes from",
    more:
      "Without --url the bundle is handed in (`maestro identity bundle set`). With it, and the profile https_web, the API asks there by\n" +
      "the bundle's refresh hint. The API cannot speak https_spiffe: such a bundle is fetched by `maestro identity bundle push`.\n" +
      "Of a domain that was stated before, what is not said stays as it is.",
    examples: [
      "maestro identity domain set acme.example",
      "maestro identity domain set acme.example --url https://spire.acme.example/bundle",
    ],
  })
    .argument("<domain>", "the trust domain's name", domainArgument)
    .option("--url <url>", "the bundle endpoint")
    .addOption(new Option("--profile <profile>", "how it proves itself").choices(["https_web", "https_spiffe"]))
    .option("--server-id <id>", "for https_spiffe: the endpoint's SPIFFE ID", spiffeIdArgument)
    .option("--no-url", "there is no endpoint any more: the bundle is handed in")
    .option("--shared", "other tenants may register IDs below /tenant/<their slug>/; for tenants that curate")
    .option("--no-shared", "not any more: what other tenants have registered of it opens nothing from then on")
    .action(act(setDomain));
  leaf(domain, "remove", {
    summary: "take a trust domain back, its bundle with it",
    examples: ["maestro identity domain remove acme.example"],
  })
    .argument("<domain>", "the trust domain's name", domainArgument)
    .action(act(removeDomain));
}

function bundleCommands(bundle: Command, act: Act): void {
  leaf(bundle, "set", {
    summary: "hand in a trust domain's bundle: it is in force when this returns",
    more:
      "What an authority signed that is not in it is refused from then on; a bundle without keys revokes all. Its sequence does not go\n" +
      "back, and a document that is refused changes nothing.",
    examples: ["maestro identity bundle set acme.example bundle.json"],
  })
    .argument("<domain>", "the trust domain's name", domainArgument)
    .argument("<file>", "a SPIFFE bundle document (a JWK set)")
    .action(act(setBundle));
  leaf(bundle, "push", {
    summary: "fetch the bundle from an https_spiffe endpoint, and hand it in",
    more:
      "The API fetches from https_web endpoints by itself; a server that proves itself by an SVID it cannot verify, so that this command does, from\n" +
      "wherever the endpoint can be reached. The server must be the stated SPIFFE ID, under the latest bundle of that ID's own trust domain: the\n" +
      "one that the API has, or, before there is any, the one of --first. --watch goes on by the bundle's refresh hint until Ctrl-C, also where\n" +
      "the API or the endpoint is away meanwhile: it says so, and asks again.",
    examples: [
      "maestro identity bundle push acme.example --first bundle.json",
      "maestro identity bundle push acme.example --watch",
    ],
  })
    .argument("<domain>", "the trust domain's name", domainArgument)
    .option("--first <file>", "the bundle to know the server by while the API has none")
    .option("--watch", "go on by the bundle's refresh hint")
    .action(act(pushBundle));
  leaf(bundle, "show", {
    summary: "show the bundle in force",
    more: "With --json the document is there to the byte.",
    examples: ["maestro identity bundle show acme.example"],
  })
    .argument("<domain>", "the trust domain's name", domainArgument)
    .action(act(showBundle));
}

function workloadCommands(workload: Command, act: Act): void {
  leaf(workload, "list", {
    summary: "list the registered SPIFFE IDs",
    examples: ["maestro identity workload list"],
    isDefault: true,
  }).action(act(listWorkloads));
  leaf(workload, "add", {
    summary: "register a SPIFFE ID: whoever has an SVID of it is a service principal with the role",
    more:
      "Once a fetcher's ID is registered, fetchers' keys open nothing, while the flag spiffe_everywhere is on\n" +
      "(`maestro flags set spiffe_everywhere off` lets them in again).",
    examples: ["maestro identity workload add spiffe://acme.example/fetcher/berlin-1 --role fetcher"],
  })
    .argument("<id>", "spiffe://, the trust domain and a path", spiffeIdArgument)
    .requiredOption("--role <role>", "what the workload may do", roleArgument)
    .action(act(addWorkload));
  leaf(workload, "remove", {
    summary: "remove a workload: its SPIFFE ID opens nothing any more",
    examples: ["maestro identity workload remove pri_01k9x6f6c8a0b1c2d3e4f5g6h7"],
  })
    .argument("<principal>", "as `maestro identity workload list` shows it", principalArgument)
    .action(act(removeWorkload));
}

export function domainArgument(text: string): string {
  if (!trustDomainName.safeParse(text).success)
    throw new InvalidArgumentError("A trust domain is 1 to 255 of a-z, 0-9, dots, hyphens and underscores.");
  return text;
}

function spiffeIdArgument(text: string): string {
  const id = registrableId(text);
  if (!id.ok)
    throw new InvalidArgumentError(`It is like spiffe://acme.example/fetcher/berlin-1: ${id.refusal.reason}.`);
  return text;
}

function principalArgument(text: string): string {
  if (!principalId.safeParse(text).success) throw new InvalidArgumentError("A principal is pri_ and 26 characters.");
  return text;
}

const expiry = ({ bundle }: TrustDomainView): string | null =>
  bundle === null ? null : `${bundle.first_authority_ends_at ?? "no authority"}${bundle.alarm ? " (alarm)" : ""}`;

/** When a good bundle came last. */
export const confirmedInWords = ({ confirmed_at: confirmed, overdue }: TrustDomainView): string | null =>
  overdue ? `${confirmed ?? "never"} (alarm)` : confirmed;

async function listDomains({ out, ...session }: Session): Promise<void> {
  const domains = await (await session.api()).trustDomains();
  out.result({ trust_domains: domains }, () =>
    out.table(
      ["domain", "whose", "endpoint", "sequence", "confirmed", "first authority ends", "IDs", "refused"],
      domains.map((one) => [
        one.name,
        [one.own ? "own" : "another's", ...(one.shared ? ["shared"] : [])].join(", "),
        one.endpoint === null ? "handed in" : `${one.endpoint.url} (${one.endpoint.profile})`,
        one.bundle?.sequence_max ?? null,
        confirmedInWords(one),
        expiry(one),
        one.workloads,
        one.refused?.reason ?? null,
      ]),
    ),
  );
}

interface DomainOptions {
  /** False, both: `--no-…`. */
  readonly url?: string | false;
  readonly profile?: BundleEndpointStated["profile"];
  readonly serverId?: string;
  readonly shared?: boolean;
}

async function setDomain(session: Session, name: string, options: DomainOptions): Promise<void> {
  const { url, profile = options.serverId === undefined ? "https_web" : "https_spiffe", serverId } = options;
  if (typeof url !== "string" && (options.profile !== undefined || serverId !== undefined))
    throw new Failure("usage", "--profile and --server-id say something of an endpoint, and --url is missing");
  const api = await session.api();
  const before = (await api.trustDomains()).find((one) => one.name === name && one.own);
  const said = typeof url === "string" ? { url, profile, server_id: serverId ?? null } : null;
  const endpoint = url === undefined ? (before?.endpoint ?? null) : said;
  const shared = options.shared ?? before?.shared ?? false;
  await api.stateTrustDomain(name, { shared, endpoint });
  const where = endpoint === null ? "its bundle is handed in" : `its bundle comes from ${endpoint.url}`;
  session.out.result({ name, shared, endpoint }, () => `${name} is stated${shared ? ", shared" : ""}: ${where}`);
}

async function removeDomain(session: Session, name: string): Promise<void> {
  await (await session.api()).removeTrustDomain(name);
  session.out.result({ name, removed: true }, () => `${name} is removed`);
}

async function setBundle(session: Session, name: string, file: string): Promise<void> {
  const document = await documentIn(session, file);
  const taken = await (await session.api()).handInBundle(name, document);
  session.out.result(taken, () => `${bundleText(session, taken)}\nIt is in force.`);
}

async function documentIn(session: Session, file: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(resolve(session.host.cwd, file));
  } catch (error) {
    throw new Failure("usage", `${file} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  if (bytes.length > bundleBytesMax) throw new Failure("usage", `A bundle has at most ${bundleBytesMax} bytes`);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Failure("usage", `${file} is not UTF-8`);
  }
}

interface PushOptions {
  readonly first?: string;
  readonly watch?: true;
}

async function pushBundle(session: Session, name: string, options: PushOptions): Promise<void> {
  const { host, out } = session;
  const endpoint = await spiffeEndpoint(session, name);
  for (let round = 1; ; round += 1) {
    const { taken, reason } = await pushOnce(session, name, endpoint, options.first).catch((error: unknown): Pushed => {
      // Who starts it sees what is wrong; once it runs it outlives an API that is away, and whatever else may pass.
      if (round === 1 || host.interrupted.aborted || !(error instanceof Failure)) throw error;
      return { taken: null, reason: error.message };
    });
    if (options.watch !== true) {
      if (taken === null) throw new Failure("verification_failed", `The bundle of ${name} was not fetched: ${reason}`);
      return out.result(taken, () => `${bundleText(session, taken)}\nIt is in force.`);
    }
    out.note(
      taken === null ? `not fetched: ${reason}` : `in force: sequence ${taken.sequence ?? "none"}, ${taken.sha256}`,
    );
    try {
      await host.sleep(refreshSecondsOf(taken?.refresh_hint_seconds ?? null) * 1_000, host.interrupted);
    } catch (error) {
      throw host.interrupted.aborted ? interruptedFailure() : error;
    }
  }
}

/** SPIFFE Trust Domain and Bundle 4.1.2, as shared/identity/bundle-state.ts keeps it. */
const refreshSecondsOf = (hint: number | null): number => Math.min(3_600, Math.max(10, hint ?? 300));

interface SpiffeEndpoint {
  readonly url: string;
  readonly serverId: SpiffeId;
}

async function spiffeEndpoint(session: Session, name: string): Promise<SpiffeEndpoint> {
  const domain = (await (await session.api()).trustDomains()).find((one) => one.name === name && one.own);
  if (domain === undefined)
    throw new Failure("not_found", `${name} is no trust domain that this tenant states`, {
      advice: "State it first, with its endpoint:",
      command: `maestro identity domain set ${name} --url https://… --profile https_spiffe --server-id spiffe://…`,
    });
  const { endpoint } = domain;
  const stated = endpoint?.server_id ?? null;
  const serverId = stated === null ? null : parseSpiffeId(stated);
  if (endpoint === null || serverId === null || !serverId.ok) {
    throw new Failure("usage", `${name} has no https_spiffe endpoint`, {
      advice: "From an https_web endpoint the API fetches by itself. State another:",
      command: `maestro identity domain set ${name} --url https://… --profile https_spiffe --server-id spiffe://…`,
    });
  }
  return { url: endpoint.url, serverId: serverId.value };
}

type Pushed =
  | { readonly taken: BundleTaken; readonly reason: null }
  | { readonly taken: null; readonly reason: string };

async function pushOnce(
  session: Session,
  name: string,
  { url, serverId }: SpiffeEndpoint,
  first: string | undefined,
): Promise<Pushed> {
  const known = await knownBundle(session, serverId, first);
  const fetched = await fetchBySpiffe(url, serverId, known, () => session.host.now(), session.host.interrupted);
  if (!fetched.ok) return { taken: null, reason: fetched.reason };
  return { taken: await (await session.api()).handInBundle(name, fetched.document), reason: null };
}

/** The latest that the API has of the server's trust domain; before there is one, the operator's. */
async function knownBundle(
  session: Session,
  { trustDomain }: SpiffeId,
  first: string | undefined,
): Promise<TrustBundle> {
  const held = await (await session.api()).trustBundle(trustDomain).catch((error: unknown) => {
    if (error instanceof Failure && error.exit === "not_found") return null;
    throw error;
  });
  if (held === null && first === undefined) {
    throw new Failure("usage", `There is no bundle of ${trustDomain} yet to know the server by`, {
      advice: "Give the one that its operator handed you: --first bundle.json",
    });
  }
  const parsed = await parseTrustBundle(trustDomain, held?.document ?? (await documentIn(session, first ?? "")));
  if (parsed.ok) return parsed.value;
  throw new Failure("verification_failed", `The bundle of ${trustDomain} is not taken: ${parsed.refusal.reason}`);
}

async function showBundle(session: Session, name: string): Promise<void> {
  const bundle = await (await session.api()).trustBundle(name);
  session.out.result(bundle, () => bundleText(session, bundle));
}

const bundleText = ({ out }: Session, bundle: BundleTaken): string =>
  out.record([
    ["domain", bundle.name],
    ["sha256", bundle.sha256],
    ["sequence", bundle.sequence],
    ["refresh hint", bundle.refresh_hint_seconds === null ? null : `${bundle.refresh_hint_seconds} s`],
    ["X.509 authorities", bundle.authorities.length],
    ...bundle.authorities.map(
      (one) => [`  ${one.certificate_sha256.slice(0, 16)}`, `${one.not_before} to ${one.not_after}`] as const,
    ),
    ["JWT keys", bundle.jwt_key_ids.join(", ")],
  ]);

async function listWorkloads({ out, ...session }: Session): Promise<void> {
  const workloads = await (await session.api()).workloads();
  out.result({ workloads }, () =>
    out.table(
      ["principal", "SPIFFE ID", "role", "created", "by"],
      workloads.map((one) => [one.id, one.spiffe_id, one.role, one.created_at, one.created_by]),
    ),
  );
}

async function addWorkload(session: Session, spiffeId: string, { role }: { readonly role: Role }): Promise<void> {
  const made = await (await session.api()).registerWorkload({ spiffe_id: spiffeId, role });
  session.out.result(made, () => `${made.spiffe_id} is ${made.id}, ${made.role}`);
}

async function removeWorkload(session: Session, id: string): Promise<void> {
  await (await session.api()).removeWorkload(id);
  session.out.result({ id, removed: true }, () => `${id} is removed`);
}
