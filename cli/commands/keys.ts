// `maestro keys`: the tenant's API keys.

import { resolve } from "node:path";
import type { Command } from "commander";
import type { Role } from "../../shared/contract/names.ts";
import { group, integerFrom, leaf, roleArgument, type Act } from "../command.ts";
import { Failure } from "../failure.ts";
import { requireWritable, writePrivate } from "../folders.ts";
import type { Session } from "../session.ts";

export function keyCommands(program: Command, act: Act): void {
  const keys = group(program, "keys", "API keys of the tenant");
  leaf(keys, "list", { summary: "list the keys (never the secrets)", examples: ["maestro keys list"] }).action(
    act(listKeys),
  );
  leaf(keys, "create", {
    summary: "make a key for a new service principal; the key is shown once",
    examples: [
      "maestro keys create --role operator",
      "maestro keys create --role viewer --expires-in-days 7 --out key.txt",
    ],
  })
    .requiredOption("--role <role>", "what the key may do", roleArgument)
    .option("--expires-in-days <days>", "1 to 366", integerFrom(1, 366), 90)
    .option("--out <file>", "write the key there (0600) instead of showing it")
    .action(act(createKey));
  leaf(keys, "revoke <id>", {
    summary: "revoke a key at once",
    examples: ["maestro keys revoke key_01k9x6f6c8a0b1c2d3e4f5g6h7"],
  }).action(act(revokeKey));
}

async function listKeys(session: Session): Promise<void> {
  const keys = await (await session.api()).keys();
  session.out.result({ keys }, () =>
    session.out.table(
      ["id", "prefix", "role", "created", "expires", "last used", "revoked"],
      keys.map((key) => [
        key.id,
        key.prefix,
        key.role,
        key.created_at,
        key.expires_at,
        key.last_used_at,
        key.revoked_at,
      ]),
    ),
  );
}

async function createKey(
  session: Session,
  options: { role: Role; expiresInDays: number; out?: string },
): Promise<void> {
  const path = options.out === undefined ? null : resolve(session.host.cwd, options.out);
  if (path !== null) await requireWritable(path);
  const made = await (await session.api()).createKey({ role: options.role, expires_in_days: options.expiresInDays });
  if (made.key === null) {
    // The answer was lost and asked for again: the secret is shown in the first answer only.
    throw new Failure("failure", `The key ${made.id} was made, but its secret was lost on the way`, {
      advice: "Revoke it and make another.",
      command: `maestro keys revoke ${made.id}`,
    });
  }
  const { key, ...rest } = made;
  if (path === null) {
    session.out.result(made, () => key);
    session.out.note(
      `${made.id}, ${made.role}, until ${made.expires_at ?? "it is revoked"}; this key is not shown again`,
    );
    return;
  }
  await writePrivate(path, `${key}\n`).catch((error: unknown) => {
    if (!(error instanceof Failure)) throw error;
    throw new Failure("failure", `The key ${made.id} was made, but ${error.message}`, {
      advice: "Revoke it and make another.",
      command: `maestro keys revoke ${made.id}`,
    });
  });
  session.out.result({ ...rest, out: path }, () => `${made.id} written to ${path}`);
}

async function revokeKey(session: Session, id: string): Promise<void> {
  const revoked = await (await session.api()).revokeKey(id);
  session.out.result(revoked ?? { id, revoked: true }, () => `${id} is revoked`);
}
