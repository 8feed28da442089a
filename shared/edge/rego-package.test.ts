// Packages as people declare them, and what only looks like one.

import { expect, test } from "vitest";
import { regoPackage } from "./rego-package.ts";

test.each([
  ["package a", ["a"]],
  ["package a.b_c.D2\n", ["a", "b_c", "D2"]],
  ["\n\n# package wrong\n  # more\npackage a.b # why\nallow := true", ["a", "b"]],
  ['package a["b.c/d"].e\r\nimport rego.v1', ["a", "b.c/d", "e"]],
  ["package a; x := 1", ["a"]],
])("%j declares its package", (source, path) => expect(regoPackage(source)).toEqual(path));

test.each([
  "",
  "# package a",
  "allow := true",
  "packagea",
  "package",
  "package\na",
  "package a.",
  "package a b",
  "package a[b]",
  'package a["b',
  'package a["\\q"]',
  "import rego.v1\npackage a",
  "\u{feff}package a",
])("%j declares none", (source) => expect(regoPackage(source)).toBeNull());
