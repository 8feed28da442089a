// What came of a refresh for one policy, as `maestro edge fetch` and `serve` tell it.

import type { Verdict } from "../../shared/edge/fetcher-parts.ts";
import { refusalWords, type Refusal } from "../../shared/edge/refusal.ts";
import { parseTargetPath } from "../../shared/edge/tuf.ts";
import { printable } from "../output.ts";

export function rowOf(path: string, verdict: Verdict) {
  const { policy, channel } = parseTargetPath(path) ?? { policy: path, channel: "" };
  const active = verdict.verdict === "expired" ? null : verdict.active;
  const why =
    verdict.verdict === "refused" || verdict.verdict === "expired"
      ? refusalWords(verdict.refusal)
      : verdict.verdict === "behind"
        ? "Every provider that answered is older than what is held, which stays."
        : null;
  return {
    policy,
    channel,
    verdict: verdict.verdict,
    code: verdict.verdict === "refused" || verdict.verdict === "expired" ? verdict.refusal.code : null,
    revision: active?.revision ?? null,
    version: active?.version ?? null,
    sha256: active?.sha256 ?? null,
    from: active?.from ?? null,
    expires_at: verdict.verdict === "expired" ? verdict.since : (active?.expires_at ?? null),
    why,
  };
}

export const deltaLine = ({ code, detail }: Refusal): string =>
  printable(`the whole bundle was fetched, since its delta failed: ${code}: ${detail}`);
