// The edge's cache over a store that is slow, full, lying or away.

import { beforeEach, describe, expect, test, vi } from "vitest";
import { sha256Hex, utf8 } from "../../shared/contract/bytes.ts";
import { EdgeCache, sendMsMax, type CacheLimits, type CacheRule, type EdgeStore, type Entry } from "./cache.ts";

const limits: CacheLimits = {
  bytesMax: 1_000,
  entriesMax: 4,
  missingMax: 2,
  objectBytesMax: 600,
  readsMax: 3,
  doubtfulReadsMax: 2,
  // Of the real clock: no test that is not about it may come near it, on however busy a machine.
  readMsMax: 30_000,
  sharedReadMsMax: 40,
};
const hasty: CacheLimits = { ...limits, readMsMax: 80 };
const forGood: CacheRule = { digest: null, freshMs: Infinity, missingMs: 0 };
const forASecond: CacheRule = { digest: null, freshMs: 1_000, missingMs: 1_000 };

let objects: Map<string, Uint8Array>;
let reads: string[];
let outcomes: string[];
let now: number;
/** What a read waits for before the store answers. */
let gate: Promise<unknown>;
/** What the store says of a size; null: the truth. */
let claimed: number | null;
let store: EdgeStore;
let cache: EdgeCache;

beforeEach(() => {
  objects = new Map();
  reads = [];
  outcomes = [];
  now = 1_000_000;
  gate = Promise.resolve();
  claimed = null;
  store = {
    async get(key) {
      reads.push(key);
      await gate;
      const bytes = objects.get(key);
      if (bytes === undefined) return null;
      const body = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(bytes.slice(0, 3));
          controller.enqueue(bytes.slice(3));
          controller.close();
        },
      });
      return { size: claimed ?? bytes.length, body };
    },
  };
  cache = cacheOf(limits);
});

const cacheOf = (bounds: CacheLimits): EdgeCache =>
  new EdgeCache(
    { store, clock: () => now, keepAlive: () => {}, onRead: (outcome) => void outcomes.push(outcome) },
    bounds,
  );

const put = (key: string, size = 100): void => void objects.set(key, utf8(key.padEnd(size, ".")));

test("what was kept without a digest is read again by who knows that it has another one", async () => {
  put("x");
  const right = await sha256Hex(objects.get("x")!);
  objects.set("x", utf8("what a broken store gave once"));
  expect(await cache.read("x", forGood)).toMatchObject({ state: "found", source: "miss" });
  expect(await cache.read("x", { ...forGood, digest: right })).toMatchObject({ state: "corrupt" });
  put("x");
  const healed = await cache.read("x", { ...forGood, digest: right });
  expect(healed).toMatchObject({ state: "found", source: "miss", entry: { etag: `"${right}"` } });
  expect(await cache.read("x", forGood)).toMatchObject({ source: "hit", entry: { etag: `"${right}"` } });
});

test("an object is read once, and then kept with its digest", async () => {
  put("x");
  const first = await cache.read("x", forGood);
  expect(first).toMatchObject({ state: "found", source: "miss" });
  now += 1_000_000_000;
  const second = await cache.read("x", forGood);
  expect(second).toMatchObject({ state: "found", source: "hit" });
  const digest = await sha256Hex(objects.get("x")!);
  expect(second).toMatchObject({ entry: { etag: `"${digest}"`, bytes: objects.get("x") } });
  expect(reads).toEqual(["x"]);
});

test("an answer's age counts from before its read", async () => {
  put("x");
  let answer = (): void => {};
  gate = new Promise<void>((resolve) => (answer = resolve));
  const slow = cache.read("x", forASecond);
  now += 30;
  answer();
  await slow;
  now += 969;
  expect((await cache.read("x", forASecond)).source).toBe("hit");
  now += 1;
  expect((await cache.read("x", forASecond)).source).toBe("miss");
});

test("a slow read that lands behind a newer one does not take its place", async () => {
  put("x");
  let answer = (): void => {};
  gate = new Promise<void>((resolve) => (answer = resolve));
  const slow = cache.read("x", forASecond);
  now += limits.sharedReadMsMax;
  gate = Promise.resolve();
  objects.set("x", utf8("the newer one"));
  const newer = await cache.read("x", forASecond);
  objects.set("x", utf8("the older one"));
  answer();
  await slow;
  const kept = await cache.read("x", forASecond);
  expect([kept.source, kept]).toMatchObject(["hit", { entry: (newer as { entry: object }).entry }]);
});

test("a burst reads the store once", async () => {
  put("x");
  const answers = await Promise.all(Array.from({ length: 50 }, () => cache.read("x", forGood)));
  expect(reads).toEqual(["x"]);
  expect(answers.filter(({ source }) => source === "miss")).toHaveLength(1);
  expect(answers.filter(({ source }) => source === "collapsed")).toHaveLength(49);
});

test("bytes of another digest are refused, and never kept", async () => {
  put("x");
  const rule: CacheRule = { ...forGood, digest: "0".repeat(64) };
  for (let tries = 0; tries < 2; tries += 1) expect((await cache.read("x", rule)).state).toBe("corrupt");
  expect([cache.entries, cache.bytes, outcomes]).toEqual([0, 0, ["corrupt", "corrupt"]]);
  const right = await cache.read("x", { ...forGood, digest: await sha256Hex(objects.get("x")!) });
  expect(right.state).toBe("found");
});

test.each([
  ["longer than the store said", 50, "corrupt"],
  ["shorter than the store said", 150, "unavailable"],
  ["said to be larger than any", 601, "corrupt"],
])("an object that is %s is not served", async (_, size, state) => {
  put("x");
  claimed = size;
  expect((await cache.read("x", forGood)).state).toBe(state);
  expect(cache.entries).toBe(0);
});

describe("what is being sent", () => {
  const mib = 1_048_576;
  const large = (): EdgeCache => {
    const store: EdgeStore = {
      get: async () => ({ size: mib, body: new Blob([new Uint8Array(mib)]).stream() }),
    };
    const parts = { store, clock: () => now, keepAlive: () => {}, onRead: () => {} };
    return new EdgeCache(parts, { ...limits, bytesMax: 2 * mib, objectBytesMax: mib });
  };
  const found = async (from: EdgeCache, key: string): Promise<Entry> => {
    const read = await from.read(key, forGood);
    if (read.state !== "found") throw new Error(read.state);
    return read.entry;
  };

  test("is counted until its reader has it, also once it was put out", async () => {
    const held = large();
    const bodies: ReadableStream<Uint8Array>[] = [];
    for (const key of ["a", "b"]) {
      const entry = await found(held, key);
      bodies.push(held.send(entry, entry.bytes) as ReadableStream<Uint8Array>);
    }
    expect(await held.read("c", forGood)).toMatchObject({ state: "unavailable", why: "busy" });
    expect((await new Response(bodies[0]).arrayBuffer()).byteLength).toBe(mib);
    expect((await held.read("c", forGood)).state).toBe("found");
    await bodies[1]!.cancel();
    expect((await held.read("d", forGood)).state).toBe("found");
    expect(held.bytes).toBeLessThanOrEqual(2 * mib);
  });

  test("to a reader that stands still ends after a bounded time", async () => {
    vi.useFakeTimers();
    try {
      const held = large();
      const [a, b] = [await found(held, "a"), await found(held, "b")];
      const stalled = [a, b].map((entry) => held.send(entry, entry.bytes) as ReadableStream<Uint8Array>);
      const reader = stalled[0]!.getReader();
      await reader.read();
      await vi.advanceTimersByTimeAsync(sendMsMax(mib));
      await expect(reader.read()).rejects.toThrow("too slow");
      expect((await held.read("c", forGood)).state).toBe("found");
    } finally {
      vi.useRealTimers();
    }
  });

  test("and is small goes to the platform whole", async () => {
    put("x");
    const read = await cache.read("x", forGood);
    const { entry } = read as { entry: Entry };
    expect(cache.send(entry, entry.bytes)).toBe(entry.bytes);
  });
});

describe("bounds", () => {
  test("reads that anybody can ask for leave room for the others", async () => {
    let answer = (): void => {};
    gate = new Promise<void>((resolve) => (answer = resolve));
    const doubtful = { ...forASecond, isDoubtful: true };
    const asked = ["a", "b", "c"].map((key) => cache.read(key, doubtful));
    expect(await asked[2]).toMatchObject({ state: "unavailable", why: "busy" });
    put("x");
    const known = cache.read("x", forASecond);
    answer();
    expect((await known).state).toBe("found");
    expect((await Promise.all(asked)).map(({ state }) => state)).toEqual(["missing", "missing", "unavailable"]);
    expect((await cache.read("c", doubtful)).state).toBe("missing");
  });

  test("bytes and entries stay below them, the least used goes first", async () => {
    for (const key of ["a", "b", "c", "d"]) {
      put(key);
      await cache.read(key, forGood);
    }
    await cache.read("a", forGood);
    put("e");
    await cache.read("e", forGood);
    expect(cache.entries).toBe(4);
    reads = [];
    for (const key of ["a", "c", "d", "e"]) expect((await cache.read(key, forGood)).source).toBe("hit");
    put("large", 600);
    await cache.read("large", forGood);
    expect(cache.bytes).toBeLessThanOrEqual(limits.bytesMax);
    expect(reads).toEqual(["large"]);
    expect((await cache.read("a", forGood)).source).toBe("miss");
  });

  test("what is being read has its bytes counted: two large ones at once are one too many", async () => {
    put("one", 600);
    put("two", 600);
    const states = await Promise.all([cache.read("one", forGood), cache.read("two", forGood)]);
    expect(states.map(({ state }) => state).toSorted((left, right) => (left < right ? -1 : 1))).toEqual([
      "found",
      "unavailable",
    ]);
    expect(cache.bytes).toBe(600);
  });

  test("reads at one time are bounded, and what is kept is served all the same", async () => {
    put("kept");
    await cache.read("kept", forGood);
    let answer = (): void => {};
    gate = new Promise<void>((resolve) => (answer = resolve));
    const slow = ["p", "q", "r"].map((key) => cache.read(key, forGood));
    expect(await cache.read("s", forGood)).toMatchObject({ state: "unavailable", why: "busy" });
    expect((await cache.read("kept", forGood)).source).toBe("hit");
    answer();
    await Promise.all(slow);
    expect((await cache.read("s", forGood)).state).toBe("missing");
  });

  test("keys that are missing are remembered for their time, and no more than so many", async () => {
    for (const key of ["a", "b", "c"]) expect((await cache.read(key, forASecond)).source).toBe("miss");
    expect((await cache.read("c", forASecond)).source).toBe("hit");
    expect((await cache.read("a", forASecond)).source).toBe("miss");
    now += 1_000;
    expect((await cache.read("c", forASecond)).source).toBe("miss");
  });
});

describe("a store that does not answer", () => {
  test("is given up after its time, and asked again by the next request", async () => {
    put("x");
    gate = new Promise(() => {});
    const held = cacheOf(hasty);
    expect(await held.read("x", forGood)).toMatchObject({ state: "unavailable", why: "late" });
    gate = Promise.resolve();
    await expect.poll(async () => (await held.read("x", forGood)).state).toBe("found");
  });

  test("is asked by one of many that wait, not by each", async () => {
    gate = new Promise(() => {});
    const clocked = new EdgeCache(
      {
        store: { get: (key) => (reads.push(key), new Promise(() => {})) },
        clock: () => performance.now(),
        keepAlive: () => {},
        onRead: () => {},
      },
      hasty,
    );
    const answers = await Promise.all(Array.from({ length: 50 }, () => clocked.read("x", forGood)));
    expect(answers.every(({ state }) => state === "unavailable")).toBe(true);
    expect(reads.length).toBeLessThanOrEqual(3);
  });

  test("that throws is an answer of its own, and leaves what is kept", async () => {
    put("x");
    await cache.read("x", forASecond);
    gate = Promise.reject(new Error("away"));
    gate.catch(() => {});
    now += 1_000;
    expect(await cache.read("x", forASecond)).toMatchObject({ state: "unavailable", why: "failed" });
    now -= 1_000;
    expect((await cache.read("x", forASecond)).source).toBe("hit");
  });
});
