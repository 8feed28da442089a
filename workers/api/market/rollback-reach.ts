// How many installs a rollback would move, for explanations: with the candidates and the checks that the rollback itself
// has, and no plan. Called by action-facts.ts.

import { Problem } from "../../../shared/contract/problems.ts";
import type { PackageState } from "../../../shared/market/package-state.ts";
import { candidates, installsIn } from "../../../shared/market/rollback.ts";
import type { Call } from "../door.ts";
import { readRollback } from "./rollback-package.ts";
import { usableOnce } from "./release-checks.ts";

export interface RollbackReach {
  readonly can_go_back: number;
  readonly barred_way: string | null;
}

type ReachCall = Pick<Call, "parts" | "caller">;

export async function rollbackReach(
  call: ReachCall,
  name: string,
  version: string | null,
  installName: string | null,
): Promise<RollbackReach> {
  const { state, earlier, scope } = await readRollback(call, name, version, installName);
  if (installName !== null && !state.installs.some((install) => install.name === installName))
    throw new Problem("not_found", `There is no install of that name of ${name}.`);
  if (scope === null) return { can_go_back: 0, barred_way: null };
  const usable = usableOnce(call);

  /** The first release that each install could go to, of those that can; `bars` are the ones that count. */
  async function reached(bars: PackageState["bars"]): Promise<string[]> {
    const found: string[] = [];
    const asked = { scope: scope!, rule: "rollback" } as const;
    for (const install of installsIn(state, asked.scope)) {
      for (const release of candidates({ ...state, bars }, install, earlier.get(install.id) ?? [], asked)) {
        if (!(await usable(release.release_id))) continue;
        found.push(release.version);
        break;
      }
    }
    return found;
  }

  // That the version asked for is barred is told by a rule of its own.
  const within = await reached(state.bars.filter((bar) => bar.version !== version));
  // A rollout is taken back also where none of its cohort is on it, or can leave it.
  const ends = scope.kind === "release" && state.rollout !== null ? 1 : 0;
  const count = Math.max(within.length, ends);
  if (count > 0 || version !== null) return { can_go_back: count, barred_way: null };
  return { can_go_back: 0, barred_way: (await reached([]))[0] ?? null };
}
