// The root keys of a tenant's policies: Ed25519 private JWKs in the config folder, one a file, 0600, named by the version of the
// root that first has them. Called by `maestro policy root`; they never leave their files but as signatures.

import { randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { tufSignerOf, type TufSigner } from "../../shared/edge/tuf-keys.ts";
import { errorCode, Failure } from "../failure.ts";
import { folderOf, makeFolder, notWritten, writeNew, writePrivate } from "../folders.ts";
import type { Host } from "../host.ts";

const keyShape = z.object({ kty: z.literal("OKP"), crv: z.literal("Ed25519"), d: z.string().regex(/^[\w-]{43}$/) });
const filePattern = /^root-(\d+)-(\d+)\.json$/;

export interface RootKey {
  readonly path: string;
  /** Of the root that first has it. */
  readonly version: number;
  readonly signer: TufSigner;
}

export const rootKeysFolder = (host: Host, tenant: string): string =>
  join(folderOf(host, "config"), "policy-root", tenant);

/**
 * Refuses an API that the tenant's root keys were not made for: whatever it calls its tenant and its signer's keys, a root that these
 * sign is believed by who trusts them. The first API that they are used for is remembered; more are added by hand, a line each. Throws
 * Failure `denied`.
 */
export async function requireOwnApi(host: Host, tenant: string, apiUrl: string): Promise<void> {
  const path = `${rootKeysFolder(host, tenant)}.apis`;
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return null;
    throw new Failure("failure", `${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  });
  if (text === null) return await writePrivate(path, `${apiUrl}\n`);
  const known = text.split("\n").map((line) => line.trim());
  if (known.includes(apiUrl)) return;
  throw new Failure("denied", `The root keys of ${tenant} on this machine were made for another API than ${apiUrl}`, {
    advice: `It would get a root that they sign. Only where it is the same API under another name, add that as a line to ${path}.`,
    facts: { api_url: apiUrl, apis: known.filter((line) => line !== "") },
  });
}

/** Every root key of the tenant on this machine, in the order of their files. */
export async function readRootKeys(host: Host, tenant: string): Promise<RootKey[]> {
  const folder = rootKeysFolder(host, tenant);
  const names: string[] = await readdir(folder).catch((error: unknown) => {
    if (errorCode(error) === "ENOENT") return [];
    throw new Failure("failure", `The folder ${folder} cannot be read (${errorCode(error) ?? "unknown"})`);
  });
  const keys: RootKey[] = [];
  for (const name of names.toSorted((left, right) => (left < right ? -1 : 1))) {
    const version = filePattern.exec(name)?.[1];
    if (version === undefined) continue;
    const path = join(folder, name);
    const parsed = keyShape.safeParse(await readJson(path));
    if (!parsed.success) throw new Failure("failure", `${path} is not a root key`, { advice: "Move it away." });
    const signer = await tufSignerOf(Buffer.from(parsed.data.d, "base64url"));
    keys.push({ path, version: Number(version), signer });
  }
  return keys;
}

/** Keys for that version of the root: those that were made for it before (a call that was cut off), and new ones up to `count`. */
export async function rootKeysFor(host: Host, tenant: string, version: number, count: number): Promise<RootKey[]> {
  const folder = rootKeysFolder(host, tenant);
  await makeFolder(folder);
  const before = (await readRootKeys(host, tenant)).filter((key) => key.version === version);
  for (let index = before.length + 1; index <= count; index += 1) {
    const seed = randomBytes(32);
    const { key } = await tufSignerOf(seed);
    const jwk = {
      kty: "OKP",
      crv: "Ed25519",
      d: seed.toString("base64url"),
      x: Buffer.from(key.keyval.public, "hex").toString("base64url"),
    };
    // A root key is never written over. What is lost cannot be made again.
    const path = join(folder, `root-${version}-${index}.json`);
    await writeNew(path, `${JSON.stringify(jwk)}\n`).catch((error: unknown) => {
      throw notWritten(path, error);
    });
  }
  return (await readRootKeys(host, tenant)).filter((key) => key.version === version).slice(0, count);
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, "utf8"));
  } catch (error) {
    throw new Failure("failure", `The root key ${path} cannot be read (${errorCode(error) ?? "not JSON"})`);
  }
}
