// The publisher's signing key: a P-256 private JWK in the config folder, 0600. Called by `maestro market keygen` and
// `market publish`; it never leaves this file but as a signature.

import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { importSigner, type Signer } from "../../shared/signing/keys.ts";
import { errorCode, Failure, messageOf } from "../failure.ts";
import { folderOf, makeFolder, notWritten, writeNew } from "../folders.ts";
import type { Host } from "../host.ts";

export const publisherKeyPath = (host: Host): string => join(folderOf(host, "config"), "publisher-key.json");

/** The key of this user, or null where none was made. */
export async function readPublisherKey(host: Host): Promise<Signer | null> {
  const path = publisherKeyPath(host);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw new Failure("failure", `The publisher key ${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  try {
    return await importSigner(text, "P-256");
  } catch (error) {
    throw new Failure("failure", `The publisher key ${path} is not usable: ${messageOf(error)}`, {
      advice: "Move it away; `maestro market keygen` makes a new one.",
    });
  }
}

/** Makes a key. Never writes over one: a lost publisher key cannot be made again. */
export async function makePublisherKey(host: Host): Promise<Signer> {
  const path = publisherKeyPath(host);
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, ["sign", "verify"]);
  const text = JSON.stringify(await crypto.subtle.exportKey("jwk", pair.privateKey));
  await makeFolder(dirname(path));
  await writeNew(path, `${text}\n`).catch((error: unknown) => {
    throw notWritten(path, error);
  });
  return importSigner(text, "P-256");
}
