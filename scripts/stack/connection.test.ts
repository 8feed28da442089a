// PostgreSQL that goes away at the worst moment, in the place of the real one: right behind its greeting, in the same bytes.

import { createServer, type AddressInfo, type Server } from "node:net";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { clientOf, isLostConnection, withClient } from "./connection.ts";
import { startNeonProxy } from "./neon-proxy.ts";
import { loopback } from "./ports.ts";

const message = (type: string, body: Buffer): Buffer => {
  const head = Buffer.alloc(5);
  head.write(type, "latin1");
  head.writeInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
};
const greeting = Buffer.concat([message("R", Buffer.alloc(4)), message("Z", Buffer.from("I"))]);
const goodbye = message(
  "E",
  Buffer.from("SFATAL\0C57P01\0Mterminating connection due to administrator command\0\0", "latin1"),
);

let server: Server;
let port: number;
/** What it says to a client that has sent its first message. */
let says: Buffer;
let unhandled: unknown[];
const note = (error: unknown): void => void unhandled.push(error);

beforeEach(async () => {
  says = Buffer.concat([greeting, goodbye]);
  unhandled = [];
  process.on("uncaughtException", note);
  server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => socket.end(says));
  });
  await new Promise<void>((resolve) => server.listen(0, loopback, resolve));
  ({ port } = server.address() as AddressInfo);
});

afterEach(async () => {
  process.off("uncaughtException", note);
  await new Promise((resolve) => server.close(resolve));
});

const url = (): string => `postgresql://owner:none@${loopback}:${port}/none`;
const failureOf = (work: Promise<unknown>): Promise<unknown> => work.then(() => null, (error: unknown) => error); // prettier-ignore

describe("a connection that is lost", () => {
  test("while it is idle is the error of the next query, and ends nothing else", async () => {
    const client = clientOf(url());
    await client.connect();
    const error = await failureOf(client.query("select 1"));
    expect(isLostConnection(error)).toBe(true);
    await client.end();
    expect(unhandled).toEqual([]);
  });

  test("is the error of the work that needed it", async () => {
    const error = await failureOf(withClient(url(), (client) => client.query("select 1")));
    expect(isLostConnection(error)).toBe(true);
    expect(unhandled).toEqual([]);
  });

  test("before it stood is told as lost, too", async () => {
    says = goodbye;
    expect(isLostConnection(await failureOf(withClient(url(), () => Promise.resolve())))).toBe(true);
    says = Buffer.alloc(0);
    expect(isLostConnection(await failureOf(withClient(url(), () => Promise.resolve())))).toBe(true);
    expect(unhandled).toEqual([]);
  });

  test("while the Neon proxy hands it out is an answer, and the proxy lives", async () => {
    const proxy = await startNeonProxy({ port: 0, postgresPort: port });
    try {
      for (let at = 0; at < 2; at += 1) {
        const response = await fetch(proxy.endpoint, {
          method: "POST",
          headers: { "neon-connection-string": url() },
          body: JSON.stringify({ query: "select 1" }),
        });
        expect(response.status).toBe(400);
        expect(await response.json()).toMatchObject({ severity: "FATAL" });
      }
    } finally {
      await proxy.stop();
    }
    expect(unhandled).toEqual([]);
  });
});

test("an error of a statement is no lost connection", () => {
  expect(isLostConnection(Object.assign(new Error("duplicate key"), { code: "23505" }))).toBe(false);
  expect(isLostConnection(new TypeError("no rows"))).toBe(false);
});
