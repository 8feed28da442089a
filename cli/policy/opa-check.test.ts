// `opa check` before a publish, with programs in opa's place.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { testFolder, testHost } from "../testing/host.ts";
import { opaCheck } from "./opa-check.ts";

const bundle = new Uint8Array([31, 139, 8]);

/** A PATH on which `opa` is that shell script; null: on which there is none. */
function pathWith(script: string | null): string {
  const folder = join(testFolder(), "bin");
  mkdirSync(folder);
  if (script !== null) writeFileSync(join(folder, "opa"), `#!/bin/sh\n${script}\n`, { mode: 0o700 });
  return folder;
}
const check = (script: string | null) => opaCheck(testHost({ env: { PATH: pathWith(script) } }), bundle);

test("an opa that finds nothing has passed it, and was given the bundle's bytes", async () => {
  expect(await check('[ "$*" = "check --bundle bundle.tar.gz" ] && exec /usr/bin/test -s bundle.tar.gz')).toBe(
    "passed",
  );
});

test("what opa says is why it is not published, with the way around", async () => {
  const failing = check("echo 'gate.rego:2: rego_parse_error: unexpected eof token' >&2; exit 1");
  await expect(failing).rejects.toThrow("gate.rego:2: rego_parse_error");
});

test("without an opa, or with one that is killed, it was not checked", async () => {
  expect(await check(null)).toBe("no_opa");
  expect(await check("kill -9 $$")).toBe("no_answer");
});
