// A fix as a person reads it: the words, the API call, and the `maestro` command that makes it. Called where a denial is
// reported and by `maestro market explain`.

import { commandOfCall } from "./call-command.ts";
import type { Fix } from "./failure.ts";
import { printable } from "./output.ts";

/** A `maestro` command that does what the fix says, where there is one. */
export const commandOfFix = (fix: Fix): string | null =>
  fix.method === undefined || fix.path === undefined
    ? null
    : commandOfCall({ method: fix.method, path: fix.path, body: fix.body ?? null });

export function fixLines(fix: Fix): string[] {
  const lines = [`fix: ${printable(fix.words)}`];
  if (fix.method !== undefined && fix.path !== undefined) {
    const body = fix.body === null || fix.body === undefined ? "" : ` ${JSON.stringify(fix.body)}`;
    lines.push(`     ${printable(`${fix.method} ${fix.path}${body}`)}`);
  }
  const command = commandOfFix(fix);
  if (command !== null) lines.push(`     ${command}`);
  return lines;
}
