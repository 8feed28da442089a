// Crashes on purpose: ports whose n-th call fails, before its effect or after it. For recovery tests: run a flow with a
// crash at 0, 1, 2, … until none happens any more, and look at what stands where each time.

export class Crash extends Error {
  override readonly name = "Crash";
}

export interface CrashPlan {
  /** Which call crashes, counted from 0 over all ports of this plan. */
  readonly at: number;
  readonly when: "before" | "after";
  calls: number;
  crashed: boolean;
}

export const crashPlan = (at: number, when: CrashPlan["when"]): CrashPlan => ({ at, when, calls: 0, crashed: false });

/** The same port, with every method counted. A crash comes as a rejected promise. */
export function crashing<T extends object>(port: T, plan: CrashPlan): T {
  return new Proxy(port, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      return async (...args: unknown[]): Promise<unknown> => {
        const call = plan.calls;
        plan.calls += 1;
        if (call === plan.at && plan.when === "before") crash(plan, name);
        const result: unknown = await (member as (...given: unknown[]) => unknown).apply(target, args);
        if (call === plan.at && plan.when === "after") crash(plan, name);
        return result;
      };
    },
  });
}

function crash(plan: CrashPlan, name: string | symbol): never {
  plan.crashed = true;
  throw new Crash(`at call ${plan.at}, ${plan.when} ${String(name)}`);
}
