// Which SPIFFE IDs a tenant may register. Pure; called by POST /api/identity/workloads. That a caller's ID is within the same bounds is
// decided again at each call, by policy/rego/spiffe_check.rego.

import { roleNames, type Role } from "../contract/names.ts";
import { checkedNow, refuse, type Checked } from "./refusal.ts";
import { spiffeIdOf, type SpiffeId } from "./spiffe-id.ts";

export const registrableId = (text: string): Checked<SpiffeId> =>
  checkedNow(() => {
    const id = spiffeIdOf(text);
    if (id.path === "") refuse("SPIFFE-ID 2.2", "a workload's ID has a path");
    return id;
  });

/** Null: the tenant may. Otherwise why not, a sentence. `shared`: the ID's trust domain is one that tenants share. */
export function whyNotRegistered({ path }: SpiffeId, shared: boolean, tenant: string, role: Role): string | null {
  if (!shared) return null;
  const below = `/tenant/${tenant}/`;
  if (!path.startsWith(below)) return `In a trust domain that tenants share, this tenant's IDs are below ${below}.`;
  const [named] = path.slice(below.length).split("/");
  const other = roleNames.find((name) => name === named && name !== role);
  return other === undefined ? null : `The ID names the role ${other}, and is to be registered with the role ${role}.`;
}
