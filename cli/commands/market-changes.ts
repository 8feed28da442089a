// `maestro market change`: entitlements that one principal proposes, another approves, and anyone who may can put back.

import type { Command } from "commander";
import type { EntitlementChange } from "../../shared/contract/http-entitlements.ts";
import type { Page } from "../api/client.ts";
import type { ChangeStep } from "../api/entitlements.ts";
import { group, leaf, notePage, paged, type Act } from "../command.ts";
import { rowCells, rowColumns, rowFrom, rowOptions, type RowOptions } from "../entitlement-row.ts";
import type { Session } from "../session.ts";

const exampleId = "chg_01k9x6f6c8a0b1c2d3e4f5g6h7";

export function changeCommands(market: Command, act: Act): void {
  const change = group(market, "change", "changes of entitlements under review");
  rowOptions(
    leaf(change, "propose", {
      summary: "propose an entitlement for another principal to approve",
      more: "What is not given stays as it is now; the --no- options take a constraint away.",
      examples: [
        "maestro market change propose tools/sbom-inventory --channel canary",
        'maestro market change propose tools/sbom-inventory --range ">=1 <2" --reason "2 needs another review"',
      ],
    }),
  ).action(act(propose));
  paged(
    leaf(change, "list", {
      summary: "list changes, newest first",
      examples: ["maestro market change list"],
      isDefault: true,
    }),
  ).action(act(list));
  leaf(change, "show <id>", {
    summary: "show a change: its rows, what they replaced, who did what",
    examples: [`maestro market change show ${exampleId}`],
  }).action(act(show));
  const steps: readonly (readonly [ChangeStep, string])[] = [
    ["approve", "approve a change that someone else proposed"],
    ["reject", "reject a change, or take one's own back"],
    ["apply", "apply an approved change"],
    ["revert", "put back what was there before a change was applied"],
  ];
  for (const [step, summary] of steps) {
    leaf(change, `${step} <id>`, { summary, examples: [`maestro market change ${step} ${exampleId}`] }).action(
      act(take(step)),
    );
  }
}

async function propose(session: Session, name: string, options: RowOptions): Promise<void> {
  const api = await session.api();
  const change = await api.proposeChange(rowFrom(await api.entitlements(), name, options), options.reason);
  tell(session, change);
}

async function list(session: Session, page: Page): Promise<void> {
  const found = await (await session.api()).changes({ limit: page.limit, cursor: page.cursor });
  session.out.result(found, () =>
    session.out.table(
      ["change", "state", "packages", "proposed", "by", "reason"],
      found.changes.map((change) => [
        change.id,
        change.state,
        change.entitlements.map((row) => row.package).join(", "),
        change.proposed_at,
        change.proposed_by,
        change.reason,
      ]),
    ),
  );
  notePage(session, ["market", "change", "list"], page, found.next_cursor);
}

async function show(session: Session, id: string): Promise<void> {
  const change = await (await session.api()).change(id);
  session.out.result(change, () => changeText(session, change));
}

const take =
  (step: ChangeStep) =>
  async (session: Session, id: string): Promise<void> =>
    tell(session, await (await session.api()).stepChange(id, step));

function tell(session: Session, change: EntitlementChange): void {
  session.out.result(change, () => changeText(session, change));
  if (change.state === "proposed")
    session.out.note(`next: an admin who did not propose it decides: maestro market change approve ${change.id}`);
  if (change.state === "approved") session.out.note(`next: maestro market change apply ${change.id}`);
}

function changeText({ out }: Session, change: EntitlementChange): string {
  const step = (name: string, by: string | null, at: string | null): [string, string][] =>
    by === null ? [] : [[name, `${at ?? "-"} by ${by}`]];
  const replaced = change.before?.flatMap(({ entitlement }) => (entitlement === null ? [] : [entitlement])) ?? [];
  const added = change.before?.filter(({ entitlement }) => entitlement === null).length ?? 0;
  return [
    out.record([
      ["change", change.id],
      ["state", change.state],
      ["reason", change.reason === "" ? null : change.reason],
      ...step("proposed", change.proposed_by, change.proposed_at),
      ...step("decided", change.decided_by, change.decided_at),
      ...step("applied", change.applied_by, change.applied_at),
      ...step("reverted", change.reverted_by, change.reverted_at),
    ]),
    "",
    out.table(rowColumns, change.entitlements.map(rowCells)),
    ...(change.before === null
      ? []
      : ["", out.paint.bold(`before (${added} not there)`), out.table(rowColumns, replaced.map(rowCells))]),
  ].join("\n");
}
