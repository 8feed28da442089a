// Run windows as they are typed, and back again.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { weekdays, type RunWindow } from "../shared/contract/http-entitlements.ts";
import { windowArgument, windowsText, windowText } from "./run-windows.ts";

describe("a run window", () => {
  test.each([
    ["mon-fri 08:00-18:00", ["mon", "tue", "wed", "thu", "fri"], "08:00", "18:00"],
    ["mon,wed 09:00-12:00", ["mon", "wed"], "09:00", "12:00"],
    ["Sat 00:00-24:00", ["sat"], "00:00", "24:00"],
    ["fri-mon 10:00-11:30", ["fri", "sat", "sun", "mon"], "10:00", "11:30"],
    ["mon-tue,sun 10:00-11:00", ["mon", "tue", "sun"], "10:00", "11:00"],
  ])("%s is read", (text, days, from, to) => {
    expect(windowArgument(text)).toEqual({ days, from, to });
  });

  test("over midnight is refused, and told as the two windows that it is", () => {
    expect(() => windowArgument("mon-fri 22:00-06:00")).toThrow(
      'A window that passes midnight is two windows: --window "mon-fri 22:00-24:00" --window "tue-sat 00:00-06:00".',
    );
    expect(() => windowArgument("sun 20:00-00:00")).toThrow('A day ends at 24:00: --window "sun 20:00-24:00".');
    expect(() => windowArgument("sun 10:00-10:00")).toThrow("00:00-24:00");
  });

  test.each(["", "mon", "08:00-18:00", "mon 8-18", "funday 08:00-18:00", "mon- 08:00-18:00", "mon,mon 08:00-09:00"])(
    "%j is refused with how one looks",
    (text) => expect(() => windowArgument(text)).toThrow("mon-fri 08:00-18:00"),
  );

  test("24:30 and 08:60 are no times", () => {
    expect(() => windowArgument("mon 08:00-24:30")).toThrow("a time is HH:MM");
    expect(() => windowArgument("mon 08:60-09:00")).toThrow("a time is HH:MM");
  });

  test("is read back as exactly what was written down, whatever the order of its days", () => {
    const clock = fc
      .tuple(fc.nat(1439), fc.nat(1440))
      .filter(([from, to]) => from < to)
      .map((minutes) =>
        minutes.map((at) => `${String(Math.floor(at / 60)).padStart(2, "0")}:${String(at % 60).padStart(2, "0")}`),
      );
    fc.assert(
      fc.property(fc.shuffledSubarray([...weekdays], { minLength: 1 }), clock, (days, [from = "", to = ""]) => {
        const window: RunWindow = { days, from, to };
        expect(windowArgument(windowText(window))).toEqual(window);
      }),
    );
  });

  test("in a table: several, none, and no constraint differ", () => {
    const window = windowArgument("mon-wed 08:00-18:00");
    expect(windowsText([window, window])).toBe("mon-wed 08:00-18:00; mon-wed 08:00-18:00");
    expect([windowsText([]), windowsText(null)]).toEqual(["never", null]);
  });
});
