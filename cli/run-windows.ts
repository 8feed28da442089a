// Run windows as a person writes them, `mon-fri 08:00-18:00` (UTC), and as the API takes them. Used by the entitlement
// commands, and by call-command.ts to write one back.

import { InvalidArgumentError } from "commander";
import { runWindow, weekdays, type RunWindow, type Weekday } from "../shared/contract/http-entitlements.ts";

/** In the place of a window: no window at all, so that nothing may run. */
export const neverWord = "never";

const shape =
  "A window is days and times in UTC, like `mon-fri 08:00-18:00` or `mon,wed 09:00-12:00`; `never` alone is no window.";

export function windowArgument(text: string): RunWindow {
  const matched = /^\s*([a-z,-]+)\s+(\d\d:\d\d)-(\d\d:\d\d)\s*$/i.exec(text);
  if (matched === null) throw new InvalidArgumentError(shape);
  const [, dayWords = "", from = "", to = ""] = matched;
  const days = dayWords.toLowerCase().split(",").flatMap(daysOf);
  if (from >= to) throw new InvalidArgumentError(twoWindows(days, from, to));
  const parsed = runWindow.safeParse({ days, from, to });
  if (!parsed.success) throw new InvalidArgumentError(`${parsed.error.issues[0]?.message ?? "not a window"}. ${shape}`);
  return parsed.data;
}

function daysOf(word: string): Weekday[] {
  const [first, last = first, ...more] = word.split("-").map((name) => weekdays.findIndex((day) => day === name));
  if (first === undefined || last === undefined || first < 0 || last < 0 || more.length > 0) {
    throw new InvalidArgumentError(`A day is one of ${weekdays.join(", ")}, or two of them with a dash. ${shape}`);
  }
  // fri-mon is four days.
  const count = ((last - first + weekdays.length) % weekdays.length) + 1;
  return Array.from({ length: count }, (_, at) => dayAfter(first, at));
}

const dayAfter = (day: number, more: number): Weekday => weekdays[(day + more) % weekdays.length]!;

function twoWindows(days: readonly Weekday[], from: string, to: string): string {
  if (from === to) return `A window that ends when it begins is none; for a whole day write 00:00-24:00. ${shape}`;
  const evening = dayText(days);
  if (to === "00:00") return `A day ends at 24:00: --window "${evening} ${from}-24:00".`;
  const morning = dayText(days.map((day) => dayAfter(weekdays.indexOf(day), 1)));
  return `A window that passes midnight is two windows: --window "${evening} ${from}-24:00" --window "${morning} 00:00-${to}".`;
}

/** The same days in the same order, three and more in a row as a range. */
function dayText(days: readonly Weekday[]): string {
  const words: string[] = [];
  for (let at = 0; at < days.length;) {
    const first = weekdays.indexOf(days[at]!);
    let count = 1;
    while (at + count < days.length && days[at + count] === dayAfter(first, count)) count += 1;
    if (count >= 3) words.push(`${days[at]!}-${days[at + count - 1]!}`);
    else words.push(...days.slice(at, at + count));
    at += count;
  }
  return words.join(",");
}

export const windowText = ({ days, from, to }: RunWindow): string => `${dayText(days)} ${from}-${to}`;

/** `mon-fri 08:00-18:00; sat 09:00-12:00`, `never`, or null where there is no constraint. */
export const windowsText = (windows: readonly RunWindow[] | null): string | null =>
  windows === null ? null : windows.length === 0 ? neverWord : windows.map(windowText).join("; ");
