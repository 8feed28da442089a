// The alarm of whatever identity has an end: SVIDs, authorities. Asked by the API, by `maestro` and by fetchers.

/** A third of its life is left, or less: whoever renews it should have done so. Milliseconds since 1970 UTC. */
export const isNearItsEnd = (fromMs: number, untilMs: number, now: number): boolean =>
  untilMs - now <= (untilMs - fromMs) / 3;
