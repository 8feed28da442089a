// The memory of who holds a key: for half a minute, for so many keys, and never longer because a clock went back.

import { expect, test } from "vitest";
import { CallerMemory, rememberedMsMax } from "./caller-memory.ts";
import type { Caller } from "./caller.ts";

const caller = (principal: string): Caller => ({
  tenant_id: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001",
  tenant: "acme",
  principal_id: principal,
  kind: "person",
  role: "auditor",
  credential: "key",
  fetcher_svids: { registered: false, everywhere: true },
  spiffe_id: null,
  spiffe_domain: null,
});

test("a holder is remembered for thirty seconds after the look-up, and asking makes it no longer", () => {
  const memory = new CallerMemory();
  memory.set("a", caller("p"), 1_000);
  expect(rememberedMsMax).toBe(30_000);
  expect(memory.get("a", 1_000)).toEqual(caller("p"));
  expect(memory.get("a", 30_999)).toEqual(caller("p"));
  expect(memory.get("a", 31_000)).toBeNull();
  expect(memory.get("b", 1_000)).toBeNull();
});

test("a clock that went back makes a holder unknown", () => {
  const memory = new CallerMemory();
  memory.set("a", caller("p"), 100_000);
  expect(memory.get("a", 99_999)).toBeNull();
  expect(memory.get("a", 0)).toBeNull();
});

test("the newest look-up counts, and who is forgotten is unknown", () => {
  const memory = new CallerMemory();
  memory.set("a", caller("p"), 0);
  memory.set("a", caller("q"), 20_000);
  expect(memory.get("a", 40_000)).toEqual(caller("q"));
  memory.forget("a");
  expect(memory.get("a", 40_000)).toBeNull();
});

test("it holds five thousand keys, and forgets the one that was looked up first", () => {
  const memory = new CallerMemory();
  for (let count = 0; count < 5_000; count += 1) memory.set(`k${count}`, caller(`p${count}`), 0);
  memory.set("k0", caller("p0"), 1);
  memory.set("new", caller("new"), 1);
  const known = ["k0", "k1", "k2", "new"].map((key) => memory.get(key, 1)?.principal_id ?? null);
  expect(known).toEqual(["p0", null, "p2", "new"]);
});
