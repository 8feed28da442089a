// How many answers a second a server gives over connections that each ask again as soon as they are answered: a process of its
// own on bare sockets, so that asking costs less than answering. Started by `measureRate`, with one JSON argument.

import { fork } from "node:child_process";
import { connect } from "node:net";
import { fileURLToPath } from "node:url";

export interface RateOrder {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly connections: number;
  readonly duration_ms: number;
  /** Of each answer's body: another one is a failure. */
  readonly bytes: number;
}

export interface Rate {
  readonly per_s: number;
  readonly answers: number;
}

const endMsMax = 30_000;

/** Throws where an answer is not 200 with so many bytes. */
export function measureRate(order: RateOrder, signal: AbortSignal): Promise<Rate> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify(order)], {
      stdio: ["ignore", "ignore", "pipe", "ipc"],
      execArgv: [],
      signal,
      timeout: order.duration_ms + endMsMax,
    });
    let said = "";
    child.stderr!.on("data", (piece: Buffer) => void (said += piece.toString().slice(0, 2_000)));
    child.on("message", (rate) => resolve(rate as Rate));
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`the load on ${order.url} ended with ${code}: ${said}`)));
  });
}

const headEnd = "\r\n\r\n";

async function run({ url, headers, connections, duration_ms: duration, bytes }: RateOrder): Promise<Rate> {
  const { hostname, port, pathname, host } = new URL(url);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const request = Buffer.from(`GET ${pathname} HTTP/1.1\r\nhost: ${host}\r\n${lines.join("")}\r\n`);
  let answers = 0;
  const startedAt = performance.now();
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: hostname, port: Number(port), noDelay: true });
      /** Bytes of this answer that are still to come; null before its head is read. */
      let left: number | null = null;
      let head = "";
      const fail = (what: string): void => {
        socket.destroy();
        reject(new Error(`${url}: ${what}`));
      };
      socket.on("connect", () => socket.write(request));
      socket.on("error", (error) => fail(error.message));
      socket.on("close", () => fail("the connection was closed"));
      socket.on("data", (piece) => {
        let come = piece.length;
        if (left === null) {
          head += piece.toString("latin1");
          const end = head.indexOf(headEnd);
          if (end < 0) return;
          const length = /\r\ncontent-length: (\d+)\r\n/i.exec(head.slice(0, end + 2))?.[1];
          if (!head.startsWith("HTTP/1.1 200") || Number(length) !== bytes) return fail(head.slice(0, end));
          left = bytes;
          come = head.length - end - headEnd.length;
          head = "";
        }
        left -= come;
        if (left > 0) return;
        left = null;
        answers += 1;
        if (performance.now() - startedAt < duration) socket.write(request);
        else {
          socket.removeAllListeners("close").destroy();
          resolve();
        }
      });
    });
  await Promise.all(Array.from({ length: connections }, one));
  return { answers, per_s: (answers * 1_000) / (performance.now() - startedAt) };
}

const [order] = process.argv.slice(2);
if (process.argv[1] === fileURLToPath(import.meta.url) && order !== undefined) {
  const rate = await run(JSON.parse(order) as RateOrder);
  process.send!(rate, undefined, undefined, () => process.disconnect());
}
