// The lockfile's check against locks with one thing wrong.

import { expect, test } from "vitest";
import { lockComplaints, type Lock, type Manifest } from "./check-lock.ts";

const manifest: Manifest = { devDependencies: { tool: "1.0.0" }, allowScripts: { tool: true } };
const good: Lock = {
  packages: {
    "": {},
    "node_modules/tool": {
      version: "1.0.0",
      integrity: "sha512-x",
      hasInstallScript: true,
      optionalDependencies: { "tool-linux": "1.0.0" },
    },
    "node_modules/tool/node_modules/tool-linux": { version: "1.0.0", integrity: "sha512-y" },
  },
};
const entry = good.packages["node_modules/tool"]!;

test("a complete lock is not complained of", () => {
  expect(lockComplaints(good, manifest)).toEqual([]);
});

test("a platform package that npm left out is found", () => {
  const { "node_modules/tool/node_modules/tool-linux": _, ...packages } = good.packages;
  expect(lockComplaints({ packages }, manifest)).toEqual([
    "node_modules/tool has the optional dependency tool-linux, which is not in the lockfile",
  ]);
});

test("an entry that names a registry is found", () => {
  const packages = {
    ...good.packages,
    "node_modules/tool": { ...entry, resolved: "https://registry.example/tool.tgz" },
  };
  expect(lockComplaints({ packages }, manifest)).toHaveLength(1);
});

test("an install script that nobody allowed is found", () => {
  expect(lockComplaints(good, { ...manifest, allowScripts: {} })).toHaveLength(1);
});

test("a range is no pin, and a pin is the locked version", () => {
  expect(lockComplaints(good, { ...manifest, devDependencies: { tool: "^1.0.0" } })).toHaveLength(2);
  expect(lockComplaints(good, { ...manifest, devDependencies: { tool: "1.0.1" } })).toHaveLength(1);
});
