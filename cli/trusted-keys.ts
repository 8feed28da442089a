// The keys that this user trusts to have signed an API's log, receipts and packs: what the API published, remembered
// in the state folder, so that what came yesterday verifies today without a network. A change is told, not hidden.

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { publishedKeys, type PublishedKeys } from "../shared/contract/http-audit.ts";
import { errorCode, Failure } from "./failure.ts";
import { folderOf, writePrivate } from "./folders.ts";
import type { Session } from "./session.ts";

/** A file name of an API's address: `http://127.0.0.1:8787` → `http_127.0.0.1_8787`. */
export const fileNameOf = (apiUrl: string): string => apiUrl.replaceAll(/[^A-Za-z0-9.-]+/g, "_");

const pathOf = (session: Session, apiUrl: string): string =>
  join(folderOf(session.host, "state"), "keys", `${fileNameOf(apiUrl)}.json`);

async function readKeys(path: string): Promise<PublishedKeys | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw new Failure("failure", `The keys in ${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  try {
    return publishedKeys.parse(JSON.parse(text));
  } catch {
    throw new Failure("failure", `${path} is not a key set as GET /api/audit/keys gives it`);
  }
}

/** Asks the API for its keys and remembers them; notes what is not as it was. */
export async function fetchKeys(session: Session): Promise<PublishedKeys> {
  const apiUrl = await session.apiUrl();
  const published = await (await session.openApi()).publishedKeys();
  const path = pathOf(session, apiUrl);
  const before = await readKeys(path);
  const names = (keys: PublishedKeys): Set<string> =>
    new Set(keys.keys.map((key) => `${key.use} ${key.kid} ${key.spki}`));
  if (before !== null) {
    const [old, now] = [names(before), names(published)];
    const changed = [...now].filter((name) => !old.has(name)).length + [...old].filter((name) => !now.has(name)).length;
    if (changed > 0 || before.origin_prefix !== published.origin_prefix) {
      session.out.note(
        `note: ${apiUrl} publishes other keys than last time (${changed} changed); was a rotation announced?`,
      );
    }
  }
  await writePrivate(path, `${JSON.stringify(published, null, 2)}\n`);
  return published;
}

/** The keys in `file`, or the remembered ones of the current API. No network. */
export async function offlineKeys(session: Session, file: string | undefined): Promise<PublishedKeys> {
  const path = file === undefined ? pathOf(session, await session.apiUrl()) : resolve(session.host.cwd, file);
  const keys = await readKeys(path);
  if (keys !== null) return keys;
  throw new Failure(
    "not_found",
    file === undefined ? "No keys of this API are remembered" : `There is no file ${path}`,
    {
      advice: "Fetch them once (`maestro audit keys`), or give a saved set with --keys.",
    },
  );
}
