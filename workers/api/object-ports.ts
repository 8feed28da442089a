// Objects whose answers a request waits for, each with a bound on how long and a problem of its own where none comes. Made by
// compose.ts.

import type { Log } from "../../shared/contract/ports.ts";
import { Problem, type ProblemCode } from "../../shared/contract/problems.ts";
import type { FleetPort } from "../../shared/edge/fleet-board.ts";
import type { MeterPort } from "../../shared/pql/meter.ts";
import { inTime } from "./in-time.ts";
import { errorFacts } from "./middleware/problem.ts";

/** The board answers within milliseconds; nobody's fetching waits for it. */
const boardTimeoutMs = 2_000;

/** A meter answers within milliseconds; without its answer nothing is read. */
const meterTimeoutMs = 2_000;

interface Awaited {
  readonly who: string;
  readonly timeoutMs: number;
  readonly code: ProblemCode;
  /** The problem's sentence. */
  readonly told: string;
}

const answering =
  (log: Log, tenantId: string, { who, timeoutMs, code, told }: Awaited) =>
  async <T>(answer: Promise<T>): Promise<T> => {
    try {
      return await inTime(answer, timeoutMs, who);
    } catch (error) {
      log("error", `${who} did not answer`, { tenant_id: tenantId, ...errorFacts(error) });
      throw new Problem(code, told);
    }
  };

/** Where the board fails or is late, what is read without it is not told. */
export function fleetPort(stub: FleetPort, log: Log, tenantId: string): FleetPort {
  const answered = answering(log, tenantId, {
    who: "the board of the fleet",
    timeoutMs: boardTimeoutMs,
    code: "edge_board_unavailable",
    told: "The board of the tenant's fleet did not answer. Ask again.",
  });
  return {
    report: (principal, report) => answered(stub.report(principal, report)),
    view: () => answered(stub.view()),
    forget: (principal, instance, intent) => answered(stub.forget(principal, instance, intent)),
  };
}

/** Where the meter fails or is late, a question without a price is not read. */
export function meterPort(stub: MeterPort, log: Log, tenantId: string): MeterPort {
  const answered = answering(log, tenantId, {
    who: "the meter",
    timeoutMs: meterTimeoutMs,
    code: "meter_unavailable",
    told: "The meter of the tenant's questions did not answer. Ask again.",
  });
  return {
    admit: (ask) => answered(stub.admit(ask)),
    observe: (times) => answered(stub.observe(times)),
    timesText: () => answered(stub.timesText()),
  };
}
