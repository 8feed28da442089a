// The edge's own cache in front of a provider's store: bounded in bytes, entries and reads under way; a cold burst reads the store
// once; bytes under another digest than their name says are never kept. Made twice by app.ts, for objects and for fetchers.

import { base64, hex, sha256, type Bytes } from "../../shared/contract/bytes.ts";
import type { Clock } from "../../shared/contract/ports.ts";

export interface StoredObject {
  /** In bytes, as the store says it before it sends them. */
  readonly size: number;
  readonly body: ReadableStream<Uint8Array>;
}

/** A provider's own store, as the edge reads it. */
export interface EdgeStore {
  /** Null where nothing is there. Throws where the store does not answer, or refuses; stops when `signal` says so. */
  get(key: string, signal: AbortSignal): Promise<StoredObject | null>;
}

export interface CacheLimits {
  /** Of everything that is kept, being read or being sent. */
  readonly bytesMax: number;
  readonly entriesMax: number;
  /** Keys that are remembered as missing. */
  readonly missingMax: number;
  readonly objectBytesMax: number;
  /** Reads of the store at one time. */
  readonly readsMax: number;
  /** Of them, those whose rule is doubtful: the others are kept free for who is known. */
  readonly doubtfulReadsMax: number;
  readonly readMsMax: number;
  /** How old a read may be that a further request waits for, instead of reading itself. */
  readonly sharedReadMsMax: number;
}

/** How a key is kept. */
export interface CacheRule {
  /** Lower-case hex SHA-256 that the bytes must have; null where the key is not their digest. */
  readonly digest: string | null;
  /** Counted from before the read began; Infinity for what is never rewritten. */
  readonly freshMs: number;
  /** How long it is remembered that nothing is there; 0: not at all. */
  readonly missingMs: number;
  /** Anybody can ask for it, also for what is not there. */
  readonly isDoubtful?: boolean;
}

export interface Entry {
  readonly bytes: Bytes;
  /** The strong tag, with its quotes: the digest in hex. */
  readonly etag: string;
  /** RFC 9530. */
  readonly reprDigest: string;
  /** Ms since 1970, from before the read began. */
  readonly readAt: number;
}

/** How an answer came: from what is kept, from a read of the store, from a read that another request began. */
export type Source = "hit" | "miss" | "collapsed";

export type ReadOutcome =
  | { readonly state: "found"; readonly entry: Entry; readonly source: Source }
  | { readonly state: "missing"; readonly source: Source }
  /** The store did not answer, or too much is being read at once. */
  | { readonly state: "unavailable"; readonly why: "failed" | "late" | "busy"; readonly source: Source }
  /** The store's bytes have another digest, or are too many. */
  | { readonly state: "corrupt"; readonly source: Source };

export interface CacheParts {
  readonly store: EdgeStore;
  readonly clock: Clock;
  /** Has a read go on when the request that began it is gone: others may wait for it. */
  readonly keepAlive: (work: Promise<unknown>) => void;
  /** Told of each read of the store. */
  readonly onRead: (outcome: "found" | "missing" | "failed" | "late" | "corrupt", error: unknown) => void;
}

/** A body of so many bytes goes to the platform whole, and is not counted while it is sent; a larger one goes in pieces. */
export const sentWholeMax = 65_536;
const pieceBytes = 262_144;
/** How long a body may take: half a minute, and a second for each 64 KiB. */
export const sendMsMax = (bytes: number): number => 30_000 + Math.ceil(bytes / 65_536) * 1_000;

/** How many reads of others a request waits for, one after the other, before it gives up. */
const joinsMax = 2;

type Loaded =
  | { readonly state: "found"; readonly entry: Entry }
  | { readonly state: "missing" | "corrupt" }
  | { readonly state: "unavailable"; readonly why: "failed" | "late" | "busy" };

interface Flight {
  readonly startedAt: number;
  readonly outcome: Promise<Loaded>;
}

class CorruptObject extends Error {
  override readonly name = "CorruptObject";
}
class NoRoom extends Error {
  override readonly name = "NoRoom";
}

export class EdgeCache {
  readonly #parts: CacheParts;
  readonly #limits: CacheLimits;
  /** The oldest use first. */
  readonly #entries = new Map<string, Entry>();
  readonly #missing = new Map<string, number>();
  readonly #flights = new Map<string, Flight>();
  /** Bytes that each read under way holds; a read whose request the platform dropped is let go by its age. */
  readonly #reading = new Map<object, { readonly startedAt: number; readonly isDoubtful: boolean; bytes: number }>();
  #kept = 0;
  /** What is being sent, by how many; one whose request the platform dropped is let go by its time. */
  readonly #sending = new Map<Entry, { count: number; until: number }>();

  constructor(parts: CacheParts, limits: CacheLimits) {
    this.#parts = parts;
    this.#limits = limits;
  }

  get bytes(): number {
    return this.#kept;
  }

  get entries(): number {
    return this.#entries.size;
  }

  /** One key of the store, kept by `rule`. Give a key the same times each time; its digest may be known to some readers alone. */
  async read(key: string, rule: CacheRule): Promise<ReadOutcome> {
    const now = this.#parts.clock();
    const entry = this.#entries.get(key);
    // One that was read without a digest to hold it to does not answer who knows the digest, unless it has it.
    const isNamed = ({ etag }: Entry): boolean => rule.digest === null || etag === `"${rule.digest}"`;
    if (entry !== undefined && isNamed(entry) && now - entry.readAt < rule.freshMs) {
      this.#entries.delete(key);
      this.#entries.set(key, entry);
      return { state: "found", entry, source: "hit" };
    }
    if ((this.#missing.get(key) ?? 0) > now) return { state: "missing", source: "hit" };
    for (let joined = 0; joined < joinsMax; joined += 1) {
      const at = this.#parts.clock();
      const flight = this.#flights.get(key);
      // One that takes too long is left to itself: whoever comes first begins another, and the others join that one.
      if (flight === undefined || at - flight.startedAt >= this.#limits.sharedReadMsMax) {
        return { ...(await this.#begin(key, rule, at)), source: "miss" };
      }
      const loaded = await within(flight.outcome, this.#limits.sharedReadMsMax - (at - flight.startedAt));
      if (loaded !== null && (loaded.state !== "found" || isNamed(loaded.entry)))
        return { ...loaded, source: "collapsed" };
    }
    return { state: "unavailable", why: "late", source: "collapsed" };
  }

  /** `bytes` of an entry as a body. A large one is counted until it is sent, given up or out of time, also once it was put out. */
  send(entry: Entry, bytes: Bytes): Bytes | ReadableStream<Uint8Array> {
    if (bytes.length <= sentWholeMax) return bytes;
    const ms = sendMsMax(bytes.length);
    const until = this.#parts.clock() + ms;
    const sending = this.#sending.get(entry) ?? { count: 0, until };
    sending.count += 1;
    sending.until = Math.max(sending.until, until);
    this.#sending.set(entry, sending);
    let timer: ReturnType<typeof setTimeout> | null = null;
    const end = (): void => {
      if (timer === null) return;
      clearTimeout(timer);
      timer = null;
      sending.count -= 1;
      if (sending.count === 0 && this.#sending.get(entry) === sending) this.#sending.delete(entry);
    };
    let at = 0;
    const source = {
      // Read by workerd alone, which sends a Content-Length by it.
      expectedLength: bytes.length,
      start(controller: ReadableStreamDefaultController<Uint8Array>): void {
        timer = setTimeout(() => {
          end();
          controller.error(new Error("the reader is too slow"));
        }, ms);
      },
      pull(controller: ReadableStreamDefaultController<Uint8Array>): void {
        const piece = bytes.subarray(at, at + pieceBytes);
        at += piece.length;
        if (at < bytes.length) return controller.enqueue(piece);
        // The last one is a copy, so that it does not hold all of them while it waits.
        controller.enqueue(piece.slice());
        controller.close();
        end();
      },
      cancel: end,
    };
    return new ReadableStream<Uint8Array>(source, { highWaterMark: 0 });
  }

  /** Bytes of entries that are kept no more and still being sent. */
  #sendingOnly(): number {
    const now = this.#parts.clock();
    const kept = new Set(this.#entries.values());
    let bytes = 0;
    for (const [entry, { until }] of this.#sending) {
      if (now > until) this.#sending.delete(entry);
      else if (!kept.has(entry)) bytes += entry.bytes.length;
    }
    return bytes;
  }

  #begin(key: string, rule: CacheRule, now: number): Promise<Loaded> {
    const outcome = this.#load(key, rule, now);
    const flight: Flight = { startedAt: now, outcome };
    this.#flights.set(key, flight);
    const landed = outcome.then(() => {
      if (this.#flights.get(key) === flight) this.#flights.delete(key);
    });
    this.#parts.keepAlive(landed);
    return outcome;
  }

  async #load(key: string, rule: CacheRule, now: number): Promise<Loaded> {
    const isDoubtful = rule.isDoubtful ?? false;
    if (this.#isFull(isDoubtful)) this.#dropLost(now);
    if (this.#isFull(isDoubtful)) return { state: "unavailable", why: "busy" };
    const reading = { startedAt: now, isDoubtful, bytes: 0 };
    this.#reading.set(reading, reading);
    const stop = new AbortController();
    try {
      const entry = await within(this.#readStore(key, rule, now, reading, stop.signal), this.#limits.readMsMax);
      if (entry === null) {
        this.#parts.onRead("late", null);
        return { state: "unavailable", why: "late" };
      }
      if (entry === "missing") {
        this.#drop(key);
        if (rule.missingMs > 0) this.#rememberMissing(key, now + rule.missingMs);
        this.#parts.onRead("missing", null);
        return { state: "missing" };
      }
      this.#reading.delete(reading);
      this.#keep(key, entry);
      this.#parts.onRead("found", null);
      return { state: "found", entry };
    } catch (error) {
      if (error instanceof NoRoom) return { state: "unavailable", why: "busy" };
      const isCorrupt = error instanceof CorruptObject;
      this.#parts.onRead(isCorrupt ? "corrupt" : "failed", error);
      return isCorrupt ? { state: "corrupt" } : { state: "unavailable", why: "failed" };
    } finally {
      this.#reading.delete(reading);
      stop.abort();
    }
  }

  async #readStore(
    key: string,
    rule: CacheRule,
    now: number,
    reading: { bytes: number },
    signal: AbortSignal,
  ): Promise<Entry | "missing"> {
    const object = await this.#parts.store.get(key, signal);
    if (object === null) return "missing";
    const reader = object.body.getReader();
    try {
      if (object.size > this.#limits.objectBytesMax) throw new CorruptObject("the object is too large");
      this.#makeRoom(object.size);
      reading.bytes = object.size;
      const bytes = new Uint8Array(object.size);
      let at = 0;
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        if (signal.aborted) throw new Error("nobody waits for this read any more");
        if (at + value.length > bytes.length) throw new CorruptObject("the object is longer than the store said");
        bytes.set(value, at);
        at += value.length;
      }
      if (at < bytes.length) throw new Error("the store's answer was cut short");
      const digest = await sha256(bytes);
      const name = hex(digest);
      if (rule.digest !== null && name !== rule.digest) throw new CorruptObject("the bytes have another digest");
      return { bytes, etag: `"${name}"`, reprDigest: `sha-256=:${base64(digest)}:`, readAt: now };
    } catch (error) {
      await reader.cancel().catch(() => undefined);
      throw error;
    }
  }

  /** Puts out the oldest until so many bytes have room. Throws where what is being read and sent fills all of it. */
  #makeRoom(bytes: number): void {
    let busy = this.#sending.size === 0 ? 0 : this.#sendingOnly();
    for (const one of this.#reading.values()) busy += one.bytes;
    for (const [key, entry] of this.#entries) {
      if (this.#kept + busy + bytes <= this.#limits.bytesMax) break;
      // Putting out what is being sent frees nothing.
      if (!this.#sending.has(entry)) this.#drop(key);
    }
    if (this.#kept + busy + bytes > this.#limits.bytesMax) throw new NoRoom("too much is being read or sent");
  }

  #keep(key: string, entry: Entry): void {
    // A slow read that began before the one that is kept.
    if ((this.#entries.get(key)?.readAt ?? 0) > entry.readAt) return;
    this.#drop(key);
    this.#missing.delete(key);
    for (const oldest of this.#entries.keys()) {
      if (this.#entries.size < this.#limits.entriesMax) break;
      this.#drop(oldest);
    }
    this.#entries.set(key, entry);
    this.#kept += entry.bytes.length;
  }

  #drop(key: string): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    this.#kept -= entry.bytes.length;
  }

  #rememberMissing(key: string, until: number): void {
    this.#missing.delete(key);
    this.#missing.set(key, until);
    for (const oldest of this.#missing.keys()) {
      if (this.#missing.size <= this.#limits.missingMax) break;
      this.#missing.delete(oldest);
    }
  }

  #isFull(isDoubtful: boolean): boolean {
    if (this.#reading.size >= this.#limits.readsMax) return true;
    if (!isDoubtful) return false;
    let doubtful = 0;
    for (const reading of this.#reading.values()) if (reading.isDoubtful) doubtful += 1;
    return doubtful >= this.#limits.doubtfulReadsMax;
  }

  #dropLost(now: number): void {
    for (const [id, { startedAt }] of this.#reading) {
      if (now - startedAt > this.#limits.readMsMax * 2) this.#reading.delete(id);
    }
  }
}

/** What `work` comes to, or null where it takes longer. */
async function within<T>(work: Promise<T>, ms: number): Promise<T | null> {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const late = new Promise<null>((resolve) => {
    timer = setTimeout(() => resolve(null), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    if (timer !== null) clearTimeout(timer);
  }
}
