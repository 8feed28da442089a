// `maestro svid verify`: says whether a SPIFFE identity holds, offline and from files alone, and if not, by which rule. What a
// small authority for development gives out is in svid-authority.ts.

import { readFile, stat } from "node:fs/promises";
import { resolve } from "node:path";
import { InvalidArgumentError, type Command } from "commander";
import { timestamp } from "../../shared/contract/names.ts";
import { verifyJwtSvid } from "../../shared/identity/jwt-svid.ts";
import { certificatesInPem } from "../../shared/identity/pem.ts";
import type { Checked, Refusal } from "../../shared/identity/refusal.ts";
import { parseTrustDomain, type TrustDomain } from "../../shared/identity/spiffe-id.ts";
import { bundleBytesMax, parseTrustBundle } from "../../shared/identity/trust-bundle.ts";
import { verifyX509Svid } from "../../shared/identity/x509-svid.ts";
import { group, leaf, type Act } from "../command.ts";
import type { ExitName } from "../exit-codes.ts";
import { errorCode, Failure } from "../failure.ts";
import type { Session } from "../session.ts";
import { authorityCommands } from "./svid-authority.ts";

const svidBytesMax = 262_144;

export function svidCommands(program: Command, act: Act): void {
  const svid = group(program, "svid", "SPIFFE identities (SVIDs)");
  leaf(svid, "verify <file>", {
    summary: "say whether an SVID holds, and if not, why; exit code 7 where it does not",
    more:
      "The file is an X.509-SVID in PEM, the leaf first and then its intermediates, or a JWT-SVID. The bundle is a SPIFFE " +
      "bundle document, as a bundle endpoint serves it. It does not say whose it is, so that you must know: --trust-domain.\n\n" +
      "Nothing is asked of a network, and nothing is remembered. A rule that is broken is named by its section in the " +
      "standards (X509-SVID, JWT-SVID, SPIFFE-ID, RFC 5280, …). Whoever holds an SVID in a file need not hold its key: " +
      "that is for TLS to prove.",
    examples: [
      "maestro svid verify svid.pem --bundle bundle.json --trust-domain example.org",
      "maestro svid verify token.jwt --bundle bundle.json --trust-domain example.org --audience maestro",
      "maestro svid verify svid.pem --bundle bundle.json --trust-domain example.org --at 2026-04-13T16:00:00.000Z",
    ],
  })
    .requiredOption("--bundle <file>", "the trust domain's bundle, a JWK set")
    .requiredOption("--trust-domain <name>", "whose bundle that is", trustDomainArgument)
    .option("--audience <name>", "for a JWT-SVID: who it must be for")
    .option("--at <time>", "verify as at this time; now unless told", timeArgument)
    .action(act(verify));
  authorityCommands(svid, act);
}

export function trustDomainArgument(text: string): TrustDomain {
  const parsed = parseTrustDomain(text);
  if (!parsed.ok) throw new InvalidArgumentError(`It is like example.org: ${parsed.refusal.reason}.`);
  return parsed.value;
}

function timeArgument(text: string): number {
  if (!timestamp.safeParse(text).success) throw new InvalidArgumentError("It is like 2026-04-13T16:00:00.000Z.");
  return Date.parse(text);
}

interface VerifyOptions {
  readonly bundle: string;
  readonly trustDomain: TrustDomain;
  readonly audience?: string;
  readonly at?: number;
}

interface Held {
  readonly kind: "x509-svid" | "jwt-svid";
  readonly spiffe_id: string;
  readonly expires_at: string;
  readonly audience?: readonly string[];
}

async function verify(session: Session, file: string, options: VerifyOptions): Promise<ExitName> {
  const { host, out } = session;
  const text = await textIn(resolve(host.cwd, file), svidBytesMax);
  const document = await textIn(resolve(host.cwd, options.bundle), bundleBytesMax);
  const now = options.at ?? host.now();
  const held = await verdictOf(text.trim(), document, options, now);
  const at = new Date(now).toISOString();
  if (!held.ok) {
    const { section, reason } = held.refusal;
    out.result({ holds: false, at, section, reason }, () => `${out.paint.red("REFUSED")}  ${reason} (${section})`);
    return "verification_failed";
  }
  out.result({ holds: true, at, ...held.value }, () => {
    const { kind, spiffe_id, expires_at, audience } = held.value;
    const fields = [
      ["spiffe id", spiffe_id],
      ["kind", kind],
      ["expires", expires_at],
      ...(audience === undefined ? [] : [["audience", audience.join(", ")] as const]),
    ] as const;
    return `${out.paint.green("HOLDS")}\n${out.record(fields)}`;
  });
  return "ok";
}

async function verdictOf(
  svid: string,
  document: string,
  { trustDomain, audience }: VerifyOptions,
  now: number,
): Promise<Checked<Held>> {
  const bundle = await parseTrustBundle(trustDomain, document);
  if (!bundle.ok) return refused("The bundle is not taken", bundle.refusal);
  if (!svid.includes("-----BEGIN ")) {
    if (audience === undefined) {
      throw new Failure("usage", "This is no PEM, and for a JWT-SVID its audience must be known", {
        advice: "Say with --audience who it is presented to.",
      });
    }
    const token = await verifyJwtSvid(svid, bundle.value, { audience, now });
    if (!token.ok) return token;
    const { id, untilMs } = token.value;
    const expires = new Date(untilMs).toISOString();
    return held({ kind: "jwt-svid", spiffe_id: id.uri, expires_at: expires, audience: token.value.audience });
  }
  const chain = certificatesInPem(svid);
  if (!chain.ok) return chain;
  const verified = await verifyX509Svid(chain.value, bundle.value, now);
  if (!verified.ok) return verified;
  const { id, untilMs } = verified.value;
  return held({ kind: "x509-svid", spiffe_id: id.uri, expires_at: new Date(untilMs).toISOString() });
}

const held = (value: Held): Checked<Held> => ({ ok: true, value });
const refused = (what: string, { section, reason }: Refusal): Checked<Held> => ({
  ok: false,
  refusal: { section, reason: `${what}: ${reason}` },
});

async function textIn(path: string, bytesMax: number): Promise<string> {
  try {
    const { size } = await stat(path);
    if (size > bytesMax) throw new Failure("usage", `${path} has ${size} bytes; the most is ${bytesMax}`);
    return await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") throw new Failure("not_found", `There is no file ${path}`);
    if (errorCode(error) === "EISDIR") throw new Failure("usage", `${path} is a folder`);
    if (error instanceof Failure || errorCode(error) === null) throw error;
    throw new Failure("usage", `${path} cannot be read (${errorCode(error)})`);
  }
}
