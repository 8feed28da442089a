// How many installs a rollback would move, for explanations: with the candidates and the checks that the rollback itself
// has, and no plan. Called by action-facts.ts.

import { Problem } from "../../../shared/contract/problems.ts";
import type { PackageState } from "../../../shared/market/package-state.ts";
import { readEarlier } from "../../../shared/market/package-state-store.ts";
import * as releases from "../../../shared/market/release-store.ts";
import { candidates } from "../../../shared/market/rollback.ts";
import type { Call } from "../door.ts";
import { whyUnusable } from "./release-checks.ts";

export interface RollbackReach {
  readonly can_go_back: number;
  readonly barred_way: string | null;
}

type ReachCall = Pick<Call, "parts" | "caller">;

export async function rollbackReach(
  call: ReachCall,
  state: PackageState,
  version: string | null,
  installName: string | undefined,
): Promise<RollbackReach> {
  const installs = state.installs.filter(({ name }) => installName === undefined || name === installName);
  if (installs.length === 0) throw new Problem("not_found", `There is no install of that name of ${state.package}.`);
  const earlier = await readEarlier(call.parts.database, call.caller.tenant_id, state.package);
  const usable = usableOnce(call);
  const asked = { to_version: version, rule: "rollback" } as const;

  /** The first release that each install could go to, of those that can; `bars` are the ones that count. */
  async function reached(bars: PackageState["bars"]): Promise<string[]> {
    const found: string[] = [];
    for (const install of installs) {
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
  if (within.length > 0 || version !== null) return { can_go_back: within.length, barred_way: null };
  return { can_go_back: 0, barred_way: (await reached([]))[0] ?? null };
}

/** Whether a release verifies and its artifact is there; each is looked at once. */
function usableOnce({ parts, caller }: ReachCall): (id: string) => Promise<boolean> {
  const seen = new Map<string, Promise<boolean>>();
  async function look(id: string): Promise<boolean> {
    const release = (await releases.readReleasesById(parts.database, caller.tenant_id, [id])).get(id);
    return release !== undefined && (await whyUnusable(parts, release)) === null;
  }
  return (id) => {
    const known = seen.get(id) ?? look(id);
    seen.set(id, known);
    return known;
  };
}
