// Which trust bundle may follow which, of one statement of a trust domain: the one rule for whoever keeps bundles. Asked by the API and
// the edges for what they believe (shared/identity/bundle-state.ts), and by the mirrors for what they put (shared/edge/publisher-mirror.ts).

/** A bundle, as far as its order goes. */
export interface BundleVersion {
  /** `spiffe_sequence`; null: it has none. */
  readonly sequence: number | null;
  /** How many of its domain's authorities were distrusted when it was written. */
  readonly distrusts: number;
  /** Of the document: lower-case hex SHA-256. */
  readonly digest: string;
}

/** What the bundles that came before say of what may follow. */
export interface BundleOrder {
  /** The one of the highest sequence; null: none that had one. */
  readonly newest: (BundleVersion & { readonly sequence: number }) | null;
  /** The most of all. */
  readonly distrusts: number;
}

/** `distrusts`: of before one of them. `sequence`: of before the newest. `changed`: another document under the newest's sequence. */
export type Backwards = "distrusts" | "sequence" | "changed";

/**
 * SPIFFE Trust Domain and Bundle 4.1.1: the sequence rises, and changes with every change. A document without one counts as
 * the newest (SPIFFE Federation 4.2), but does not make a lower one good again. What was distrusted stays so (ADR-1243): neither number
 * falls, and under one sequence the document changes with every distrust, and with nothing else. Null: it may follow.
 */
export function whyBackwards(
  { newest, distrusts: most }: BundleOrder,
  { sequence, distrusts, digest }: BundleVersion,
): Backwards | null {
  if (distrusts < most) return "distrusts";
  if (newest === null || sequence === null || sequence > newest.sequence) return null;
  if (sequence < newest.sequence) return "sequence";
  return digest === newest.digest || distrusts > newest.distrusts ? null : "changed";
}
