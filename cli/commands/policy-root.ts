// `maestro policy root init|rotate|show`: the root of trust of a tenant's policies, made and signed on this machine, and what a
// fetcher pins of it.

import { resolve } from "node:path";
import type { Command } from "commander";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import type { PolicyKeys, PolicyRootPut } from "../../shared/edge/answers.ts";
import { checkRoot } from "../../shared/edge/root.ts";
import { documentText, rootOf, type RootDocument } from "../../shared/edge/tuf.ts";
import type { TufSigner } from "../../shared/edge/tuf-keys.ts";
import { group, integerFrom, leaf, type Act } from "../command.ts";
import { Failure } from "../failure.ts";
import { requireWritable, writePrivate } from "../folders.ts";
import { readRootKeys, requireOwnApi, rootKeysFolder, rootKeysFor, type RootKey } from "../policy/root-keys.ts";
import type { Session } from "../session.ts";

export function rootCommands(policy: Command, act: Act): void {
  const root = group(policy, "root", "the root of trust: its keys stay on this machine");
  leaf(root, "init", {
    summary: "make root keys and the first root, sign it, and put it",
    more:
      "Keys that were made for it before are used, never replaced. Keep copies of them where nobody else gets at them:\n" +
      "whoever has a threshold of them decides what every fetcher believes, and without one no next root can be made.",
    examples: ["maestro policy root init", "maestro policy root init --keys 3 --threshold 2"],
  })
    .option("--keys <count>", "root keys, 1 to 16", integerFrom(1, 16), 1)
    .option("--threshold <count>", "how many of them have to sign", integerFrom(1, 16), 1)
    .action(act(init));
  leaf(root, "rotate", {
    summary: "make the next root: new root keys, the signer's keys of now, another year; signed by old and new keys",
    examples: ["maestro policy root rotate", "maestro policy root rotate --same-keys"],
  })
    .option("--same-keys", "keep the root keys: name the signer's keys anew, and begin the year anew")
    .option("--keys <count>", "new root keys; as many as there are now, where it is not given", integerFrom(1, 16))
    .option("--threshold <count>", "how many of them have to sign; as now, where it is not given", integerFrom(1, 16))
    .action(act(rotate));
  leaf(root, "show", {
    summary: "what a fetcher pins: the root in force and its digest, and the keys of the publishers",
    more:
      "It comes from the API, which is not to be believed in this: compare the digest with the root's keepers and the keys\n" +
      "with the publishers, by another way, before a fetcher gets them.",
    examples: [
      "maestro policy root show --out 1.root.json",
      "maestro edge fetch gateway --tenant acme --root 1.root.json --publisher $(maestro policy root show --publishers)",
    ],
  })
    .option("--out <file>", "write the root there, as `maestro edge --root` takes it")
    .option(
      "--publishers",
      "print the publishers' keys and nothing else, one a line, as `maestro edge --publisher` takes them",
    )
    .action(act(show));
}

async function show(session: Session, options: { out?: string; publishers?: true }): Promise<void> {
  if (options.publishers === true && options.out !== undefined)
    throw new Failure("usage", "--publishers prints the keys alone; --out is for the root");
  const file = options.out === undefined ? null : resolve(session.host.cwd, options.out);
  if (file !== null) await requireWritable(file);
  const { tenant, root, publishers } = await (await session.api()).policyKeys();
  const keys = publishers.map(({ spki }) => spki);
  if (options.publishers === true) {
    if (keys.length === 0)
      throw new Failure("usage", `${tenant} has no publisher's key`, {
        advice: "Whoever publishes makes and registers one:",
        command: "maestro market keygen",
      });
    return session.out.result({ publishers: keys }, () => keys.join("\n"));
  }
  if (root === null)
    throw new Failure("usage", `${tenant} has no root yet`, {
      advice: "The first one:",
      command: "maestro policy root init",
    });
  const text = documentText(root);
  const sha256 = await sha256Hex(utf8(text));
  if (file !== null) await writePrivate(file, text);
  const { version, expires, roles } = root.signed;
  session.out.result({ tenant, version, expires, sha256, file, root, publishers: keys }, () =>
    session.out.record([
      ["tenant", tenant],
      ["root", version],
      ["expires", expires],
      ["signed by", `${roles.root.threshold} of ${roles.root.keyids.length} root keys`],
      ["sha256", sha256],
      ...(options.out === undefined ? [] : [["file", options.out] as const]),
      ...keys.map((key) => ["publisher", key] as const),
    ]),
  );
  session.out.note("compare the digest and the keys with those who hold them, by another way than this one");
}

async function init(session: Session, options: { keys: number; threshold: number }): Promise<void> {
  if (options.threshold > options.keys)
    throw new Failure("usage", `--threshold ${options.threshold} is more than the ${options.keys} keys`);
  const api = await session.api();
  const told = await api.policyKeys();
  if (told.root !== null && !(await areKeysOf(session, told)))
    throw new Failure("usage", `${told.tenant} has a root already, version ${told.root.signed.version}`, {
      advice: "The next one, with its keys:",
      command: "maestro policy root rotate",
    });
  await requireOwnApi(session.host, told.tenant, await session.apiUrl());
  const keys = await rootKeysFor(session.host, told.tenant, 1, options.keys);
  // A call whose answer was lost is answered by the root that it made.
  const root = told.root ?? (await signed(session, told, 1, keys, options.threshold, []));
  tell(session, await api.putPolicyRoot(root), told, keys);
}

async function rotate(
  session: Session,
  options: { sameKeys?: boolean; keys?: number; threshold?: number },
): Promise<void> {
  const api = await session.api();
  const told = await api.policyKeys();
  const { root: before } = told;
  if (before === null)
    throw new Failure("usage", `${told.tenant} has no root yet`, {
      advice: "The first one:",
      command: "maestro policy root init",
    });
  await requireOwnApi(session.host, told.tenant, await session.apiUrl());
  const { version, roles } = before.signed;
  const held = (await readRootKeys(session.host, told.tenant)).filter(({ signer }) =>
    roles.root.keyids.includes(signer.keyId),
  );
  if (held.length < roles.root.threshold)
    throw new Failure(
      "usage",
      `${held.length} of the keys of root ${version} are on this machine, and ${roles.root.threshold} have to sign`,
      { advice: `Put copies of them into ${rootKeysFolder(session.host, told.tenant)}.` },
    );
  if (options.sameKeys === true && (options.keys !== undefined || options.threshold !== undefined))
    throw new Failure("usage", "--same-keys keeps the keys and their threshold; give it alone");
  const next = version + 1;
  if (options.sameKeys === true && held.length < roles.root.keyids.length)
    throw new Failure("usage", "--same-keys needs the public halves of all root keys, so all of their files", {
      advice: "Without it, new root keys are made.",
    });
  const count = options.keys ?? roles.root.keyids.length;
  const threshold = options.threshold ?? Math.min(roles.root.threshold, count);
  if (threshold > count) throw new Failure("usage", `--threshold ${threshold} is more than the ${count} keys`);
  const keys = options.sameKeys === true ? held : await rootKeysFor(session.host, told.tenant, next, count);
  const root = await signed(session, told, next, keys, threshold, held);
  tell(session, await api.putPolicyRoot(root), told, keys);
}

/** Whether the root in force is the first one, by keys of this machine: what an `init` that was cut off has left. */
async function areKeysOf(session: Session, { tenant, root }: PolicyKeys): Promise<boolean> {
  const own = new Set((await readRootKeys(session.host, tenant)).map(({ signer }) => signer.keyId));
  return root !== null && root.signed.version === 1 && root.signed.roles.root.keyids.every((id) => own.has(id));
}

async function signed(
  session: Session,
  told: PolicyKeys,
  version: number,
  keys: readonly RootKey[],
  threshold: number,
  before: readonly RootKey[],
): Promise<RootDocument> {
  const now = session.host.now();
  const own = keys.map(({ signer }) => signer);
  const body = await rootOf({ version, root: own.map(({ key }) => key), threshold, online: told.keys }, now);
  const signers = new Map<string, TufSigner>();
  for (const { signer } of [...before, ...keys]) signers.set(signer.keyId, signer);
  const root = {
    signed: body,
    signatures: await Promise.all([...signers.values()].map((signer) => signer.sign(body))),
  };
  const checked = await checkRoot(root, told.root, told.keys, now);
  if (!checked.ok) throw new Failure("failure", `The root would be refused: ${checked.reason}`);
  return root;
}

function tell(session: Session, put: PolicyRootPut, { tenant }: PolicyKeys, keys: readonly RootKey[]): void {
  const files = keys.map(({ path }) => path);
  session.out.result({ tenant, ...put, key_files: files }, () =>
    session.out.record([
      ["tenant", tenant],
      ["root", put.version],
      ["expires", put.expires],
      ...files.map((file) => ["key", file] as const),
      ...put.providers.map(({ name, state }) => [`provider ${name}`, state] as const),
    ]),
  );
  session.out.note("next: copies of the key files to where nobody else gets at them");
}
