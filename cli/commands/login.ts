// `maestro login`, `logout`, `whoami`: who the caller is to the API.

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import type { Command } from "commander";
import { z } from "zod";
import type { Role } from "../../shared/contract/names.ts";
import { createApi } from "../api.ts";
import { leaf, roleArgument, type Act } from "../command.ts";
import { configPath, parseApiKey, parseApiUrl, removeConfig, writeConfig, type Credential } from "../config.ts";
import { errorCode, Failure } from "../failure.ts";
import { isLoopback, readJson, send } from "../http.ts";
import { readSecret } from "../secret-input.ts";
import type { Session } from "../session.ts";
import { acceptKeys } from "../trusted-keys.ts";

interface LoginOptions {
  readonly local?: boolean;
  readonly state?: string;
  readonly role: Role;
  readonly apiUrl?: string;
}

const projectState = resolve(import.meta.dirname, "..", "..", ".maestro");

/** What `npm start` leaves for this command, 0600, in its state folder. */
const localIssuer = z.object({
  token_url: z.url(),
  secret: z.string().min(1),
  api_url: z.url(),
  subjects: z.record(z.string(), z.string()),
});

const tokenAnswer = z.object({ access_token: z.string().min(1) });

export function loginCommands(program: Command, act: Act): void {
  leaf(program, "login", {
    summary: "log in, and keep the credential in the config folder (0600)",
    more:
      "With --local a token comes from the issuer of the local stack (`npm start`). Else an API key is read from stdin,\n" +
      "or asked for without echo; it is never taken from the command line, where other users could see it.",
    examples: [
      "maestro login --local",
      "maestro login --local --role viewer",
      "maestro login --api-url https://maestro.example.com",
      "maestro login --api-url https://maestro.example.com < key.txt",
    ],
  })
    .option("--local", "get a token from the local stack")
    .option("--state <dir>", "the local stack's state folder (default: .maestro beside the project's package.json)")
    .option("--role <role>", "whom to be in the local demo tenant", roleArgument, "admin")
    .option("--api-url <url>", "where the API is")
    .action(act(login));
  leaf(program, "logout", { summary: "forget the stored credential", examples: ["maestro logout"] }).action(
    act(logout),
  );
  leaf(program, "whoami", {
    summary: "show who the API takes you for",
    examples: ["maestro whoami", "maestro whoami --json"],
  }).action(act(showCaller));
}

async function login(session: Session, options: LoginOptions): Promise<void> {
  if (options.local === true && options.apiUrl !== undefined) {
    throw new Failure("usage", "--local and --api-url exclude each other: a local stack names its own address");
  }
  const { apiUrl, credential } =
    options.local === true ? await localCredential(session, options) : await keyCredential(session, options);
  // A credential that the API does not take is not kept.
  const secret = credential.kind === "key" ? credential.key : credential.token;
  const caller = await createApi({
    baseUrl: apiUrl,
    secret,
    host: session.host,
    signal: session.host.interrupted,
  }).whoami();
  await writeConfig(session.host, { schema: 1, api_url: apiUrl, credential });
  // A local stack is known by its own state folder, not by the network; after `npm start -- --reset` it has new keys.
  if (options.local === true && (await session.apiUrl()) === apiUrl) await acceptKeys(session);
  session.out.result({ api_url: apiUrl, ...caller, config: configPath(session.host) }, () =>
    [
      `${session.out.paint.green("logged in")} to ${apiUrl} as ${caller.role} of ${caller.tenant}`,
      session.out.paint.dim(`kept in ${configPath(session.host)}`),
    ].join("\n"),
  );
  if (session.host.env["MAESTRO_API_KEY"]) session.out.note("note: MAESTRO_API_KEY is set, and goes before this login");
}

async function keyCredential(
  session: Session,
  options: LoginOptions,
): Promise<{ apiUrl: string; credential: Credential }> {
  const named = options.apiUrl ?? session.host.env["MAESTRO_API_URL"];
  if (!named) {
    throw new Failure("usage", "Where is the API?", {
      advice: "Name it, or log in to the local stack:",
      command: "maestro login --api-url https://… or maestro login --local",
    });
  }
  const apiUrl = parseApiUrl(named);
  return { apiUrl, credential: { kind: "key", key: parseApiKey(await readSecret(session.host, "API key: ")) } };
}

async function localCredential(
  session: Session,
  options: LoginOptions,
): Promise<{ apiUrl: string; credential: Credential }> {
  const folder = options.state === undefined ? projectState : resolve(session.host.cwd, options.state);
  const path = join(folder, "local-issuer.json");
  const local = localIssuer.safeParse(await readLocal(path));
  if (!local.success)
    throw new Failure("failure", `${path} is not what \`npm start\` writes`, {
      advice: "Start the local stack again.",
    });
  const apiUrl = parseApiUrl(local.data.api_url);
  const tokenUrl = new URL(local.data.token_url);
  if (!isLoopback(tokenUrl.hostname))
    throw new Failure("usage", `${path} names an issuer that is not on this machine`, {
      advice: "The stack's secret goes to this machine only. Start the local stack again.",
    });
  const subject = local.data.subjects[options.role];
  if (subject === undefined) {
    throw new Failure("not_found", `The local stack has no ${options.role}`, {
      advice: "Is it seeded? `npm start` does that.",
    });
  }
  const answer = await send(
    {
      baseUrl: parseApiUrl(tokenUrl.origin),
      secret: local.data.secret,
      host: session.host,
      signal: session.host.interrupted,
    },
    { method: "POST", path: tokenUrl.pathname, json: { subject } },
    readJson,
  );
  const token = tokenAnswer.safeParse(answer);
  if (!token.success) throw new Failure("failure", "The local issuer gave no token");
  return { apiUrl, credential: { kind: "token", token: token.data.access_token } };
}

async function readLocal(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8")) as unknown;
  } catch (error) {
    if (errorCode(error) === "ENOENT") {
      throw new Failure("unavailable", `There is no local stack at ${path}`, {
        advice: "`npm start` starts one; --state names another folder.",
      });
    }
    if (error instanceof SyntaxError) return null;
    throw new Failure("failure", `${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
}

async function logout(session: Session): Promise<void> {
  const removed = await removeConfig(session.host);
  session.out.result({ logged_out: removed }, () => (removed ? "logged out" : "there was no login"));
}

async function showCaller(session: Session): Promise<void> {
  const caller = await (await session.api()).whoami();
  const apiUrl = await session.apiUrl();
  const presented = await session.svid();
  const svid =
    presented === null
      ? null
      : {
          spiffe_id: presented.svid.id.uri,
          presented_as: presented.as,
          issued_at: new Date(presented.svid.issuedAtMs).toISOString(),
          expires_at: new Date(presented.svid.expiresAtMs).toISOString(),
        };
  session.out.result({ api_url: apiUrl, ...caller, ...(svid === null ? {} : { svid }) }, () =>
    session.out.record([
      ["tenant", `${caller.tenant} (${caller.tenant_id})`],
      ["principal", caller.principal_id],
      ["kind", caller.kind],
      ["role", caller.role],
      ["credential", caller.credential],
      ["api", apiUrl],
      ...(svid === null
        ? []
        : ([
            ["spiffe id", `${svid.spiffe_id} (by ${svid.presented_as})`],
            ["issued", svid.issued_at],
            ["expires", svid.expires_at],
          ] as const)),
    ]),
  );
}
