// The body of a request: counted while it streams, whatever Content-Length says, then UTF-8, then JSON without NUL,
// lone surrogates and double keys. Called by the door, after the role was decided.

import { Problem } from "../../../shared/contract/problems.ts";
import { concat, utf8Text } from "../../../shared/contract/bytes.ts";

/** The largest JSON body: 1 MiB. */
export const jsonBytesMax = 1024 * 1024;

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

/** The request's stream, which fails with `too_large` at the first byte beyond `bytesMax`. */
export function boundedStream(request: Request, bytesMax: number): ReadableStream<Uint8Array> {
  if (Number(request.headers.get("content-length") ?? "0") > bytesMax) throw tooLarge(bytesMax);
  let seen = 0;
  const source = (request.body ?? new Response(new Uint8Array(0)).body) as ReadableStream<Uint8Array>;
  return source.pipeThrough(
    new TransformStream<Uint8Array, Uint8Array>({
      transform(chunk, controller) {
        seen += chunk.byteLength;
        if (seen > bytesMax) controller.error(tooLarge(bytesMax));
        else controller.enqueue(chunk);
      },
    }),
  );
}

/** The whole body, or `too_large`: at most `bytesMax` and one chunk are ever held. */
export async function readBody(request: Request, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  if (Number(request.headers.get("content-length") ?? "0") > bytesMax) throw tooLarge(bytesMax);
  if (request.body === null) return new Uint8Array(0);
  const reader = (request.body as ReadableStream<Uint8Array>).getReader();
  const chunks: Uint8Array[] = [];
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return concat(...chunks);
    size += value.byteLength;
    if (size > bytesMax) {
      await reader.cancel();
      throw tooLarge(bytesMax);
    }
    chunks.push(value);
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

/** The first name that comes twice in one object of `text`, which must be valid JSON; null where none does. */
export function duplicateKey(text: string): string | null {
  const open: (Set<string> | null)[] = [];
  let nameNext = false;
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === "{") {
      open.push(new Set());
      nameNext = true;
    } else if (character === "[") {
      open.push(null);
      nameNext = false;
    } else if (character === "}" || character === "]") {
      open.pop();
      nameNext = false;
    } else if (character === ",") {
      nameNext = open.at(-1) instanceof Set;
    } else if (character === '"') {
      const start = at;
      for (at += 1; text[at] !== '"'; at += 1) if (text[at] === "\\") at += 1;
      const names = open.at(-1);
      if (nameNext && names instanceof Set) {
        const name = JSON.parse(text.slice(start, at + 1)) as string;
        if (names.has(name)) return name;
        names.add(name);
        nameNext = false;
      }
    }
  }
  return null;
}
