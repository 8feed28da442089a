// Secrets and queries from stdin: a hidden prompt on a terminal, else the whole of what is piped in, bounded.
// Called by `maestro login` and `maestro pql -`.

import type { Host } from "./host.ts";
import { Failure } from "./failure.ts";
import { interruptedFailure } from "./http.ts";

/** Everything on stdin as UTF-8 text. Throws Failure `usage` beyond `bytesMax` or where it is not UTF-8. */
export async function readStdin(host: Host, bytesMax: number): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of host.stdin as AsyncIterable<Buffer | string>) {
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : chunk;
    size += bytes.length;
    if (size > bytesMax) throw new Failure("usage", `stdin holds more than ${bytesMax} bytes`);
    chunks.push(bytes);
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Buffer.concat(chunks));
  } catch (error) {
    if (error instanceof TypeError) throw new Failure("usage", "stdin is not UTF-8");
    throw error;
  }
}

const secretBytesMax = 16_384;

/** A secret: asked for without echo on a terminal, else read from stdin. */
export async function readSecret(host: Host, prompt: string): Promise<string> {
  if (host.stdin.isTTY !== true) {
    const text = (await readStdin(host, secretBytesMax)).trim();
    if (text === "") throw new Failure("usage", "stdin is empty: no key was given");
    return text;
  }
  host.stderr.write(prompt);
  host.stdin.setRawMode?.(true);
  let typed = "";
  try {
    for await (const chunk of host.stdin as AsyncIterable<Buffer | string>) {
      for (const character of String(chunk)) {
        if (character === "\r" || character === "\n") return typed;
        if (character === "\u0003" || character === "\u0004") throw interruptedFailure();
        typed = character === "\u007F" || character === "\b" ? typed.slice(0, -1) : typed + character;
        if (typed.length > secretBytesMax) throw new Failure("usage", "That is too long for a key");
      }
    }
    return typed;
  } finally {
    host.stdin.setRawMode?.(false);
    host.stderr.write("\n");
  }
}
