// `maestro svid authority`, `mint` and `bundle`: a small authority of one trust domain, for development and drills. In production
// SPIRE issues (docs/security/AUTHORITY.md).

import { resolve } from "node:path";
import { InvalidArgumentError, type Command } from "commander";
import { isoTime } from "../../shared/contract/iso-time.ts";
import {
  bundleOfState,
  type AuthorityState,
  type KeyKind,
  type RotationMove,
} from "../../shared/identity/issue/authority-state.ts";
import { parseSpiffeId, type SpiffeId, type TrustDomain } from "../../shared/identity/spiffe-id.ts";
import { group, leaf, type Act } from "../command.ts";
import { interruptedFailure } from "../http.ts";
import type { Session } from "../session.ts";
import { initAuthority, readAuthority, rotateAuthority } from "../svid/authority-folder.ts";
import { mintSvid, ttlSecondsMax, ttlSecondsMin, whyMintAgain, type Minted, type MintWish } from "../svid/mint.ts";
import { isFileAudience, writeBundleFile, writeSvidFolder } from "../svid/svid-folder.ts";
import { trustDomainArgument } from "./svid.ts";

const audiencesMax = 8;
/** How often `--renew` looks at the authority. */
const lookEveryMs = 1_000;
/** Said by whatever issues here, so that nobody takes it for more. */
const mark = "a small authority for development and drills; in production SPIRE issues";

const moves: Readonly<Record<RotationMove, { summary: string; more: string }>> = {
  prepare: {
    summary: "make the next keys, and put them into the bundle beside the active ones",
    more: "Nothing is signed with them yet. Wait until all who verify have the new bundle, then activate.",
  },
  activate: {
    summary: "sign with the prepared keys from now on; the ones before are old, and still believed",
    more: "`mint --renew` follows with the next renewal.",
  },
  taint: {
    summary: "mark the old keys as tainted: what they signed is to be replaced at once",
    more: "`mint --renew` does so within a second. The tainted keys are still in the bundle.",
  },
  revoke: {
    summary: "take the tainted keys out of the bundle, and forget them",
    more: "Whoever has the new bundle believes nothing that they signed.",
  },
};

export function authorityCommands(svid: Command, act: Act): void {
  const authority = group(svid, "authority", "a small authority for development and drills");
  leaf(authority, "init <dir>", {
    summary: "make an authority for development, or leave the one that is there",
    more:
      "For development and drills: its keys are in a file (0600, in a folder of 0700), and whoever reads it is everyone. In " +
      "production SPIRE issues; see docs/security/AUTHORITY.md.",
    examples: ["maestro svid authority init ./authority --trust-domain mc.local"],
  })
    .requiredOption("--trust-domain <name>", "whose SVIDs it issues", trustDomainArgument)
    .action(act(init));
  for (const move of Object.keys(moves) as RotationMove[]) {
    leaf(authority, `${move} <dir>`, {
      summary: moves[move].summary,
      more:
        `${moves[move].more}\n\nThe order is SPIRE's: prepare, activate, taint, revoke. Each may be repeated: what was done ` +
        "already is not done twice. For development and drills.",
      examples: [`maestro svid authority ${move} ./authority`, `maestro svid authority ${move} ./authority --keys jwt`],
    })
      .option("--keys <kind>", "x509, jwt, or both", kindsArgument, ["x509", "jwt"] satisfies KeyKind[])
      .action(
        act((session, folder: string, options: { keys: readonly KeyKind[] }) => rotate(session, move, folder, options)),
      );
  }
  leaf(authority, "show <dir>", {
    summary: "show the keys of an authority and the state of each",
    examples: ["maestro svid authority show ./authority --json"],
  }).action(
    act(async (session, folder: string) => {
      const state = await readAuthority(resolve(session.host.cwd, folder));
      session.out.result(shownState(state), () => stateText(session, state));
    }),
  );
  leaf(svid, "mint", {
    summary: "issue an X.509-SVID, and JWT-SVIDs, from an authority for development",
    more:
      "Writes svid.pem (the leaf), svid.key (PKCS #8, 0600), bundle.json and a jwt-AUDIENCE.txt for each --jwt into the folder, each " +
      "whole by a rename, so that a running process may read them at any time. With --renew it stays, mints again when two " +
      "thirds of their life are gone, at once where the authority's key is tainted, and keeps bundle.json in step; Ctrl-C " +
      "ends it. For development and drills: in production spiffe-helper writes these files with what SPIRE issued.",
    examples: [
      "maestro svid mint --authority ./authority --id spiffe://mc.local/tenant/demo/publisher/ci --out ./svid",
      "maestro svid mint --authority ./authority --id spiffe://mc.local/tenant/demo/fetcher/opa-1 --jwt maestro-edge --ttl 5m --renew --out ./svid",
    ],
  })
    .requiredOption("--authority <dir>", "the authority's folder")
    .requiredOption("--id <spiffe-id>", "whose SVID it is", spiffeIdArgument)
    .requiredOption("--out <dir>", "where the files go")
    .option("--ttl <time>", "how long it is good: 10s to 24h", ttlArgument, 3_600)
    .option("--jwt <audience>", "also a JWT-SVID for this audience; may be repeated", audienceArgument, [])
    .option("--renew", "stay, and mint again in time")
    .action(act(mint));
  leaf(svid, "bundle", {
    summary: "print the bundle of an authority for development, as a bundle endpoint serves it",
    examples: ["maestro svid bundle --authority ./authority > bundle.json"],
  })
    .requiredOption("--authority <dir>", "the authority's folder")
    .action(act(bundle));
}

function kindsArgument(text: string): readonly KeyKind[] {
  if (text === "both") return ["x509", "jwt"];
  if (text !== "x509" && text !== "jwt") throw new InvalidArgumentError("It is x509, jwt or both.");
  return [text];
}

function spiffeIdArgument(text: string): SpiffeId {
  const parsed = parseSpiffeId(text);
  if (!parsed.ok) throw new InvalidArgumentError(`It is like spiffe://mc.local/a/workload: ${parsed.refusal.reason}.`);
  return parsed.value;
}

function ttlArgument(text: string): number {
  const [, digits, unit] = /^(\d{1,6})([smh])$/.exec(text) ?? [];
  const seconds = Number(digits) * ({ s: 1, m: 60, h: 3_600 }[unit ?? ""] ?? Number.NaN);
  if (!(seconds >= ttlSecondsMin && seconds <= ttlSecondsMax)) {
    throw new InvalidArgumentError("It is a time from 10s to 24h, like 90s, 15m or 1h.");
  }
  return seconds;
}

function audienceArgument(text: string, before: readonly string[]): readonly string[] {
  if (!isFileAudience(text)) {
    throw new InvalidArgumentError("An audience is up to 100 letters, digits, dots, hyphens and underscores.");
  }
  if (before.length >= audiencesMax) throw new InvalidArgumentError(`There are at most ${audiencesMax} audiences.`);
  return before.includes(text) ? before : [...before, text];
}

async function init(session: Session, name: string, options: { readonly trustDomain: TrustDomain }): Promise<void> {
  const { host, out } = session;
  const folder = resolve(host.cwd, name);
  const { state, made } = await initAuthority(folder, options.trustDomain, host.now());
  out.result({ made, folder, ...shownState(state) }, () =>
    [
      `${made ? out.paint.green("made") : "left as it is"}: ${mark}`,
      stateText(session, state),
      out.paint.dim(`kept in ${folder}: whoever reads it issues any ID of ${state.trust_domain}`),
    ].join("\n"),
  );
}

async function rotate(
  session: Session,
  move: RotationMove,
  name: string,
  { keys }: { readonly keys: readonly KeyKind[] },
): Promise<void> {
  const { host, out } = session;
  const { state, changed } = await rotateAuthority(resolve(host.cwd, name), move, keys, host.now());
  out.result({ move, changed, ...shownState(state) }, () =>
    [
      changed ? `${out.paint.green("done")}: ${move}` : `nothing to ${move}: it is so already`,
      stateText(session, state),
    ].join("\n"),
  );
}

/** What may be seen of an authority: no private key. */
function shownState({ purpose, trust_domain, sequence, x509, jwt }: AuthorityState) {
  const shown = (keys: AuthorityState["x509"]): object[] =>
    keys.map(({ id, state, prepared_at, activated_at, tainted_at, expires_at }) => ({
      id,
      state,
      prepared_at: isoTime(prepared_at),
      activated_at: activated_at === null ? null : isoTime(activated_at),
      tainted_at: tainted_at === null ? null : isoTime(tainted_at),
      expires_at: isoTime(expires_at),
    }));
  return { purpose, trust_domain, sequence, x509: shown(x509), jwt: shown(jwt) };
}

const stateText = ({ out }: Session, { trust_domain, sequence, x509, jwt }: AuthorityState): string =>
  [
    out.record([
      ["trust domain", trust_domain],
      ["sequence", sequence],
    ]),
    out.table(
      ["kind", "key", "state", "expires"],
      [
        ...x509.map((key) => ["X.509", key.id, key.state, isoTime(key.expires_at)] as const),
        ...jwt.map((key) => ["JWT", key.id, key.state, isoTime(key.expires_at)] as const),
      ],
    ),
  ].join("\n");

interface MintOptions {
  readonly authority: string;
  readonly id: SpiffeId;
  readonly out: string;
  readonly ttl: number;
  readonly jwt: readonly string[];
  readonly renew?: true;
}

async function mint(session: Session, options: MintOptions): Promise<void> {
  const { host, out } = session;
  const [authority, folder] = [resolve(host.cwd, options.authority), resolve(host.cwd, options.out)];
  const wish: MintWish = { id: options.id, ttlSeconds: options.ttl, audiences: options.jwt };
  let state = await readAuthority(authority);
  let minted = await mintSvid(state, wish, host.now());
  await writeSvidFolder(folder, minted.files);
  const shown = {
    purpose: state.purpose,
    spiffe_id: minted.id.uri,
    folder,
    issued_at: isoTime(minted.issuedAtMs),
    expires_at: isoTime(minted.expiresAtMs),
    audiences: options.jwt,
  };
  out.result(shown, () =>
    out.record([
      ["spiffe id", shown.spiffe_id],
      ["expires", shown.expires_at],
      ["folder", folder],
      ...options.jwt.map((audience) => ["JWT-SVID for", audience] as const),
      ["issued by", mark],
    ]),
  );
  if (options.renew !== true) return;
  for (;;) {
    await pauseUntilInterrupted(session);
    const seen = await readAuthority(authority);
    const why = whyMintAgain(minted, seen, host.now());
    if (why !== null) {
      minted = await mintSvid(seen, wish, host.now());
      await writeSvidFolder(folder, minted.files);
      out.note(renewedLine(session, minted, why));
    } else if (seen.sequence !== state.sequence) {
      await writeBundleFile(folder, bundleOfState(seen));
      out.note(bundleLine(session, seen));
    }
    state = seen;
  }
}

async function pauseUntilInterrupted({ host }: Session): Promise<void> {
  try {
    await host.sleep(lookEveryMs, host.interrupted);
  } catch (error) {
    if (host.interrupted.aborted) throw interruptedFailure();
    throw error;
  }
}

function renewedLine({ host, out }: Session, { id, expiresAtMs }: Minted, why: string): string {
  const [time, expires] = [isoTime(host.now()), isoTime(expiresAtMs)];
  return out.json
    ? JSON.stringify({ time, renewed: id.uri, expires_at: expires, why })
    : `${time} renewed ${id.uri} until ${expires}: ${why}`;
}

function bundleLine({ host, out }: Session, { sequence }: AuthorityState): string {
  const time = isoTime(host.now());
  return out.json ? JSON.stringify({ time, bundle: sequence }) : `${time} bundle ${sequence} is in the folder`;
}

async function bundle(session: Session, options: { readonly authority: string }): Promise<void> {
  const state = await readAuthority(resolve(session.host.cwd, options.authority));
  const document = bundleOfState(state);
  // The same bytes in both: the document is one JSON value.
  session.host.stdout.write(document);
}
