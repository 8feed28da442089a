// `maestro principals`: who the tenant's principals are, and the erasure of a person.

import type { Command } from "commander";
import { group, leaf, type Act } from "../command.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";

export function principalCommands(program: Command, act: Act): void {
  const principals = group(program, "principals", "who the tenant's principals are");
  leaf(principals, "list", {
    summary: "list the principals, and who they are outside",
    examples: ["maestro principals list"],
  }).action(act(list));
  leaf(principals, "erase <id>", {
    summary: "drop what ties a principal to a person, for good",
    more:
      "Their tokens are refused from then on, and nothing tells any more who they were. The log knows the id only, so that all " +
      "that it proves still holds. Keys that they made stay: maestro keys revoke.",
    examples: ["maestro principals erase pri_01k9x6f6c8a0b1c2d3e4f5g6h7"],
  }).action(act(erase));
}

async function list(session: Session): Promise<void> {
  const principals = await (await session.api()).principals();
  session.out.result({ principals }, () =>
    session.out.table(
      ["id", "kind", "role", "created", "disabled", "who"],
      principals.map(({ id, kind, role, created_at, disabled_at, identities }) => [
        id,
        kind,
        role,
        created_at,
        disabled_at,
        printable(identities.map(({ issuer, subject }) => `${subject} (${issuer})`).join(", ")),
      ]),
    ),
  );
}

async function erase(session: Session, id: string): Promise<void> {
  await (await session.api()).erasePrincipal(id);
  session.out.result({ id, erased: true }, () => `nothing ties ${id} to anyone`);
}
