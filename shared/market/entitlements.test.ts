import { randomBytes } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import {
  entitlementSet,
  type Entitlement,
  type EntitlementChange,
  type EntitlementSet,
} from "../contract/http-entitlements.ts";
import type { FlagList } from "../contract/http-flags.ts";
import type { EntitlementStore, EntitlementWrite } from "./entitlement-store.ts";
import { doubtMs, EntitlementQueue, type EntitlementPut } from "./entitlements.ts";

/** A store whose reads and writes wait until they are let go, so that a test decides what meets what. */
class SlowStore implements EntitlementStore {
  set: EntitlementSet = { version: 0, entitlements: [] };
  readonly flags: FlagList = { flags: [] };
  reads = 0;
  failReads = false;
  readonly waiting: { kind: "read" | "write"; go: () => void }[] = [];
  slow = false;
  /** What becomes of the next write: committed and answered, or its connection broken. */
  nextWrite: "commits" | "answer lost" | "stale" = "commits";
  stuck: EntitlementWrite | null = null;

  readChange(): Promise<EntitlementChange | null> {
    return Promise.resolve(null);
  }

  async read(): Promise<{ set: EntitlementSet; flags: FlagList }> {
    this.reads += 1;
    const seen = this.set;
    await this.#wait("read");
    if (this.failReads) throw new Error("fetch failed");
    return { set: seen, flags: this.flags };
  }

  async write(write: EntitlementWrite): Promise<boolean> {
    await this.#wait("write");
    if (this.nextWrite === "stale") return false;
    if (this.nextWrite === "answer lost") {
      this.stuck = write;
      throw new Error("Network connection lost");
    }
    if (write.from_version !== this.set.version) return false;
    this.set = entitlementSet.parse(write.answer.response);
    return true;
  }

  /** The transaction whose connection broke commits after all. */
  commitStuck(): void {
    this.set = entitlementSet.parse(this.stuck!.answer.response);
  }

  async letGo(kind: "read" | "write"): Promise<void> {
    await settle();
    this.waiting
      .splice(
        this.waiting.findIndex((one) => one.kind === kind),
        1,
      )[0]!
      .go();
    await settle();
  }

  async #wait(kind: "read" | "write"): Promise<void> {
    if (this.slow) await new Promise<void>((go) => this.waiting.push({ kind, go }));
  }
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 0));
const row = (name: string, channel: "stable" | "canary", allowed: boolean): Entitlement => ({
  package: name,
  channel,
  allowed,
  version_range: null,
  run_windows: null,
  runs_per_day_max: null,
});
const put = (allowed: boolean): EntitlementPut => ({
  upsert: { entitlements: [row("tools/a", "stable", allowed)], reason: "" },
  principal_id: `pri_${"0".repeat(26)}`,
  claim: null,
  if_versions: null,
});

let store: SlowStore;
let now: number;
let queue: EntitlementQueue;
beforeEach(() => {
  store = new SlowStore();
  now = 1_000_000;
  queue = new EntitlementQueue(
    store,
    () => now,
    (count) => new Uint8Array(randomBytes(count)),
  );
});

const allowed = async (): Promise<unknown> => {
  const answer = await queue.check("tools/a");
  return answer.state === "known" ? (answer.entitlement?.allowed ?? null) : answer.state;
};

describe("the cache", () => {
  test("one read serves many checks, at once and one after the other", async () => {
    await Promise.all(Array.from({ length: 20 }, () => allowed()));
    await allowed();
    expect(store.reads).toBe(1);
  });

  test("a check that starts after a put has answered sees it, also if a read began before it", async () => {
    store.slow = true;
    const early = allowed();
    await settle();
    const putting = queue.put(put(true));
    await store.letGo("read");
    await store.letGo("write");
    expect(await putting).toMatchObject({ state: "changed" });
    store.slow = false;
    expect(await allowed()).toBe(true);
    expect(await early).toBe(null);
  });

  test("a read that was under way while a put committed does not fill the cache", async () => {
    await queue.put(put(true));
    store.slow = true;
    const putting = queue.put(put(false));
    await settle();
    // The put has forgotten the cache and is at its write: this check reads the old rows, slowly.
    const during = allowed();
    await settle();
    await store.letGo("write");
    await putting;
    await store.letGo("read");
    expect(await during).toBe(true);
    store.slow = false;
    expect(await allowed()).toBe(false);
  });

  test("after a write whose answer was lost nothing is cached until it can no longer commit", async () => {
    await queue.put(put(true));
    store.nextWrite = "answer lost";
    expect(await queue.put(put(false))).toEqual({ state: "unavailable" });
    expect(await allowed()).toBe(true);
    store.commitStuck();
    expect(await allowed()).toBe(false);
    const before = store.reads;
    await allowed();
    expect(store.reads).toBe(before + 1);
    now += doubtMs;
    await allowed();
    await allowed();
    expect(store.reads).toBe(before + 2);
  });
});

describe("an outage", () => {
  test("answers everyone who waited through it at once", async () => {
    store.slow = true;
    store.failReads = true;
    const puts = Array.from({ length: 10 }, () => queue.put(put(true)));
    await store.letGo("read");
    expect(new Set((await Promise.all(puts)).map(({ state }) => state))).toEqual(new Set(["unavailable"]));
    expect(store.reads).toBe(1);
    store.slow = false;
    store.failReads = false;
    expect(await queue.put(put(true))).toMatchObject({ state: "changed" });
  });

  test("does not let the queue grow without bound", async () => {
    store.slow = true;
    const puts = Array.from({ length: 100 }, () => queue.put(put(true)));
    const refused = (await Promise.all(puts.slice(64))).map(({ state }) => state);
    expect(new Set(refused)).toEqual(new Set(["unavailable"]));
    store.failReads = true;
    await store.letGo("read");
    await Promise.all(puts);
  });
});

test("a write that another writer beat is tried again on what stands there now", async () => {
  await queue.put(put(true));
  store.set = { version: 9, entitlements: [row("tools/b", "canary", true)] };
  expect(await queue.put(put(false))).toMatchObject({
    state: "changed",
    set: { version: 10, entitlements: [{ package: "tools/a", allowed: false }, { package: "tools/b" }] },
  });
});
