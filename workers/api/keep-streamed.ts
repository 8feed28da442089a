// Uploads on their way into a bucket under their digest: checked while they stream, kept whole or not at all. Called by the
// uploads of releases (market/artifacts.ts), of policies (policies/publish-policy.ts) and of their deltas.

import nodeCrypto from "node:crypto";
import { hex } from "../../shared/contract/bytes.ts";
import { Gathered } from "../../shared/contract/gather.ts";

const chunkBytes = 64 * 1024;

/** What was signed of it, and where it goes. */
export interface WantedObject {
  readonly key: string;
  /** Lower-case hex. */
  readonly sha256: string;
  readonly bytes: number;
  readonly contentType: string;
}

export interface Checks<T> {
  /** Takes the whole archive, chunk by chunk; throws where it is refused. */
  readonly walk: (archive: AsyncIterable<Uint8Array>) => Promise<T>;
  /** Thrown where size or digest are not those that were signed. */
  readonly notTheSigned: () => Error;
}

/**
 * Streams `body` into the bucket, unless the object is there already, which is walked then: `body` has to be the signed one all
 * the same, or what is signed of its size would be taken unseen. The last chunk is held back until everything agrees (digest, size, walk): what is refused leaves nothing behind. When this answers, the object is durable.
 * Throws what the checks threw, or what `body` or the bucket failed with.
 */
export async function keepStreamed<T>(
  bucket: R2Bucket,
  body: ReadableStream<Uint8Array>,
  wanted: WantedObject,
  checks: Checks<T>,
): Promise<T> {
  if ((await bucket.head(wanted.key)) === null) return await receive(bucket, body, wanted, checks);
  if (!(await isTheSigned(body.getReader(), wanted))) throw checks.notTheSigned();
  const stored = await bucket.get(wanted.key);
  if (stored === null) throw new Error("an object of the bucket has gone while it was uploaded again");
  return await checks.walk(stored.body);
}

/** Reads all of it, whatever it is: see `drain`. */
async function isTheSigned(reader: ReadableStreamDefaultReader<Uint8Array>, wanted: WantedObject): Promise<boolean> {
  const hasher = nodeCrypto.createHash("sha256");
  let seen = 0;
  for (let read = await reader.read(); !read.done; read = await reader.read()) {
    seen += read.value.length;
    hasher.update(read.value);
  }
  return seen === wanted.bytes && hex(hasher.digest()) === wanted.sha256;
}

async function receive<T>(
  bucket: R2Bucket,
  body: ReadableStream<Uint8Array>,
  wanted: WantedObject,
  { walk, notTheSigned }: Checks<T>,
): Promise<T> {
  // Begun with the first chunk that may go: most of what is refused never troubles the bucket.
  let upload = null as Upload | null;
  const put = async (chunk: Uint8Array): Promise<Upload> => {
    upload ??= new Upload(bucket, wanted);
    await upload.write(chunk);
    return upload;
  };
  const reader = body.getReader();
  const hasher = nodeCrypto.createHash("sha256");
  let seen = 0;
  let held: Uint8Array | null = null;
  const taken = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of gathered(reader)) {
      seen += chunk.length;
      if (seen > wanted.bytes) throw notTheSigned();
      hasher.update(chunk);
      yield chunk;
      // The walk asks for more, so it has taken this one: now the one before it may go.
      if (held !== null) await put(held);
      held = chunk;
    }
  };
  try {
    const kept = await walk(taken());
    if (held === null || seen !== wanted.bytes || hex(hasher.digest()) !== wanted.sha256) throw notTheSigned();
    await (await put(held)).finish();
    return kept;
  } catch (error) {
    await upload?.abort(error);
    await drain(reader);
    throw error;
  }
}

/** The body in chunks of at least `chunkBytes`, but for the last: its own are of 4 KiB, and each would be a write. */
async function* gathered(reader: ReadableStreamDefaultReader<Uint8Array>): AsyncGenerator<Uint8Array> {
  const pieces = new Gathered();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.add(value);
    if (pieces.length >= chunkBytes) yield pieces.take();
  }
  if (pieces.length > 0) yield pieces.take();
}

/** Reads what is left and drops it: to a client that is still sending, an early answer can be a broken connection. */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
  try {
    while (!(await reader.read()).done);
  } catch {
    // The client has gone, or sends more than it may: what is answered does not depend on it.
  }
}

/** One object on its way into the bucket: there is none until `finish` has answered. */
class Upload {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  /** How the bucket's put ended; it never rejects. */
  readonly #end: Promise<{ readonly error: unknown } | null>;
  #isOver = false;

  constructor(bucket: R2Bucket, { key, sha256, bytes, contentType }: WantedObject) {
    const { readable, writable } = new FixedLengthStream(bytes);
    this.#writer = writable.getWriter();
    this.#end = bucket
      .put(key, readable, {
        sha256,
        onlyIf: new Headers({ "if-none-match": "*" }),
        httpMetadata: { contentType },
      })
      .then(
        // Null is fine too: the same bytes were put under this digest a moment ago.
        () => null,
        (error: unknown) => ({ error }),
      )
      .finally(() => {
        this.#isOver = true;
      });
  }

  /** Waits until the bucket has taken the chunk, or has the object already; throws what the bucket failed with. */
  async write(chunk: Uint8Array): Promise<void> {
    if (!this.#isOver) await Promise.race([this.#unlessEnded(this.#writer.write(chunk)), this.#end]);
    if (this.#isOver) await this.#ended();
  }

  async finish(): Promise<void> {
    if (!this.#isOver) await Promise.race([this.#unlessEnded(this.#writer.close()), this.#end]);
    await this.#ended();
  }

  /** Nothing is kept: the bucket refuses a body that ends before its length. */
  async abort(reason: unknown): Promise<void> {
    if (!this.#isOver) await this.#unlessEnded(this.#writer.abort(reason));
    await this.#end;
  }

  async #ended(): Promise<void> {
    const failed = await this.#end;
    if (failed !== null) throw failed.error;
  }

  /** A stream that the bucket has left fails each write; why it left is in `#end`. */
  async #unlessEnded(writing: Promise<void>): Promise<void> {
    await writing.catch(async () => void (await this.#end));
  }
}
