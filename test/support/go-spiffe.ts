// go-spiffe as an oracle: test/interop/spiffe/main.go, built once a test file, asked through its stdin many thousand times.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { concat, utf8, type Bytes } from "../../shared/contract/bytes.ts";

/** Four bytes of length, big-endian, and the bytes. */
function sized(bytes: Uint8Array): Bytes {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return concat(length, bytes);
}
const frame = (kind: string, ...parts: readonly Uint8Array[]): Bytes => sized(concat(utf8(kind), ...parts));

/** What can be asked; `bundle` and `time` hold for all that is asked after them. */
export const ask = {
  bundle: (trustDomain: string, document: string): Bytes => frame("b", sized(utf8(trustDomain)), sized(utf8(document))),
  time: (ms: number): Bytes => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, BigInt(ms));
    return frame("t", bytes);
  },
  chain: (chain: readonly Uint8Array[]): Bytes => frame("x", ...chain.map(sized)),
  token: (audience: string, token: string): Bytes => frame("j", sized(utf8(audience)), sized(utf8(token))),
  id: (text: string): Bytes => frame("i", utf8(text)),
};

export interface Minted {
  readonly name: string;
  /** base64 of DER, the leaf first. */
  readonly chain: readonly string[];
  readonly bundle: string;
  readonly token: string;
}

export interface GoSpiffe {
  /** Whether go-spiffe took each, in the order asked. One process for all of them. */
  answers(questions: Iterable<Bytes> | AsyncIterable<Bytes>): Promise<boolean[]>;
  mint(): readonly Minted[];
  /** A client's part, `federate` or `get` in main.go: what it printed, or why it failed. */
  client(...args: readonly string[]): Promise<{ readonly ok: boolean; readonly text: string }>;
  remove(): void;
}

const mintBytesMax = 4 * 1024 * 1024;

/** Builds it with the Go at `go`. Throws where it does not build. */
export function buildGoSpiffe(go: string): GoSpiffe {
  const folder = mkdtempSync(join(tmpdir(), "maestro-spiffe-"));
  const program = join(folder, "spiffe");
  const built = spawnSync(go, ["build", "-o", program, "."], {
    cwd: join(import.meta.dirname, "../interop/spiffe"),
    encoding: "utf8",
  });
  if (built.status !== 0) throw new Error(`the go-spiffe harness does not build: ${built.stderr}`);
  return {
    async answers(questions) {
      const child = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
      const answers: boolean[] = [];
      child.stdout.on("data", (bytes: Buffer) => {
        for (const byte of bytes) answers.push(byte === 1);
      });
      const closed = once(child, "close");
      let asked = 0;
      for await (const question of questions) {
        asked += 1;
        if (!child.stdin.write(question)) await once(child.stdin, "drain");
      }
      child.stdin.end();
      const [status] = (await closed) as [number | null];
      if (status !== 0 || answers.length !== asked) {
        throw new Error(`go-spiffe ended with ${status} after ${answers.length} of ${asked} answers`);
      }
      return answers;
    },
    mint() {
      const { status, stdout, stderr } = spawnSync(program, ["mint"], { encoding: "utf8", maxBuffer: mintBytesMax });
      if (status !== 0) throw new Error(`go-spiffe mints nothing: ${stderr}`);
      return JSON.parse(stdout) as readonly Minted[];
    },
    async client(...args) {
      const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
      const chunks: Buffer[] = [];
      for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      const [status] = (await once(child, "close")) as [number | null];
      return { ok: status === 0, text: Buffer.concat(chunks).toString("utf8") };
    },
    remove() {
      rmSync(folder, { recursive: true });
    },
  };
}
