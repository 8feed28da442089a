// `maestro market entitle|entitlements`: what the tenant may install and run, and under which constraints.

import type { Command } from "commander";
import type { EntitlementSet } from "../../shared/contract/http-entitlements.ts";
import type { Api } from "../api.ts";
import type { Page } from "../api/client.ts";
import { group, integerFrom, leaf, notePage, packageArgument, paged, type Act } from "../command.ts";
import { rowCells, rowColumns, rowFrom, rowOptions, type RowOptions } from "../entitlement-row.ts";
import { ApiProblem } from "../failure.ts";
import type { Session } from "../session.ts";

export function entitlementCommands(market: Command, act: Act): void {
  rowOptions(
    leaf(market, "entitle", {
      summary: "allow (or with --deny, forbid) a package, and set constraints on it",
      more: "What is not given stays as it is; the --no- options take a constraint away.",
      examples: [
        "maestro market entitle tools/sbom-inventory",
        "maestro market entitle tools/sbom-inventory --channel canary --if-match 3",
        'maestro market entitle tools/sbom-inventory --range ">=1 <2" --window "mon-fri 08:00-18:00" --runs-per-day 100',
        'maestro market entitle tools/sbom-inventory --window "sat 22:00-24:00" --window "sun 00:00-06:00" --no-range',
        'maestro market entitle tools/sbom-inventory --deny --reason "under review"',
      ],
    }),
  )
    .option(
      "--if-match <version>",
      "only if the entitlements are at this version",
      integerFrom(0, Number.MAX_SAFE_INTEGER),
    )
    .action(act(entitle));
  const entitlements = group(market, "entitlements", "what the tenant may install and run");
  leaf(entitlements, "list", {
    summary: "list the entitlements and their constraints",
    examples: ["maestro market entitlements list", "maestro market entitlements list --json"],
    isDefault: true,
  }).action(act(list));
  paged(
    leaf(entitlements, "history", {
      summary: "list who set which entitlement when and why, newest first",
      examples: ["maestro market entitlements history", "maestro market entitlements history tools/sbom-inventory"],
    }).argument("[package]", "of this package only", packageArgument),
  ).action(act(history));
}

const setTable = (session: Session, set: EntitlementSet): string =>
  [session.out.table(rowColumns, set.entitlements.map(rowCells)), session.out.paint.dim(`version ${set.version}`)].join(
    "\n",
  );

async function list(session: Session): Promise<void> {
  const set = await (await session.api()).entitlements();
  session.out.result(set, () => setTable(session, set));
}

async function entitle(
  session: Session,
  name: string,
  options: RowOptions & { readonly ifMatch?: number },
): Promise<void> {
  const api = await session.api();
  const set = await put(api, name, options);
  session.out.result(set, () => setTable(session, set));
}

/** Read, change, write back what was read; once more where someone else was in between and no version was asked for. */
async function put(
  api: Api,
  name: string,
  options: RowOptions & { readonly ifMatch?: number },
): Promise<EntitlementSet> {
  const attempt = async (): Promise<EntitlementSet> => {
    const set = await api.entitlements();
    return await api.entitle(rowFrom(set, name, options), options.reason, options.ifMatch ?? set.version);
  };
  try {
    return await attempt();
  } catch (error) {
    if (options.ifMatch !== undefined || !(error instanceof ApiProblem) || error.status !== 412) throw error;
    return await attempt();
  }
}

async function history(session: Session, name: string | undefined, page: Page): Promise<void> {
  const found = await (await session.api()).entitlementHistory(name, { limit: page.limit, cursor: page.cursor });
  session.out.result(found, () =>
    session.out.table(
      ["version", "changed", "by", ...rowColumns, "removed", "change", "reason"],
      found.entries.map((entry) => [
        entry.version,
        entry.changed_at,
        entry.principal_id,
        ...rowCells(entry.entitlement),
        entry.removed,
        entry.change_id,
        entry.reason,
      ]),
    ),
  );
  notePage(
    session,
    ["market", "entitlements", "history", ...(name === undefined ? [] : [name])],
    page,
    found.next_cursor,
  );
}
