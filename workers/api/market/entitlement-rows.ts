// What is refused of rows of entitlements beyond their shape. Used where they are put and where they are proposed.

import type { Entitlement } from "../../../shared/contract/http-entitlements.ts";
import { Problem } from "../../../shared/contract/problems.ts";

export function eachPackageOnce(rows: readonly Entitlement[]): void {
  if (new Set(rows.map((row) => row.package)).size === rows.length) return;
  throw new Problem("invalid_request", "A package is named twice.", {
    errors: [{ path: "entitlements", message: "each package at most once" }],
  });
}
