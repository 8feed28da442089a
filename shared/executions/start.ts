// Starting and finishing a run: the one place where entitlement, decision, budget and row meet. Called by the routes.
//
// What stands where after a crash, at each await of `startRun`:
//   checks                   nothing
//   reserve                  units are held under a lease; no row comes: refunded by the ledger's alarm. A retry with the
//                            same key gets the same reservation and execution id, and holds nothing more
//   insert                   row, event and answer, or none of them; a retry recalls the answer, or inserts
//   after the insert         the outbox has the event; the drain's alarm finds it without a nudge
// and of `finishRun`:
//   read                     nothing
//   end                      row, event and answer, or none of them
//   settle                   the lease ends, Postgres says `ended`: settled by the alarm

import { hex, sha256Hex, utf8 } from "../contract/bytes.ts";
import { canonicalJson, type AuditEvent } from "../contract/events.ts";
import type { Execution, FinishExecution, StartExecution } from "../contract/http-executions.ts";
import { newId } from "../contract/ids.ts";
import type { Install } from "../contract/http-installs.ts";
import { inRange } from "../market/version-range.ts";
import type { Log, Random } from "../contract/ports.ts";
import { Problem } from "../contract/problems.ts";
import type { EntitlementsPort } from "../market/entitlements.ts";
import { errorName } from "../outbox/drain.ts";
import { newEvent } from "../outbox/outbox.ts";
import type { Balance, LedgerPort } from "../privacy/ledger.ts";
import type { ActionFacts, InstallingFact, PrivacyFact } from "../policy/actions.ts";
import type { Decision } from "../policy/decide.ts";
import type { Caller } from "../tenancy/caller.ts";
import { claimDigest, type IdempotencyClaim } from "../tenancy/idempotency.ts";
import { utcClock } from "./utc-clock.ts";
import { endedExecution, finishedEvent, startedEvent, startedExecution } from "./execution.ts";
import type { EndExecution, InsertExecution } from "./store.ts";

export type RunFacts = ActionFacts["execution.start"];

export interface RunParts {
  readonly random: Random;
  readonly log: Log;
  readonly entitlements: EntitlementsPort;
  readonly ledger: LedgerPort;
  readonly policy_sha256: string;
  decide(facts: RunFacts): Promise<Decision>;
  /** What the log is told of the decision that let a run start: its pack carries it. */
  allowedEvent(decision: Decision, facts: RunFacts, executionId: string): Promise<AuditEvent>;
  /** One of the tenant's installs of a package, or null. */
  readInstall(packageName: string, name: string): Promise<InstallToRun | null>;
  /** Runs of the package that started in the UTC day of `now`. */
  runsToday(packageName: string): Promise<number>;
  /** Where nothing is installed: the ways to install it, of an entitlement's range. Not asked otherwise. */
  installing(packageName: string, range: string | null): Promise<readonly InstallingWay[]>;
  /** How many changes would make it an allow. */
  changesNeeded(facts: RunFacts): number;
  insert(row: InsertExecution): Promise<boolean>;
  read(executionId: string): Promise<Execution | null>;
  end(row: EndExecution): Promise<boolean>;
}

export interface RunCall {
  readonly caller: Caller;
  readonly now: number;
  readonly claim: IdempotencyClaim;
  /** What let the call through, to be committed with the events of a change; null where it brings its own. */
  readonly decision: AuditEvent<"mc.policy.decision"> | null;
}

export type Started =
  | { readonly state: "started"; readonly execution: Execution }
  | { readonly state: "denied"; readonly decision: Decision; readonly facts: RunFacts; readonly units: number | null };

export interface InstallToRun {
  readonly install: Install;
  /** Wall time that its release declares. */
  readonly wall_ms: number;
  /** The rollout of the package that is running now. */
  readonly rollout_id: string | null;
}

/** An install that there could be. */
export interface InstallingWay {
  readonly fact: InstallingFact;
  readonly in_range: boolean;
  /** What a run of it would spend. */
  readonly units: number;
}

/** Entitlements may change between the check and the insert: so many times is decided anew. */
const attemptsMax = 3;

export async function startRun(parts: RunParts, call: RunCall, wanted: StartExecution): Promise<Started> {
  for (let attempt = 0; attempt < attemptsMax; attempt += 1) {
    const started = await attemptStart(parts, call, wanted);
    if (started !== null) return started;
  }
  throw unavailable();
}

export type FactsParts = Pick<RunParts, "entitlements" | "readInstall" | "runsToday" | "installing" | "changesNeeded">;

export interface FoundFacts {
  readonly facts: RunFacts;
  readonly installed: InstallToRun | null;
  /** Where nothing is installed: how it is best installed. */
  readonly way: InstallingWay | null;
  readonly entitlement_version: number;
}

/** Everything that a run is decided on but the budget, with the install that would run; null: not known now. */
export async function runFacts(
  parts: FactsParts,
  now: number,
  wanted: Pick<StartExecution, "package" | "install">,
): Promise<FoundFacts | null> {
  const [checked, installed] = await Promise.all([
    parts.entitlements.check(wanted.package),
    parts.readInstall(wanted.package, wanted.install),
  ]);
  if (checked.state === "unavailable") return null;
  const { entitlement, flags, version } = checked;
  const install = installed?.install ?? null;
  const facts: RunFacts = {
    package: wanted.package,
    flags,
    entitlement,
    install_name: wanted.install,
    install: install === null ? null : { channel: install.channel, version: install.version },
    in_range: inRange(install?.version ?? null, entitlement?.version_range ?? null),
    clock: utcClock(now),
    // Counted where it matters: most entitlements have no cap, and their runs need no second look.
    runs_today: (entitlement?.runs_per_day_max ?? null) === null ? 0 : await parts.runsToday(wanted.package),
    privacy: null,
    installing: null,
  };
  const way = installed === null ? await nearestWay(parts, facts) : null;
  return { facts: withWay(facts, way), installed, way, entitlement_version: version };
}

const withWay = (facts: RunFacts, way: InstallingWay | null): RunFacts =>
  way === null ? facts : { ...facts, installing: way.fact, in_range: way.in_range };

/** The way that needs the fewest changes until the run is allowed; stable where both need as many. */
async function nearestWay(
  parts: Pick<RunParts, "installing" | "changesNeeded">,
  facts: RunFacts,
): Promise<InstallingWay | null> {
  const ways = await parts.installing(facts.package, facts.entitlement?.version_range ?? null);
  if (ways.length < 2) return ways[0] ?? null;
  const needed = ways.map((way) => parts.changesNeeded(withWay(facts, way)));
  return ways[needed.indexOf(Math.min(...needed))]!;
}

/** Null: what was decided on had changed, or the lease had run out, by the time of the insert; there is no row. */
async function attemptStart(parts: RunParts, call: RunCall, wanted: StartExecution): Promise<Started | null> {
  const found = await runFacts(parts, call.now, wanted);
  if (found === null) throw unavailable();
  const { facts, installed, entitlement_version: entitlementVersion } = found;
  const decision = await parts.decide(facts);
  if (!decision.allow || installed === null) return { state: "denied", decision, facts, units: null };

  const { install, wall_ms: wallMs } = installed;
  const reserved = await parts.ledger.reserve(call.caller.principal_id, {
    intent: hex(await claimDigest(call.claim)),
    payload_sha256: await sha256Hex(utf8(canonicalJson([wanted, install.artifact_sha256, install.units]))),
    execution_id: newId("execution", call.now, parts.random(10)),
    units: install.units,
  });
  if (reserved.state === "conflict") {
    throw new Problem(
      "idempotency_conflict",
      "Another run was reserved under this key: the body, or the installed release, differs.",
    );
  }
  if (reserved.state === "exceeded") {
    const spent = { ...facts, privacy: privacyFact(reserved.units, reserved.balance) };
    return { state: "denied", decision: await parts.decide(spent), facts: spent, units: reserved.units };
  }

  const execution = startedExecution({
    id: reserved.execution_id,
    install,
    rolloutId: installed.rollout_id,
    wallMs,
    inputSha256: wanted.input_sha256,
    now: call.now,
  });
  const attributes = startedEvent(execution, install.id, entitlementVersion, parts.policy_sha256);
  const inserted = await parts.insert({
    execution,
    install_id: install.id,
    principal_id: call.caller.principal_id,
    entitlement_version: entitlementVersion,
    runs_per_day_max: facts.flags.market_entitlements ? (facts.entitlement?.runs_per_day_max ?? null) : null,
    events: [
      await parts.allowedEvent(decision, facts, execution.id),
      event(parts, call, "mc.execution.started", attributes),
    ],
    claim: call.claim,
    now: call.now,
    admit_until_ms: reserved.admit_until_ms,
  });
  return inserted ? { state: "started", execution } : null;
}

/** What the ledger's refusal says, and the limit that would have had room. */
export const privacyFact = (units: number, balance: Balance): PrivacyFact => ({
  units,
  remaining_units: balance.remaining_units,
  limit_needed_units: balance.spent_units + balance.held_units + units,
  leak_units_per_hour: balance.leak_units_per_hour,
});

/** Ends a run of the caller's tenant, once. Throws `not_found` and `execution_not_running`. */
export async function finishRun(
  parts: Pick<RunParts, "random" | "log" | "ledger" | "read" | "end">,
  call: RunCall,
  executionId: string,
  ending: FinishExecution,
): Promise<Execution> {
  const running = await parts.read(executionId);
  if (running === null) throw new Problem("not_found", "There is no such execution.");
  if (running.status !== "running") throw notRunning(running);
  const ended = endedExecution(running, ending, call.now);
  const done = await parts.end({
    ended,
    event: event(parts, call, "mc.execution.finished", finishedEvent(ended)),
    claim: call.claim,
    now: call.now,
  });
  if (!done) throw notRunning((await parts.read(executionId)) ?? running);
  try {
    await parts.ledger.settle(executionId);
  } catch (error) {
    // The run has ended and is committed; the ledger's alarm settles what this call could not.
    parts.log("warn", "settle was lost, the lease will settle it", {
      execution_id: executionId,
      error: errorName(error),
    });
  }
  return ended;
}

function event<T extends "mc.execution.started" | "mc.execution.finished">(
  parts: Pick<RunParts, "random">,
  call: RunCall,
  type: T,
  attributes: AuditEvent<T>["attributes"],
): AuditEvent<T> {
  const { tenant_id, principal_id } = call.caller;
  const { now, decision } = call;
  return newEvent(
    { tenant_id, principal: principal_id, source: "api", now, random: parts.random, decision },
    type,
    attributes,
  );
}

const unavailable = (): Problem =>
  new Problem("database_unavailable", "The run could not be recorded in time.", { retry_after_s: 1 });

const notRunning = (execution: Execution): Problem =>
  new Problem("execution_not_running", `The execution has ended already: ${execution.status}.`, {
    status_now: execution.status,
  });
