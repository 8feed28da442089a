// Who has PQL 1.2: asked once in five seconds, and only where the query needs to know.

import { expect, test } from "vitest";
import type { FlagList } from "../../shared/contract/http-flags.ts";
import { Problem } from "../../shared/contract/problems.ts";
import { parsePql } from "../../shared/pql/parse.ts";
import { PqlError } from "../../shared/pql/pql-error.ts";
import { FlagMemory } from "./flag-memory.ts";
import { requireGrammar, type GrammarParts } from "./pql-grammar.ts";

const query = "FIND events TOP 3 BY type";
const requireOf = (parts: GrammarParts, text: string): Promise<void> =>
  requireGrammar(parts, "t", parsePql(text), text);

function world() {
  const state = { now: 0, isOn: true, isThere: true, asked: 0 };
  const flagsOf = (): FlagList => ({
    flags: [{ flag: "pql_v1_2", enabled: state.isOn, off_means: "", changed_at: null, changed_by: null }],
  });
  const parts: GrammarParts = {
    clock: () => state.now,
    pqlGrammar: new FlagMemory(),
    entitlements: () => ({
      flags: () => {
        state.asked += 1;
        return Promise.resolve(state.isThere ? { state: "known", flags: flagsOf() } : { state: "unavailable" });
      },
    }),
  };
  return { state, parts };
}

test("a query of PQL 1.1 asks for no flag", async () => {
  const { state, parts } = world();
  state.isThere = false;
  await requireOf(parts, "FIND events SINCE 1h");
  expect(state.asked).toBe(0);
});

test("a switch is seen within five seconds, and the flag is read once in that time", async () => {
  const { state, parts } = world();
  for (let count = 0; count < 9; count += 1) await requireOf(parts, query);
  expect(state.asked).toBe(1);
  state.isOn = false;
  state.now = 4_999;
  await requireOf(parts, query);
  state.now = 5_000;
  await expect(requireOf(parts, query)).rejects.toThrow(PqlError);
  state.isOn = true;
  await expect(requireOf(parts, query)).rejects.toThrow(PqlError);
  state.now = 10_000;
  await requireOf(parts, query);
  expect(state.asked).toBe(3);
});

test("where the flag cannot be read the question is refused as unavailable, and asked anew", async () => {
  const { state, parts } = world();
  state.isThere = false;
  await expect(requireOf(parts, query)).rejects.toThrow(Problem);
  state.isThere = true;
  await requireOf(parts, query);
  expect(state.asked).toBe(2);
});

test("the memory holds a thousand tenants and forgets the one that was read first", () => {
  const memory = new FlagMemory();
  for (let count = 0; count < 1_000; count += 1) memory.set(`t${count}`, true, count);
  memory.set("t0", false, 1_000);
  memory.set("new", true, 1_000);
  expect([memory.get("t0", 1_000), memory.get("t1", 1_000), memory.get("t2", 1_000)]).toEqual([false, null, true]);
});
