// A time as the contract writes it.

/** `at`: milliseconds since 1970 UTC. RFC 3339 in UTC, with milliseconds. */
export const isoTime = (at: number): string => new Date(at).toISOString();
