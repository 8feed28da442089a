// The login of this machine's user: API address and credential, in the XDG config folder, 0600. Read by every command
// that calls the API; written by `maestro login` and `logout`.

import { chmod, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errorCode, Failure } from "./failure.ts";
import { folderOf, writePrivate } from "./folders.ts";
import type { Host } from "./host.ts";
import { isLoopback } from "./http.ts";
import { jsonThatFits } from "./json-file.ts";

const apiKeyPattern = /^mk_[a-z0-9]{32}$/;

const credential = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("key"), key: z.string().regex(apiKeyPattern) }),
  z.strictObject({ kind: z.literal("token"), token: z.string().min(1).max(16_384) }),
]);
export type Credential = z.infer<typeof credential>;

const configShape = z.strictObject({ schema: z.literal(1), api_url: z.url(), credential });
export type Config = z.infer<typeof configShape>;

export interface Login {
  readonly apiUrl: string;
  /** What goes behind `Authorization: Bearer`. */
  readonly secret: string;
  readonly from: "environment" | "config";
}

export const configPath = (host: Host): string => join(folderOf(host, "config"), "config.json");

/**
 * The origin that `text` names. Refuses credentials in the address, and plain HTTP to anywhere but this machine: a key
 * that travels in the clear is everyone's.
 */
export function parseApiUrl(text: string): string {
  let url: URL;
  try {
    url = new URL(text);
  } catch (error) {
    throw new Failure("usage", "The API address is not a URL", {
      advice: "Give it as https://host",
      facts: { cause: errorCode(error) },
    });
  }
  if (url.username !== "" || url.password !== "") {
    throw new Failure("usage", "The API address must not hold a user name or password");
  }
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isLoopback(url.hostname))) {
    throw new Failure("usage", "The API address must begin with https://, or http:// on this machine", {
      advice: "A credential must not travel unencrypted.",
    });
  }
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    throw new Failure("usage", "The API address is a scheme, a host and a port, nothing behind them");
  }
  return url.origin;
}

/** A key as a person gave it. What was given never appears in the message. */
export function parseApiKey(text: string): string {
  const key = text.trim();
  if (!apiKeyPattern.test(key)) {
    throw new Failure("usage", "That is not an API key", {
      advice: "A key is `mk_` and 32 characters; `maestro keys create` makes one.",
    });
  }
  return key;
}

export async function readConfig(host: Host): Promise<Config | null> {
  const path = configPath(host);
  let text: string;
  try {
    text = await readFile(path, "utf8");
    if (process.platform !== "win32" && ((await stat(path)).mode & 0o077) !== 0) {
      await chmod(path, 0o600);
      host.stderr.write(`note: ${path} was open to other users; it is private again (consider a new key)\n`);
    }
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw new Failure("failure", `The config file ${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  const broken = new Failure("failure", `The config file ${path} is not one of Maestro's`, {
    advice: "Remove it, then log in again.",
    command: "maestro logout && maestro login",
  });
  return jsonThatFits(text, configShape, broken);
}

export const writeConfig = (host: Host, config: Config): Promise<void> =>
  writePrivate(configPath(host), `${JSON.stringify(config, null, 2)}\n`);

/** True where there was a login to remove. */
export async function removeConfig(host: Host): Promise<boolean> {
  try {
    await rm(configPath(host));
    return true;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    throw error;
  }
}

/** Environment first, then the config file; a stored credential goes only to the API that it was stored for. */
export async function currentLogin(host: Host): Promise<Login> {
  const namedUrl = host.env["MAESTRO_API_URL"];
  const namedKey = host.env["MAESTRO_API_KEY"];
  const apiUrl = namedUrl === undefined || namedUrl === "" ? null : parseApiUrl(namedUrl);
  const config = apiUrl !== null && namedKey ? null : await readConfig(host);
  if (namedKey) {
    const url = apiUrl ?? config?.api_url;
    if (url === undefined)
      throw new Failure("usage", "MAESTRO_API_KEY is set, but no API address is", {
        advice: "Set MAESTRO_API_URL too.",
      });
    return { apiUrl: url, secret: parseApiKey(namedKey), from: "environment" };
  }
  if (config === null) {
    throw new Failure("denied", "You are not logged in", {
      advice: "Log in first; beside a local stack (`npm start`):",
      command: "maestro login --local",
    });
  }
  if (apiUrl !== null && apiUrl !== config.api_url) {
    throw new Failure("denied", `The stored login is for ${config.api_url}, not for ${apiUrl}`, {
      advice: "Set MAESTRO_API_KEY beside MAESTRO_API_URL, or log in there.",
      command: `maestro login --api-url ${apiUrl}`,
    });
  }
  return {
    apiUrl: config.api_url,
    secret: config.credential.kind === "key" ? config.credential.key : config.credential.token,
    from: "config",
  };
}

/** The address alone, for what is public. */
export async function currentApiUrl(host: Host): Promise<string> {
  const named = host.env["MAESTRO_API_URL"];
  if (named) return parseApiUrl(named);
  return (await readConfig(host))?.api_url ?? (await currentLogin(host)).apiUrl;
}
