// Day and minute of a moment, in UTC: what run windows are decided on.

import type { Weekday } from "../contract/http-entitlements.ts";

const fromSunday = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] as const satisfies readonly Weekday[];

/** `now` in ms since 1970. */
export function utcClock(now: number): { weekday: Weekday; minute: number } {
  const date = new Date(now);
  return { weekday: fromSunday[date.getUTCDay()]!, minute: date.getUTCHours() * 60 + date.getUTCMinutes() };
}
