// Which of a route's media types the caller wants (RFC 9110, section 12.5.1). Called by the door, for routes that declare
// more than one.

import type { RouteConfig } from "@hono/zod-openapi";
import { Problem } from "../../../shared/contract/problems.ts";

/** More is not read: what stands behind it counts as not written. */
const rangesMax = 64;

/** The media types of a route's answer of status 200, the one that is preferred first. */
export function mediaTypesOf(route: RouteConfig): string[] {
  const answer = route.responses[200];
  return answer !== undefined && "content" in answer ? Object.keys(answer.content ?? {}) : [];
}

/**
 * The offered type that the caller likes best; of equals the first. Each type has the weight of the range that names it most
 * exactly, 0 means not this one. Parameters of a range other than `q` are not looked at. Null: none will do.
 */
export function acceptable(header: string | null, offered: readonly string[]): string | null {
  const ranges = rangesOf(header ?? "");
  if (ranges.length === 0) return offered[0] ?? null;
  let best: { readonly type: string; readonly weight: number } | null = null;
  for (const type of offered) {
    const [kind] = type.split("/");
    const range =
      ranges.find(({ name }) => name === type) ??
      ranges.find(({ name }) => name === `${kind}/*`) ??
      ranges.find(({ name }) => name === "*/*");
    const weight = range?.weight ?? 0;
    if (weight > (best?.weight ?? 0)) best = { type, weight };
  }
  return best?.type ?? null;
}

export function acceptableOrThrow(header: string | null, offered: readonly string[]): string {
  const type = acceptable(header, offered);
  if (type !== null) return type;
  throw new Problem("not_acceptable", `This route answers in ${offered.join(", ")}.`, { available: offered });
}

interface Range {
  readonly name: string;
  readonly weight: number;
}

const token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+";
// A space is matched in one place only, so that no header makes this slow.
const parameter = `[ \\t]*;(?:[ \\t]*(${token})=(${token}|"(?:[^"\\\\]|\\\\.)*"))?`;
const element = new RegExp(`[ \\t]*(${token}/${token})((?:${parameter})*)[ \\t]*(?:,|$)|[^,]*(?:,|$)`, "y");

/** What is not a media range, or has no weight that is one, is passed over. */
function rangesOf(header: string): Range[] {
  const ranges: Range[] = [];
  element.lastIndex = 0;
  for (let read = 0; read < rangesMax && element.lastIndex < header.length; read += 1) {
    const [, name, parameters = ""] = element.exec(header) ?? [];
    if (name === undefined) continue;
    let weight: number | null = 1;
    for (const [, key, value = ""] of parameters.matchAll(new RegExp(parameter, "g"))) {
      if (key?.toLowerCase() === "q")
        weight = /^(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)$/.test(value) ? Number(value) : null;
    }
    if (weight !== null) ranges.push({ name: name.toLowerCase(), weight });
  }
  return ranges;
}
