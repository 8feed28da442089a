// The keys that this user trusts to have signed an API's log, receipts, packs and releases. The first set that an API
// publishes is believed and remembered in the state folder; from then on that set is the only one, with what its keys say of
// those that take their place. Another one is refused until the user accepts it, or whoever answers for the API once could put
// keys of their own in place of ours.
// `run`, `audit verify` and `disclosure get` take their keys here.

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { base64Bytes, sha256Hex } from "../shared/contract/bytes.ts";
import { canonicalJson } from "../shared/contract/events.ts";
import { publishedKeys, type PublishedKey, type PublishedKeys } from "../shared/contract/http-audit.ts";
import { succession, type Succession } from "../shared/signing/succession.ts";
import { errorCode, Failure } from "./failure.ts";
import { folderOf, writePrivate } from "./folders.ts";
import { jsonThatFits } from "./json-file.ts";
import { printable } from "./output.ts";
import type { Session } from "./session.ts";

/** A file name for any text, each its own: `http://127.0.0.1:8787` → `http%3A%2F%2F127.0.0.1%3A8787`. */
export const fileNameOf = (text: string): string => encodeURIComponent(text);

const pathOf = (session: Session, apiUrl: string): string =>
  join(folderOf(session.host, "state"), "keys", `${fileNameOf(apiUrl)}.json`);

/** Enough of a kid to compare it with an announcement by eye: 64 bits. */
const shownKidCharacters = 16;

export interface KeyChange {
  /** `altered`: the same kid for the same use, with other members. */
  readonly change: "gone" | "new" | "altered";
  readonly use: PublishedKey["use"];
  readonly kid: string;
}

/** What is not the same in two key sets, whatever their order. Empty where they say the same. */
export function keyChanges(before: PublishedKeys, now: PublishedKeys): KeyChange[] {
  const missingIn = (keys: readonly PublishedKey[], others: readonly PublishedKey[]): PublishedKey[] => {
    const texts = new Set(others.map((key) => canonicalJson(key)));
    return keys.filter((key) => !texts.has(canonicalJson(key)));
  };
  const [gone, added] = [missingIn(before.keys, now.keys), missingIn(now.keys, before.keys)];
  const isIn = (keys: readonly PublishedKey[], { use, kid }: PublishedKey): boolean =>
    keys.some((key) => key.use === use && key.kid === kid);
  return [
    ...gone.map((key): KeyChange => ({ change: isIn(added, key) ? "altered" : "gone", use: key.use, kid: key.kid })),
    ...added.filter((key) => !isIn(gone, key)).map(({ use, kid }): KeyChange => ({ change: "new", use, kid })),
  ];
}

/** `checkpoint 0123456789abcdef, manifest and receipt 89abcdef01234567`. */
function keysInWords(keys: readonly Pick<PublishedKey, "use" | "kid">[]): string {
  const kids = [...new Set(keys.map(({ kid }) => kid))];
  const usesOf = (kid: string): string[] => keys.filter((key) => key.kid === kid).map(({ use }) => use);
  return kids.map((kid) => `${usesOf(kid).join(" and ")} ${kid.slice(0, shownKidCharacters)}`).join(", ");
}

async function readKeys(path: string): Promise<PublishedKeys | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw new Failure("failure", `The keys in ${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
  const broken = new Failure("failure", `${path} is not a key set as GET /api/audit/keys gives it`);
  return jsonThatFits(text, publishedKeys, broken);
}

const writeKeys = (path: string, keys: PublishedKeys): Promise<void> =>
  writePrivate(path, `${JSON.stringify(keys, null, 2)}\n`);

interface Found {
  readonly apiUrl: string;
  readonly path: string;
  readonly served: PublishedKeys;
  readonly trusted: PublishedKeys | null;
}

async function find(session: Session): Promise<Found> {
  const apiUrl = await session.apiUrl();
  const path = pathOf(session, apiUrl);
  // Before anything is asked: where the memory is broken, no answer can be judged.
  const trusted = await readKeys(path);
  const served = await (await session.openApi()).publishedKeys();
  for (const key of served.keys) {
    if ((await kidOf(key)) === key.kid) continue;
    throw new Failure("verification_failed", `${apiUrl} publishes a ${key.use} key under a kid that is not its own`, {
      facts: { key },
    });
  }
  return { apiUrl, path, served, trusted };
}

/** The kid that belongs to the key's bytes; null where these are no bytes. People compare kids, signatures need bytes. */
async function kidOf({ spki }: PublishedKey): Promise<string | null> {
  try {
    return await sha256Hex(base64Bytes(spki));
  } catch (error) {
    if (error instanceof TypeError) return null;
    throw error;
  }
}

/**
 * The keys to verify with: what the API publishes, if that is what is remembered of it, or follows from it: new keys that
 * remembered ones endorsed, ends and revocations. That and the first use are remembered, and said. Throws Failure
 * `verification_failed` where the two differ in anything else; nothing is written then.
 */
export async function trustedKeys(session: Session): Promise<PublishedKeys> {
  const { apiUrl, path, served, trusted } = await find(session);
  if (trusted === null) {
    await writeKeys(path, served);
    noteFirstUse(session, apiUrl, served);
    return served;
  }
  const changes = keyChanges(trusted, served);
  if (changes.length === 0 && trusted.origin_prefix === served.origin_prefix) return trusted;
  const followed = await succession(trusted, served);
  if (followed.ok) {
    await writeKeys(path, served);
    noteSuccession(session, apiUrl, followed);
    return served;
  }
  const words = (["gone", "new", "altered"] as const).flatMap((change) => {
    const keys = changes.filter((one) => one.change === change);
    return keys.length === 0 ? [] : [`${change}: ${keysInWords(keys)}`];
  });
  if (trusted.origin_prefix !== served.origin_prefix)
    words.push(`the log's origin was ${trusted.origin_prefix}, and is ${served.origin_prefix}`);
  throw new Failure(
    "verification_failed",
    `${apiUrl} publishes other keys than those you trust (${words.join("; ")})`,
    {
      advice:
        "Nothing was done. Where a rotation to exactly the new ones was announced (a local stack has new keys after --reset), accept them:",
      command: "maestro audit keys --accept",
      facts: { changes, trusted, served },
    },
  );
}

function noteSuccession(
  session: Session,
  apiUrl: string,
  { endorsed, ended }: Extract<Succession, { readonly ok: true }>,
): void {
  const lines = [
    ...endorsed.map(
      ({ kid, uses, by }) =>
        `note: ${apiUrl} has a new key, ${keysInWords(uses.map((use) => ({ use, kid })))}: ${by.slice(0, shownKidCharacters)}, which ` +
        "you trust, endorsed it; it is trusted from now on",
    ),
    ...endsInWords(
      ended.filter((key) => key.revoked_at === undefined),
      "signs no more",
    ),
    ...endsInWords(
      ended.filter((key) => key.revoked_at !== undefined),
      "was revoked: its signatures are refused from now on",
    ),
  ];
  for (const line of lines) session.out.note(printable(line));
}

const endsInWords = (keys: readonly PublishedKey[], what: string): string[] =>
  keys.length === 0 ? [] : [`note: ${keysInWords(keys)} ${what}`];

const noteFirstUse = (session: Session, apiUrl: string, keys: PublishedKeys): void =>
  session.out.note(
    printable(`note: first use of ${apiUrl}; its keys are trusted from now on: ${keysInWords(keys.keys)}`),
  );

/** Trusts what the API publishes now, whatever was trusted before; `replaced` is that, or null where it is the same. */
export async function acceptKeys(
  session: Session,
): Promise<{ readonly accepted: PublishedKeys; readonly replaced: PublishedKeys | null }> {
  const { apiUrl, path, served, trusted } = await find(session);
  if (trusted === null) noteFirstUse(session, apiUrl, served);
  const isSame =
    trusted !== null && keyChanges(trusted, served).length === 0 && trusted.origin_prefix === served.origin_prefix;
  if (!isSame) await writeKeys(path, served);
  return { accepted: served, replaced: isSame ? null : trusted };
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
