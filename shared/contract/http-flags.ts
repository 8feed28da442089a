// Wire shapes of a tenant's flags: what may be switched off, and what off means.

import { z } from "@hono/zod-openapi";
import { timestamp } from "./names.ts";

/** Flag → what off means. On unless a tenant's admin says otherwise. What each flag is read by: docs/ARCHITECTURE.md. */
export const flags = {
  market_entitlements: "entitlements are not asked: admins alone may install and run, and each time is in the log",
  market_channels: "stable only: nothing is installed from or upgraded to canary; what runs goes on, rollback works",
  audit_rt_export:
    "periodic export: the log is sealed every two minutes and not at once, links wait for that, packs are version 2 (no proofs, no appendices)",
  pql_v1_2: "PQL 1.1 only: BUCKET BY and TOP are refused, within five seconds; FIND, WHERE and SINCE stay",
  edge_multicdn:
    "one provider: fetchers that are told the API's own address ask the first CDN provider alone; policies go on to all of them",
  spiffe_everywhere:
    "fetchers' keys open again, beside SVIDs, for a tenant that has registered a fetcher's SPIFFE ID; SVIDs go on",
} as const;
export type FlagName = keyof typeof flags;
export const flagNames = Object.keys(flags) as [FlagName, ...FlagName[]];
/** The flags that decisions are made on. The log learns of its own by the event. */
export const decidedFlags = ["market_entitlements", "market_channels"] as const satisfies readonly FlagName[];
/** The flags that bear on a run: a disclosure pack tells how they stood. */
export const runFlags = [...decidedFlags, "audit_rt_export"] as const satisfies readonly FlagName[];
export type FlagFacts = Readonly<Record<(typeof decidedFlags)[number], boolean>>;
export const flagsOn: FlagFacts = { market_entitlements: true, market_channels: true };

export const flagState = z
  .strictObject({
    flag: z.enum(flagNames),
    enabled: z.boolean(),
    off_means: z.string(),
    changed_at: timestamp.nullable().describe("null: never changed, on"),
    changed_by: z.string().nullable(),
  })
  .openapi("FlagState");
export const flagList = z.strictObject({ flags: z.array(flagState) }).openapi("FlagList");
export type FlagList = z.infer<typeof flagList>;
export const flagChange = z.strictObject({ flag: z.enum(flagNames), enabled: z.boolean() }).openapi("FlagChange");
export type FlagChange = z.infer<typeof flagChange>;
