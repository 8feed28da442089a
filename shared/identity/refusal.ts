// Why an identity, or what should prove it, is not believed: the section of the standard that it breaks, and what was seen.
// Thrown and caught inside of shared/identity; callers get it as a value.

export interface Refusal {
  /** `X509-SVID 4.3`, `RFC 5280 4.2.1.9`, `X.690 10.1`: where the rule stands. */
  readonly section: string;
  /** What was seen, a sentence without its full stop. Holds no key material and no token. */
  readonly reason: string;
}

export type Checked<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: Refusal };

class Refused extends Error {
  override readonly name = "Refused";
  readonly refusal: Refusal;

  constructor(refusal: Refusal) {
    super(`${refusal.section}: ${refusal.reason}`);
    this.refusal = refusal;
  }
}

/** Ends the check that it is called in, up to the next `checked`. */
export function refuse(section: string, reason: string): never {
  throw new Refused({ section, reason });
}

/** `work`'s value, or why it was refused. Whatever else it throws goes on. */
export async function checked<T>(work: () => T | Promise<T>): Promise<Checked<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (error) {
    return { ok: false, refusal: refusalIn(error) };
  }
}

/** `checked` for what needs no wait. */
export function checkedNow<T>(work: () => T): Checked<T> {
  try {
    return { ok: true, value: work() };
  } catch (error) {
    return { ok: false, refusal: refusalIn(error) };
  }
}

function refusalIn(error: unknown): Refusal {
  if (error instanceof Refused) return error.refusal;
  throw error;
}
