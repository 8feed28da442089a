// The door of a worker that others call over a service binding: no method without an SVID of a worker that may call it. Held by
// the entrypoints' compose; each entrypoint has the one method `call`, which comes here.
//
// Who may call what is the Rego's (shared/policy/worker-calls.ts). A refusal comes before anything was done, so that the caller may
// take another SVID and repeat. What happens at each await that fails:
//   the bundle: authority down, none held      `unavailable`, nothing done
//   the bundle: authority down, one held       as ever, until the lease is over
//   the SVID: its key is not in the bundle     the newest bundle is asked for, once; then `svid_refused`
//   `introduce`: no SVID of its own            `unavailable`
//   the method                                 what it throws goes to the caller, as if there were no door

import type { Clock } from "../../contract/ports.ts";
import { JwtSvidCache, type KnownJwtSvid } from "../jwt-svid-cache.ts";
import type { Checked } from "../refusal.ts";
import { platformId, type PlatformWorker } from "./names.ts";
import type { HeldBundle } from "./held-bundle.ts";
import type { Introduction, WorkerAnswer, WorkerRefusal } from "./service.ts";

/** SVIDs of workers that are kept once they were verified: there are as many as isolates call. */
const svids = { entriesMax: 1_000, bytesMax: 1_048_576 };

export interface WorkerDoorParts {
  readonly self: PlatformWorker;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly held: HeldBundle;
  readonly decide: (input: {
    readonly callee: string;
    readonly method: string;
    readonly spiffe_id: string;
    readonly trust_domain: string;
  }) => { readonly allow: true } | { readonly allow: false; readonly reason: string };
  /** An SVID of this worker that the worker of that ID takes. */
  readonly ownSvid: (audience: PlatformWorker) => Promise<string>;
}

const refused = (code: WorkerRefusal["code"], reason: string): WorkerAnswer => ({
  ok: false,
  refusal: { code, reason },
});

export class WorkerDoor {
  readonly #parts: WorkerDoorParts;
  #known: JwtSvidCache | null = null;

  constructor(parts: WorkerDoorParts) {
    this.#parts = parts;
  }

  /** `target`: an instance of a class whose methods are what can be called, and nothing else of it. */
  async call(svid: unknown, method: unknown, given: unknown, target: object): Promise<WorkerAnswer> {
    const { self, trustDomain, decide } = this.#parts;
    if (typeof svid !== "string" || svid === "") return refused("svid_refused", "the call has no SVID");
    const checked = await this.#verify(svid);
    if ("code" in checked) return { ok: false, refusal: checked };
    if (!checked.ok) return refused("svid_refused", `${checked.refusal.reason} (${checked.refusal.section})`);
    const { id } = checked.value;
    if (typeof method !== "string" || !Array.isArray(given)) return refused("denied", "the call names no method");
    const decision = decide({ callee: self, method, spiffe_id: id.uri, trust_domain: trustDomain });
    if (!decision.allow) return refused("denied", decision.reason);
    if (method === "introduce") return await this.#introduce(id.path);
    const found = methodOf(target, method);
    if (found === null) return refused("denied", `${self} has no method ${method}`);
    return { ok: true, value: await found.apply(target, given as unknown[]) };
  }

  /** Made when the first call comes: a worker without a trust domain refuses calls, and does all else. */
  get #svids(): JwtSvidCache {
    const { trustDomain, self } = this.#parts;
    return (this.#known ??= new JwtSvidCache(platformId(trustDomain, self).uri, svids));
  }

  async #verify(svid: string): Promise<Checked<KnownJwtSvid> | WorkerRefusal> {
    const { clock, held } = this.#parts;
    try {
      const { bundle } = await held.get();
      const verified = await this.#svids.verify(svid, bundle, clock());
      const kid = kidOfToken(svid);
      if (verified.ok || kid === null || bundle.jwtKeys.has(kid)) return verified;
      return await this.#svids.verify(svid, (await held.newest()).bundle, clock());
    } catch (error) {
      return { code: "unavailable", reason: `the authority of the platform's workers gives no bundle: ${said(error)}` };
    }
  }

  async #introduce(callerPath: string): Promise<WorkerAnswer> {
    const caller = callerPath.slice(callerPath.lastIndexOf("/") + 1) as PlatformWorker;
    try {
      const svid = await this.#parts.ownSvid(caller);
      const value: Introduction = { svid, holds: [...(await this.#parts.held.get()).bundle.jwtKeys.keys()] };
      return { ok: true, value };
    } catch (error) {
      return refused("unavailable", `${this.#parts.self} has no SVID of its own now: ${said(error)}`);
    }
  }
}

const said = (error: unknown): string => (error instanceof Error ? error.message.slice(0, 200) : "");

/** Of the class itself: what objects have from elsewhere is no method of a worker. */
function methodOf(target: object, name: string): ((...given: unknown[]) => unknown) | null {
  if (!methodNames(target).includes(name)) return null;
  return (target as Record<string, (...given: unknown[]) => unknown>)[name] ?? null;
}

export const methodNames = (target: object): string[] =>
  Object.getOwnPropertyNames(Object.getPrototypeOf(target)).filter((name) => name !== "constructor");

/** Nothing is verified by this: it tells which key a token says that it is of. */
export function kidOfToken(token: string): string | null {
  const [header = ""] = token.split(".", 1);
  try {
    const value: unknown = JSON.parse(atob(header.replaceAll("-", "+").replaceAll("_", "/")));
    const kid = (value as { kid?: unknown } | null)?.kid;
    return typeof kid === "string" ? kid : null;
  } catch {
    return null;
  }
}
