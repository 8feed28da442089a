// The body of a request: counted while it streams, whatever Content-Length says, then UTF-8, then JSON without NUL,
// lone surrogates and double keys. Called by the door, after the role was decided.

import { Problem } from "../../../shared/contract/problems.ts";
import { utf8Text } from "../../../shared/contract/bytes.ts";
import { duplicateKey } from "../../../shared/contract/duplicate-key.ts";
import { Gathered } from "../../../shared/contract/gather.ts";

/** The largest JSON body: 1 MiB. */
export const jsonBytesMax = 1024 * 1024;

/** How much of a body that its route left unread is still read before the answer: so many times what the route takes. */
const discardFactor = 2;
const discardMsMax = 10_000;

const tooLarge = (bytesMax: number): Problem =>
  new Problem("too_large", `The body has more than ${bytesMax} bytes.`, { bytes_max: bytesMax });

/** Refuses a content type that the route does not take, and any content coding. */
export function checkContentType(request: Request, accept: readonly string[]): void {
  const coding = request.headers.get("content-encoding");
  if (coding !== null && coding.toLowerCase() !== "identity") {
    throw new Problem("unsupported_media_type", "A body is taken as it is, without a content coding.", { accept });
  }
  const [type = "", ...parameters] = (request.headers.get("content-type") ?? "").split(";").map((part) => part.trim());
  if (!accept.includes(type.toLowerCase())) {
    throw new Problem("unsupported_media_type", `This route takes ${accept.join(" or ")}.`, { accept });
  }
  const charset = parameters.find((parameter) => /^charset=/i.test(parameter));
  if (charset !== undefined && !/^charset="?utf-8"?$/i.test(charset)) {
    throw new Problem("unsupported_media_type", "Text is taken as UTF-8 only.", { accept });
  }
}

/**
 * The body of one request, opened once. What a route leaves unread is read and dropped by `discard` before the answer
 * goes out: HTTP/1.1 closes the connection on a client that is still sending, which then sees a broken pipe and never
 * the answer (RFC 9112, section 9.6).
 */
export class RequestBody {
  /** The most that the route takes; what is discarded is bounded by it. */
  routeBytesMax = jsonBytesMax;
  readonly #request: Request;
  #reader: ReadableStreamDefaultReader<Uint8Array> | null = null;
  #seen = 0;
  #whole: Promise<Uint8Array<ArrayBuffer>> | null = null;

  constructor(request: Request) {
    this.#request = request;
  }

  /** All of it as a stream, which fails with `too_large` at the first byte beyond `bytesMax`. */
  stream(bytesMax: number): ReadableStream<Uint8Array> {
    const reader = this.#open(bytesMax);
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          const chunk = reader === null ? null : await this.#next(reader, bytesMax);
          if (chunk === null) controller.close();
          else controller.enqueue(chunk);
        },
      },
      { highWaterMark: 0 },
    );
  }

  /** All of it, or `too_large`: at most twice `bytesMax` and one chunk are ever held. Read once, however often it is asked for. */
  async bytes(bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
    return await (this.#whole ??= this.#read(bytesMax));
  }

  async #read(bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
    const reader = this.#open(bytesMax);
    const gathered = new Gathered();
    for (;;) {
      const chunk = reader === null ? null : await this.#next(reader, bytesMax);
      if (chunk === null) return gathered.take();
      gathered.add(chunk);
    }
  }

  /** Reads what is left and drops it, within twice the route's bound and `withinMs`. Never throws. */
  async discard(withinMs = discardMsMax): Promise<void> {
    if (this.#request.body === null) return;
    const reader = (this.#reader ??= this.#request.body.getReader() as ReadableStreamDefaultReader<Uint8Array>);
    // A client that has gone: the answer does not depend on it.
    const leave = (): Promise<void> => reader.cancel().catch(() => undefined);
    const late = setTimeout(() => void leave(), withinMs);
    try {
      while ((await this.#next(reader, this.routeBytesMax * discardFactor)) !== null);
    } catch {
      await leave();
    } finally {
      clearTimeout(late);
    }
  }

  #open(bytesMax: number): ReadableStreamDefaultReader<Uint8Array> | null {
    if (Number(this.#request.headers.get("content-length") ?? "0") > bytesMax) throw tooLarge(bytesMax);
    if (this.#request.body === null) return null;
    this.#reader = this.#request.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
    return this.#reader;
  }

  async #next(reader: ReadableStreamDefaultReader<Uint8Array>, bytesMax: number): Promise<Uint8Array | null> {
    const { done, value } = await reader.read();
    if (done) return null;
    this.#seen += value.byteLength;
    if (this.#seen > bytesMax) throw tooLarge(bytesMax);
    return value;
  }
}

/** Bytes as one JSON value. Never quotes the body in its refusal. */
export function parseJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = utf8Text(bytes);
  } catch {
    throw new Problem("not_utf8", "The body has bytes that are not UTF-8.");
  }
  if (text.includes("\0")) throw new Problem("not_utf8", "The body has a NUL character.");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Problem("malformed_json", text === "" ? "The body is empty." : "The body is not one JSON value.");
  }
  const twice = duplicateKey(text);
  if (twice !== null) {
    // RFC 8259, section 4: what a reader makes of a name that comes twice is unpredictable. So it is refused.
    throw new Problem("malformed_json", "An object of the body has the same name twice.", {
      name: twice.slice(0, 100),
    });
  }
  checkStrings(value);
  return value;
}

/** NUL does not fit into Postgres, a lone surrogate not into UTF-8: neither may come in by an escape. */
function checkStrings(root: unknown): void {
  const waiting: unknown[] = [root];
  while (waiting.length > 0) {
    const value = waiting.pop();
    if (typeof value === "string") checkString(value);
    else if (Array.isArray(value)) for (const item of value) waiting.push(item);
    else if (value !== null && typeof value === "object") {
      for (const [name, member] of Object.entries(value)) {
        checkString(name);
        waiting.push(member);
      }
    }
  }
}

function checkString(text: string): void {
  if (text.includes("\0")) throw new Problem("not_utf8", "A string of the body has a NUL character.");
  if (!text.isWellFormed()) throw new Problem("not_utf8", "A string of the body has half of a surrogate pair.");
}
