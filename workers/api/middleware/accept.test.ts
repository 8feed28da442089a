// Accept, as RFC 9110 reads it.

import { describe, expect, test } from "vitest";
import { acceptable } from "./accept.ts";

const offered = ["application/json", "application/x-ndjson", "text/csv"];

describe("of the types that are offered", () => {
  test.each<[string | null, string | null]>([
    [null, "application/json"],
    ["", "application/json"],
    ["*/*", "application/json"],
    ["text/csv", "text/csv"],
    ["TEXT/CSV", "text/csv"],
    ["text/*", "text/csv"],
    ["application/*", "application/json"],
    // Of equals the first that is offered, in whatever order they are asked for.
    ["text/csv, application/json", "application/json"],
    ["text/csv;q=0.9, application/json;q=0.8", "text/csv"],
    ["text/csv; q=0.1, */*; q=0.01", "text/csv"],
    // The most exact range says: JSON alone is not wanted.
    ["application/json;q=0, */*", "application/x-ndjson"],
    ["application/*;q=0.1, application/x-ndjson;q=0.5", "application/x-ndjson"],
    ["text/csv;q=0", null],
    ["image/png", null],
    ["*/*;q=0", null],
    ["application/json, application/problem+json", "application/json"],
    ["text/csv;charset=utf-8;header=present;q=0.5, application/json;q=0.4", "text/csv"],
    ['text/csv;note="a, b; q=0";q=1, application/json;q=0.5', "text/csv"],
    ["text/csv ; q=1.000 ,application/json\t;\tq=0.999", "text/csv"],
    // What is no range is passed over; where nothing is left, nothing was asked for.
    ["nonsense, text/csv", "text/csv"],
    ["text/csv;q=2, application/x-ndjson", "application/x-ndjson"],
    [",, ,text/csv", "text/csv"],
    ["nonsense", "application/json"],
  ])("%s gets %s", (header, type) => {
    expect(acceptable(header, offered)).toBe(type);
  });

  test("none is chosen by what stands behind the 64th range", () => {
    expect(acceptable(`${"image/png,".repeat(64)}text/csv`, offered)).toBeNull();
    expect(acceptable(`${"image/png,".repeat(63)}text/csv`, offered)).toBe("text/csv");
  });

  test("one is chosen in time, whatever the header", () => {
    const started = performance.now();
    for (const part of [" ;", ";a=", '="', "\\", ' ;a="', "/", ",", "; ; "]) {
      for (const end of ["", "x", '"']) acceptable(`text/csv${part.repeat(8_000)}${end}`, offered);
    }
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});
