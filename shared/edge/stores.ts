// The stores that the publisher writes: one a CDN provider, and the vault that they are filled from. Handed in by
// workers/api/compose.ts, or by a test; a third provider is one more of these.

/** One reading of some bytes. */
export interface Opened {
  /** How many there are. */
  readonly bytes: number;
  readonly body: AsyncIterable<Uint8Array>;
}

export interface Content {
  /** Lower-case hex. */
  readonly sha256: string;
  readonly contentType: string;
  /** False: the key is rewritten from time to time, and no cache may hold it. */
  readonly immutable: boolean;
  /** The bytes, from the first one on, each time that it is called. */
  open(): Promise<Opened>;
}

/** Each method throws where the provider does not answer in time, and may be called again. */
export interface ProviderStore {
  readonly name: string;
  /** When it resolves, a read gives these bytes. What was written in part is never read. */
  put(key: string, content: Content): Promise<void>;
  /** Lower-case hex SHA-256 of the bytes that a read gives now; null where there is nothing. */
  digest(key: string): Promise<string | null>;
  /** When it resolves, a read gives nothing; also where nothing stood there. */
  remove(key: string): Promise<void>;
}

/** What was accepted, before any provider has it. */
export interface Vault {
  /** Throws where there is no such object. */
  open(path: string): Promise<Opened>;
  /** What is kept there, without its bytes; null where there is nothing. `sha256`: lower-case hex. Answers within seconds, or throws. */
  find(path: string): Promise<{ readonly sha256: string; readonly bytes: number } | null>;
}
