// What a provider's answer costs this machine, against a real TCP server that frames it as it likes.

import { once } from "node:events";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { onTestFinished, expect, test } from "vitest";
import { httpProviders } from "./http-provider.ts";

/** A provider whose answers are these bytes on the wire, in turn; `beforeLast` is called before the last of them is sent. */
async function rawProvider(answer: readonly string[], beforeLast: () => void): Promise<string> {
  const send = (socket: Socket): void => {
    let at = 0;
    const goOn = (): void => {
      while (at < answer.length) {
        if (at === answer.length - 1) beforeLast();
        if (!socket.write(answer[at++]!)) return void socket.once("drain", goOn);
      }
    };
    socket.once("data", goOn);
    socket.on("error", () => undefined);
  };
  const server = createServer(send).listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => void server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
/** Bytes, without what nobody holds any more. */
const held = (): number => {
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};

test("an answer in pieces of one byte holds little more than its bytes", async () => {
  const bytes = 800_000;
  const head = "HTTP/1.1 200 OK\r\ncontent-type: application/gzip\r\ntransfer-encoding: chunked\r\n\r\n";
  const pieces = "1\r\nx\r\n".repeat(4_000);
  const answer = [head, ...Array.from({ length: bytes / 4_000 }, () => pieces), "0\r\n\r\n"];
  let most = 0;
  // Once: beside other tests there is much to look through.
  const baseUrl = await rawProvider(answer, () => (most = held()));
  const providers = httpProviders([{ name: "a", baseUrl }], () => null);
  onTestFinished(() => providers.close());
  const before = held();
  const read = await providers.start("a", { key: "k", bytesMax: bytes, contentType: "application/gzip" }).answer;
  expect(read).toEqual({ ok: true, bytes: new Uint8Array(bytes).fill("x".charCodeAt(0)) });
  // Each piece that is kept takes some 250 B there: 200 MB.
  expect(most - before).toBeLessThan(20_000_000);
});
