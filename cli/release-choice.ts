// A release as a person names it: its id, or PACKAGE@VERSION. Used by the commands that submit, yank and review releases.

import { InvalidArgumentError } from "commander";
import { idPattern } from "../shared/contract/ids.ts";
import { packageName, version } from "../shared/contract/names.ts";
import type { Api } from "./api.ts";
import { Failure } from "./failure.ts";

export type NamedRelease =
  | { readonly id: string }
  | { readonly id: null; readonly package: string; readonly version: string };

export function releaseArgument(text: string): NamedRelease {
  if (idPattern("release").test(text)) return { id: text };
  const at = text.indexOf("@");
  const name = packageName.safeParse(text.slice(0, Math.max(at, 0)));
  const number = version.safeParse(text.slice(at + 1));
  if (!name.success || !number.success) {
    throw new InvalidArgumentError("A release is its id (rel_…) or PACKAGE@VERSION, like tools/sbom-inventory@1.2.0.");
  }
  return { id: null, package: name.data, version: number.data };
}

/** The id of a release that the caller may see: its own in any state, others' when they are published. */
export const releaseIdOf = async (api: Api, named: NamedRelease): Promise<string> =>
  named.id ?? (await api.release(named.package, { version: named.version })).id;

const pageLimit = 100;

/** The id of a release in the review queue. Throws Failure `not_found` where it is not there. */
export async function queuedIdOf(api: Api, named: NamedRelease): Promise<string> {
  if (named.id !== null) return named.id;
  let cursor: string | null = null;
  do {
    const page = await api.reviews({ limit: pageLimit, cursor: cursor ?? undefined });
    const found = page.releases.find((one) => one.package === named.package && one.version === named.version);
    if (found !== undefined) return found.id;
    cursor = page.next_cursor;
  } while (cursor !== null);
  throw new Failure("not_found", `${named.package}@${named.version} is not in the review queue`, {
    advice: "It may be a draft, decided already, or waiting at another marketplace.",
    command: "maestro market review list",
  });
}
