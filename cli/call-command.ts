// Which `maestro` command makes a given call of the API: for every fix that a deny or an explanation proposes, and for
// the other changes of the marketplace. Called by fix-lines.ts; one test runs each command and sees that very call.

import type { z } from "zod";
import { entitlementUpsert } from "../shared/contract/http-entitlements.ts";
import { flagChange } from "../shared/contract/http-flags.ts";
import {
  barRequest,
  freezeRequest,
  installRequest,
  pinRequest,
  rollbackRequest,
  upgradeRequest,
} from "../shared/contract/http-installs.ts";
import { channelMove } from "../shared/contract/http-market.ts";
import { privacyBudgetPut } from "../shared/contract/http-privacy.ts";
import { newApiKeyRequest } from "../shared/contract/http-tenancy.ts";
import { printable } from "./output.ts";
import { neverWord, windowText } from "./run-windows.ts";
import { shellLine } from "./shell-words.ts";

export interface ApiCall {
  readonly method: string;
  readonly path: string;
  readonly body: unknown;
}

/** Stands for a package's folder where no call can know which: `maestro market publish DIR`. */
export const folderWord = "DIR";

type Words = readonly string[];
type Rule = (body: unknown) => Words | null;

/** The words of a command, from a body that fits the contract; null for one that does not. */
const from =
  <T>(schema: z.ZodType<T>, words: (body: T, given: Readonly<Record<string, unknown>>) => Words | null): Rule =>
  (body) => {
    const parsed = schema.safeParse(body);
    return parsed.success ? words(parsed.data, body as Readonly<Record<string, unknown>>) : null;
  };

const option = (flag: string, value: string | number | null | undefined): Words =>
  value === null || value === undefined || value === "" ? [] : [flag, String(value)];
const unless = (usual: string, flag: string, value: string): Words => (value === usual ? [] : [flag, value]);
const flagIf = (on: boolean, flag: string): Words => (on ? [flag] : []);

const rules: Readonly<Record<string, Rule>> = {
  "PUT /api/market/entitlements": from(entitlementUpsert, entitleWords),
  "POST /api/market/installs": from(installRequest, (body) => [
    "market",
    "install",
    body.package,
    ...unless("stable", "--channel", body.channel),
    ...unless("default", "--name", body.name),
  ]),
  "POST /api/market/upgrades": from(upgradeRequest, (body) => [
    "market",
    "upgrade",
    body.package,
    ...unless("stable", "--channel", body.channel),
    ...unless("100", "--cohort", String(body.cohort_percent)),
    ...flagIf(body.despite_gate, "--despite-gate"),
    ...option("--reason", body.reason),
  ]),
  "POST /api/market/rollbacks": from(rollbackRequest, (body) => [
    "market",
    "rollback",
    body.package,
    ...option("--to", body.to_version),
    ...option("--install", body.install),
    ...option("--reason", body.reason),
  ]),
  "PUT /api/market/freezes": from(freezeRequest, (body) => [
    "market",
    body.frozen ? "freeze" : "unfreeze",
    body.package,
    ...option("--reason", body.reason),
  ]),
  "PUT /api/market/pins": from(pinRequest, (body) => [
    "market",
    body.pinned ? "pin" : "unpin",
    body.package,
    ...option("--install", body.install),
  ]),
  "PUT /api/market/bars": from(barRequest, (body) => [
    "market",
    body.barred ? "bar" : "unbar",
    body.package,
    body.version,
    ...option("--reason", body.reason),
  ]),
  "POST /api/market/channels": from(channelMove, (body) => [
    "market",
    "promote",
    body.package,
    body.version,
    ...unless("stable", "--channel", body.channel),
    ...flagIf(body.down, "--down"),
  ]),
  // Its body is signed bytes, which no explanation can have.
  "POST /api/market/releases": (body) => (body === null ? ["market", "publish", folderWord] : null),
  "PUT /api/flags": from(flagChange, (body) => ["flags", "set", body.flag, body.enabled ? "on" : "off"]),
  "POST /api/keys": from(newApiKeyRequest, (body) =>
    body.expires_in_days === null
      ? null
      : ["keys", "create", "--role", body.role, ...unless("90", "--expires-in-days", String(body.expires_in_days))],
  ),
  "PUT /api/privacy/budget": from(privacyBudgetPut, (body) => [
    "budget",
    "set",
    "--limit",
    String(body.limit_units),
    "--leak-per-hour",
    String(body.leak_units_per_hour),
  ]),
};

function entitleWords(body: z.infer<typeof entitlementUpsert>, given: Readonly<Record<string, unknown>>): Words | null {
  const [row, ...others] = body.entitlements;
  if (row === undefined || others.length > 0) return null;
  const [named] = given["entitlements"] as readonly Readonly<Record<string, unknown>>[];
  // A constraint that the call does not name is one that the row does not have, so there is nothing to take away.
  const constraint = (member: keyof typeof row, flag: string, values: readonly (string | number)[] | null): Words =>
    values !== null
      ? values.flatMap((value) => option(flag, value))
      : named?.[member] === null
        ? [`--no-${flag.slice(2)}`]
        : [];
  const windows = row.run_windows?.map(windowText) ?? null;
  return [
    "market",
    "entitle",
    row.package,
    "--channel",
    row.channel,
    ...flagIf(!row.allowed, "--deny"),
    ...constraint("version_range", "--range", row.version_range === null ? null : [row.version_range]),
    ...constraint("run_windows", "--window", windows?.length === 0 ? [neverWord] : windows),
    ...constraint("runs_per_day_max", "--runs-per-day", row.runs_per_day_max === null ? null : [row.runs_per_day_max]),
    ...option("--reason", body.reason),
  ];
}

/**
 * The command that makes exactly this call, quoted for a POSIX shell; null where there is none. A text that could not be
 * shown as it is (control characters) has none either: what is shown and what is run must not differ.
 */
export function commandOfCall({ method, path, body }: ApiCall): string | null {
  const rule = rules[`${method} ${path}`];
  const words = rule?.(body) ?? null;
  if (words === null || words.some((word) => printable(word) !== word)) return null;
  return shellLine(["maestro", ...words]);
}
