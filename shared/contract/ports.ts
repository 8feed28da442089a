// The ports of shared/: what a room may ask of the platform, handed in by a worker's compose.ts or by a test.

/** Milliseconds since 1970 UTC. Read once a request or alarm, then passed on as a number. */
export type Clock = () => number;

/** `byteCount` (at most 65,536) bytes from a cryptographic source. */
export type Random = (byteCount: number) => Uint8Array<ArrayBuffer>;

export type SqlValue = string | number | null | Uint8Array | ArrayBuffer;

/**
 * A SQLite database with one writer: a Durable Object's storage, or node:sqlite in simulations. Synchronous.
 * Integers come back as numbers, blobs as ArrayBuffer or Uint8Array (wrap with `toBytes`).
 */
export interface Sql {
  exec<Row extends Record<string, SqlValue> = Record<string, SqlValue>>(query: string, ...values: SqlValue[]): Row[];
  /** Runs `work` in one transaction: all of its writes are durable together, or none when it throws. */
  transaction<T>(work: () => T): T;
}

/**
 * A bucket of immutable objects (R2, a folder, memory). When `putIfAbsent` resolves, the object is durable.
 * `exists` means that some object was there before under this key: compare digests to know whether it is the same.
 */
export interface Bucket {
  get(key: string): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Lower-case hex SHA-256 of what is stored, or null when nothing is. */
  digest(key: string): Promise<string | null>;
  putIfAbsent(
    key: string,
    bytes: Uint8Array<ArrayBuffer>,
    options: { contentType: string; sha256: string },
  ): Promise<"created" | "exists">;
  /** Up to `limit` (at most 1,000) keys with this prefix in byte order, strictly after `after` when given. */
  list(prefix: string, options: { after?: string; limit: number }): Promise<string[]>;
}

/** One structured log line. `fields` never hold a token, a key or a payload. */
export type Log = (
  level: "debug" | "info" | "warn" | "error",
  message: string,
  fields?: Readonly<Record<string, string | number | boolean | null>>,
) => void;
