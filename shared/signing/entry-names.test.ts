// Names alone; whole archives are in package-archive.test.ts.

import { describe, expect, test } from "vitest";
import { nameRefusal, packageEntriesMax, SeenNames } from "./entry-names.ts";

describe("one name", () => {
  test.each(["main.mjs", "lib/deep/a.b.c", ".hidden", "a b", "(1)[2]", "@scope/x+y,z=~", "n".repeat(255)])(
    "%j may be in a package",
    (name) => expect(nameRefusal(name)).toBeNull(),
  );

  test.each([
    ["", "without a name"],
    ["n".repeat(256), "longer than 255"],
    ["a\0b", "NUL"],
    ["/a", "absolute or foreign"],
    ["c:a", "absolute or foreign"],
    ["a\\b", "absolute or foreign"],
    ["a/../b", "dot segments"],
    ["a//b", "dot segments"],
    ["a/", "dot segments"],
    [".", "dot segments"],
    ["a\tb", "characters other than"],
    ["a\u007f", "characters other than"],
    ["\u212Belvin", "characters other than"],
    ["a*b", "characters other than"],
    ["a?b", "characters other than"],
    ["a./b", "ends with a dot"],
    ["a /b", "ends with a space"],
    [" a", "begins or ends with a space"],
  ])("%j may not", (name, why) => expect(nameRefusal(name)).toContain(why));
});

describe("names one after the other", () => {
  test("a folder may come before or after what it holds, and is not the file of its name", () => {
    const seen = new SeenNames();
    expect(seen.add("lib", "folder")).toBeNull();
    expect(seen.add("lib/a", "file")).toBeNull();
    expect(seen.add("bin/a", "file")).toBeNull();
    expect(seen.add("bin", "folder")).toBeNull();
    expect(seen.add("bin", "folder")).toContain("twice");
    expect(seen.add("lib", "file")).toContain("a file and a folder");
    expect(seen.add("lib/a/b", "file")).toContain("a file and a folder");
  });

  test("names that differ only by case are one name to some systems, wherever in the path they differ", () => {
    const seen = new SeenNames();
    expect(seen.add("Lib/a", "file")).toBeNull();
    expect(seen.add("lib/b", "file")).toContain("differ only by case (Lib, lib)");
    expect(seen.add("Lib/A", "file")).toContain("differ only by case (Lib/a, Lib/A)");
  });

  test("folders count, also those that only a path names", () => {
    const seen = new SeenNames();
    const deep = (at: number): string => `${at}${"/d".repeat(98)}/f`;
    const whole = Math.floor(packageEntriesMax / 100);
    for (let at = 0; at < whole; at += 1) expect(seen.add(deep(at), "file")).toBeNull();
    expect(seen.add(deep(whole), "file")).toContain(`more than ${packageEntriesMax} entries`);
  });
});
