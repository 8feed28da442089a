// The platform's other workers as the API calls and watches them: each call with an SVID of the API, and what each of them shows of
// itself. Made by compose.ts.

import { Problem } from "../../shared/contract/problems.ts";
import type { Clock, Log } from "../../shared/contract/ports.ts";
import { bundleLeaseMs } from "../../shared/identity/platform/held-bundle.ts";
import type { GuardedService } from "../../shared/identity/platform/service.ts";
import type { WorkerCallRefused } from "../../shared/identity/platform/worker-caller.ts";
import type { WorkerIdentity } from "../../shared/identity/platform/worker-identity.ts";
import { inTime } from "./in-time.ts";
import { errorFacts } from "./middleware/problem.ts";
import type { Parts } from "./parts.ts";
import { WorkerLooks } from "./worker-looks.ts";

/** What a worker's clock may be behind the API's, beyond the lease. */
const leaseMarginMs = 1_000;

/** A worker shows itself within milliseconds; health waits for none that hangs. */
const lookTimeoutMs = 2_000;

const callees = ["audit", "signer", "authority"] as const;

export interface PlatformWorkersParts {
  readonly clock: Clock;
  readonly log: Log;
  readonly trustDomain: string;
  readonly identity: WorkerIdentity;
  readonly bindings: Readonly<Record<(typeof callees)[number], GuardedService>>;
  readonly pause: (ms: number) => Promise<void>;
}

export interface PlatformWorkers {
  readonly audit: Parts["audit"];
  readonly signer: Parts["signer"] & Parts["tufSigner"];
  readonly platform: Parts["platform"];
}

export function platformWorkers(parts: PlatformWorkersParts): PlatformWorkers {
  const { log, bindings, identity } = parts;
  /** Nothing was done: whoever asked may ask again. What exactly was refused is for the log. */
  const refused = (error: WorkerCallRefused): Problem => {
    log("error", "a call between workers was refused", { reason: error.message, code: error.code });
    return new Problem("worker_unavailable", "A worker of the platform cannot prove to another one who it is.");
  };
  const to = (callee: (typeof callees)[number]): object => identity.caller.service(callee, bindings[callee], refused);
  return {
    audit: to("audit") as PlatformWorkers["audit"],
    signer: to("signer") as PlatformWorkers["signer"],
    platform: platform(parts, to("authority") as Parts["platform"]["authority"]),
  };
}

function platform(
  { clock, log, trustDomain, identity, bindings, pause }: PlatformWorkersParts,
  authority: Parts["platform"]["authority"],
): Parts["platform"] {
  const { caller, held } = identity;
  const shows = (name: (typeof callees)[number]) => caller.introduction(name, bindings[name]);
  const looks = new WorkerLooks(clock, async () => {
    try {
      const others = await inTime(Promise.all(callees.map(shows)), lookTimeoutMs, "a worker");
      // Those that were shown to get here: of the oldest of them the end is told.
      const own = callees.map((name) => caller.shown(name)).filter((one) => one !== null);
      return [...own.toSorted((left, right) => left.until_ms - right.until_ms).slice(0, 1), ...others];
    } catch (error) {
      log("error", "a worker does not show who it is", errorFacts(error));
      return null;
    }
  });
  return {
    trustDomain,
    authority,
    bundle: async () => (await held.get()).document,
    shown: () => looks.get(),
    async identities() {
      // The newest first: who has another SVID than of the key that signs takes one then.
      const { bundle } = await held.newest();
      const others = await Promise.all(
        callees.map(async (name) => {
          const { holds, kid } = await shows(name);
          return { name, holds, presents: [kid] };
        }),
      );
      const presents = callees.map((name) => caller.shown(name)?.kid ?? null);
      return [{ name: "api", holds: [...bundle.jwtKeys.keys()], presents }, ...others];
    },
    waitOutLease: () => pause(bundleLeaseMs + leaseMarginMs),
  };
}
