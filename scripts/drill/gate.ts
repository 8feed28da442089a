// A door in front of one provider's edge, so that an outage can be of the edge alone: a TCP proxy that passes bytes on, stops
// answering (what is under way stays open and silent, new connections are taken and get nothing), or dies. Opened by the drills;
// provider A's workerd runs the API too, and a stopped process would have stopped both.

import { connect, createServer, type AddressInfo, type Socket } from "node:net";
import { loopback } from "../stack/ports.ts";

export interface Gate {
  readonly url: string;
  /** Says nothing from now on, to anybody, and closes nothing. */
  freeze(): void;
  /** What waited goes on. */
  thaw(): void;
  /** Cuts every connection, and refuses new ones. */
  die(): Promise<void>;
}

const connectionsMax = 4_096;

export async function openGate(upstream: string): Promise<Gate> {
  const { hostname, port } = new URL(upstream);
  const open = new Set<Socket>();
  let isFrozen = false;

  const server = createServer((client) => {
    const edge = connect({ host: hostname, port: Number(port), noDelay: true });
    client.setNoDelay(true);
    for (const [from, to] of [
      [client, edge],
      [edge, client],
    ] as const) {
      open.add(from);
      if (isFrozen) from.pause();
      from.on("data", (bytes: Buffer) => {
        if (!to.write(bytes)) from.pause();
      });
      to.on("drain", () => {
        if (!isFrozen) from.resume();
      });
      // What one side does, the other one sees: an end as an end, a cut as a cut.
      from.on("end", () => to.end());
      from.on("error", () => to.destroy());
      from.on("close", (isCut) => {
        open.delete(from);
        if (isCut) to.destroy();
        else to.end();
      });
    }
  });
  server.maxConnections = connectionsMax;
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port: 0, host: loopback }, resolve);
  });
  return {
    url: `http://${loopback}:${(server.address() as AddressInfo).port}`,
    freeze() {
      isFrozen = true;
      for (const socket of open) socket.pause();
    },
    thaw() {
      isFrozen = false;
      for (const socket of open) socket.resume();
    },
    async die() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of open) socket.destroy();
      await closed;
    },
  };
}
