// A fix as a person reads it: the words, the API call, and the `maestro` command that makes it. Called where a denial is
// reported and by `maestro market explain`.

import { commandOfCall, type ApiCall } from "./call-command.ts";
import type { Fix } from "./failure.ts";
import { printable } from "./output.ts";

/** The call that the fix names; null for one in words alone. */
function callOfFix({ method, path, body }: Fix): ApiCall | null {
  if (typeof method !== "string" || typeof path !== "string") return null;
  return { method, path, body: body ?? null };
}

/** A `maestro` command that does what the fix says, where there is one. */
export function commandOfFix(fix: Fix): string | null {
  const call = callOfFix(fix);
  return call === null ? null : commandOfCall(call);
}

export function fixLines(fix: Fix): string[] {
  const lines = [`fix: ${printable(fix.words)}`];
  const call = callOfFix(fix);
  if (call !== null) {
    const body = call.body === null ? "" : ` ${JSON.stringify(call.body)}`;
    lines.push(`     ${printable(`${call.method} ${call.path}${body}`)}`);
  }
  const command = commandOfFix(fix);
  if (command !== null) lines.push(`     ${command}`);
  return lines;
}
