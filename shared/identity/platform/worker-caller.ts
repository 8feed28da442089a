// The platform's worker as a caller: has SVIDs of its own, renews them in time, and puts one on each call to another worker. One an
// isolate, made by a worker's compose.ts.
//
// An SVID is kept until half of its life is left, or until another key of the authority signs; then one request has it renewed
// behind its back, while the others go on with it. With a third left, after a pause, one request renews it before it goes on. No
// request waits for another one's renewal (held-bundle.ts says why).
//
// Before the first call with an SVID the callee shows one of its own; only then is any argument sent. What happens at each await
// that fails: the authority is down → with an SVID that holds still nothing is noticed, without one the call is refused as
// `unavailable`, and nothing was sent; the callee refuses the SVID → it did nothing, so another SVID is taken and the call
// repeated, once; the callee's method throws → that goes on, and nothing is repeated.

import type { Clock } from "../../contract/ports.ts";
import type { Signer } from "../../signing/keys.ts";
import { verifyJwtSvid } from "../jwt-svid.ts";
import { isNearItsEnd } from "../near-its-end.ts";
import { writeAttestation } from "./attestation.ts";
import { svidLifeMs } from "./authority.ts";
import type { HeldBundle } from "./held-bundle.ts";
import { platformId, type PlatformWorker } from "./names.ts";
import type { GuardedService, Introduction, Issued, WorkerRefusal } from "./service.ts";
import { kidOfToken } from "./worker-door.ts";

/** Who renews has so long, before somebody else may. */
const renewalMsMax = 5_000;
/** An SVID with less left is not sent: the callee's clock may be ahead, and the call takes its time. */
const leftMsMin = 5_000;
const attemptsMax = 2;

/** The call was refused, and nothing was done. The message says by whom and why; it holds no token. */
export class WorkerCallRefused extends Error {
  override readonly name = "WorkerCallRefused";
  readonly code: WorkerRefusal["code"];

  constructor(code: WorkerRefusal["code"], message: string) {
    super(message);
    this.code = code;
  }
}

/** How a worker gets its SVIDs: over the authority's entrypoint, or in its own script. */
export type AskForSvid = (audience: PlatformWorker) => Promise<Issued>;

export const askAuthority =
  (
    {
      clock,
      trustDomain,
      self,
    }: { readonly clock: Clock; readonly trustDomain: string; readonly self: PlatformWorker },
    signer: () => Promise<Signer>,
    authority: { issue(attestation: string): Promise<Issued> },
  ): AskForSvid =>
  async (audience) =>
    authority.issue(await writeAttestation(await signer(), trustDomain, { self, audience }, clock()));

export interface WorkerCallerParts {
  readonly self: PlatformWorker;
  readonly trustDomain: string;
  readonly clock: Clock;
  readonly held: HeldBundle;
  readonly askForSvid: AskForSvid;
  /** Lets work go on after the answer. It never rejects. */
  readonly later: (work: Promise<unknown>) => void;
}

interface OwnSvid {
  readonly token: string;
  readonly kid: string | null;
  readonly issuedAtMs: number;
  readonly untilMs: number;
}

/** What is known of an identity that was shown. */
export interface ShownIdentity {
  readonly spiffe_id: string;
  readonly kid: string | null;
  readonly issued_at_ms: number;
  readonly until_ms: number;
}

export class WorkerCaller {
  readonly #parts: WorkerCallerParts;
  readonly #svids = new Map<PlatformWorker, OwnSvid>();
  readonly #renewingSinceMs = new Map<PlatformWorker, number>();
  /** Callees that showed an SVID of their own, by the token that was shown to them. */
  readonly #introduced = new Map<PlatformWorker, string>();

  constructor(parts: WorkerCallerParts) {
    this.#parts = parts;
  }

  /** An SVID of this worker for `audience`. Throws WorkerCallRefused. */
  async svid(audience: PlatformWorker): Promise<string> {
    const { clock, held } = this.#parts;
    const now = clock();
    const own = this.#svids.get(audience);
    // It says which key signs.
    held.keepFresh();
    if (own === undefined || own.untilMs - now < leftMsMin || now < own.issuedAtMs - leftMsMin)
      return (await this.#renew(audience)).token;
    if (!this.#isDue(own, now) || now - (this.#renewingSinceMs.get(audience) ?? -Infinity) < renewalMsMax)
      return own.token;
    this.#renewingSinceMs.set(audience, now);
    // What failed is tried again by the next one, and shows where the SVID ends.
    const renewed = this.#renew(audience).then(
      ({ token }) => token,
      () => own.token,
    );
    if (isNearItsEnd(own.issuedAtMs, own.untilMs, now)) return await renewed;
    this.#parts.later(renewed);
    return own.token;
  }

  /**
   * `callee` over its binding: an object that has whatever methods the callee has, each with an SVID put in front. A refusal
   * throws what `refused` makes of it.
   */
  service(callee: PlatformWorker, binding: GuardedService, refused: (error: WorkerCallRefused) => Error): object {
    const call = async (method: string, given: readonly unknown[]): Promise<unknown> => {
      try {
        return await this.#call(callee, binding, method, given);
      } catch (error) {
        throw error instanceof WorkerCallRefused ? refused(error) : error;
      }
    };
    return new Proxy(Object.freeze({}), {
      // Not to be taken for a promise.
      get: (_, name) =>
        typeof name !== "string" || name === "then" ? undefined : (...given: unknown[]) => call(name, given),
    });
  }

  /** What this isolate presents to `audience` now; null: nothing yet. */
  shown(audience: PlatformWorker): ShownIdentity | null {
    const own = this.#svids.get(audience);
    if (own === undefined) return null;
    const spiffe_id = platformId(this.#parts.trustDomain, this.#parts.self).uri;
    return { spiffe_id, kid: own.kid, issued_at_ms: own.issuedAtMs, until_ms: own.untilMs };
  }

  /** Who the callee shows to be now, verified, and the kids that it believes. Throws WorkerCallRefused. */
  async introduction(
    callee: PlatformWorker,
    binding: GuardedService,
  ): Promise<ShownIdentity & Pick<Introduction, "holds">> {
    return await this.#withSvid(callee, (token) => this.#introduce(callee, binding, token));
  }

  #isDue({ issuedAtMs, untilMs, kid }: OwnSvid, now: number): boolean {
    const active = this.#parts.held.known?.active;
    return untilMs - now <= (untilMs - issuedAtMs) / 2 || (active !== undefined && kid !== active);
  }

  async #renew(audience: PlatformWorker): Promise<OwnSvid> {
    const askedAt = this.#parts.clock();
    let issued: Issued;
    try {
      issued = await this.#parts.askForSvid(audience);
    } catch (error) {
      throw new WorkerCallRefused(
        "unavailable",
        `the authority of the platform's workers did not answer: ${said(error)}`,
      );
    }
    if (!issued.ok) throw new WorkerCallRefused("unavailable", `the authority gives no SVID: ${issued.reason}`);
    const own = { token: issued.svid, kid: kidOfToken(issued.svid), issuedAtMs: askedAt, untilMs: issued.until_ms };
    const known = this.#svids.get(audience);
    if (known === undefined || known.untilMs <= own.untilMs) this.#svids.set(audience, own);
    this.#renewingSinceMs.delete(audience);
    return own;
  }

  async #call(
    callee: PlatformWorker,
    binding: GuardedService,
    method: string,
    given: readonly unknown[],
  ): Promise<unknown> {
    return await this.#withSvid(callee, async (token) => {
      if (this.#introduced.get(callee) !== token) await this.#introduce(callee, binding, token);
      return valueOf(callee, await binding.call(token, method, given));
    });
  }

  /** `work` with an SVID; with another one where the callee refused that. */
  async #withSvid<T>(callee: PlatformWorker, work: (token: string) => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      const token = await this.svid(callee);
      try {
        return await work(token);
      } catch (error) {
        if (!(error instanceof WorkerCallRefused) || error.code !== "svid_refused" || attempt >= attemptsMax)
          throw error;
        if (this.#svids.get(callee)?.token === token) this.#svids.delete(callee);
      }
    }
  }

  async #introduce(
    callee: PlatformWorker,
    binding: GuardedService,
    token: string,
  ): Promise<ShownIdentity & Pick<Introduction, "holds">> {
    const { self, trustDomain, clock, held } = this.#parts;
    const shown = valueOf(callee, await binding.call(token, "introduce", [])) as Introduction;
    const doubt = (reason: string) =>
      new WorkerCallRefused("unavailable", `${callee} does not prove who it is: ${reason}`);
    if (typeof shown.svid !== "string") throw doubt("it shows no SVID");
    const kid = kidOfToken(shown.svid);
    let { bundle } = await this.#bundle();
    if (kid !== null && !bundle.jwtKeys.has(kid)) ({ bundle } = await held.newest());
    const audience = platformId(trustDomain, self).uri;
    const checked = await verifyJwtSvid(shown.svid, bundle, { audience, now: clock() });
    if (!checked.ok) throw doubt(`${checked.refusal.reason} (${checked.refusal.section})`);
    const { id, untilMs } = checked.value;
    if (id.uri !== platformId(trustDomain, callee).uri) throw doubt(`its SVID is of ${id.uri}`);
    this.#introduced.set(callee, token);
    return { spiffe_id: id.uri, kid, issued_at_ms: untilMs - svidLifeMs, until_ms: untilMs, holds: [...shown.holds] };
  }

  async #bundle(): ReturnType<HeldBundle["get"]> {
    try {
      return await this.#parts.held.get();
    } catch (error) {
      throw new WorkerCallRefused(
        "unavailable",
        `the authority of the platform's workers gives no bundle: ${said(error)}`,
      );
    }
  }
}

function valueOf(callee: PlatformWorker, answer: Awaited<ReturnType<GuardedService["call"]>>): unknown {
  if (answer.ok) return answer.value;
  throw new WorkerCallRefused(answer.refusal.code, `${callee} refuses the call: ${answer.refusal.reason}`);
}

const said = (error: unknown): string => (error instanceof Error ? error.message.slice(0, 200) : "");
