// TCP ports on the loopback interface: a free one, and whether a wanted one is taken. Used by the parts of the stack.

import { randomInt } from "node:crypto";
import { createServer, type Server } from "node:net";
import { StackFailure } from "./failure.ts";

export const loopback = "127.0.0.1";

function bind(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ port, host: loopback, exclusive: true }, () => resolve(server));
  });
}

/** Below the ports that systems give to outgoing connections (32768 on Linux, 49152 elsewhere). */
const chosenFrom = { first: 20_000, beyond: 32_768 } as const;
const triesMax = 100;
const given = new Set<number>();

/**
 * A port that was free a moment ago: for programs that cannot take port 0 themselves. Never one that this process was given before,
 * nor one that an outgoing connection may take meanwhile: a stack of tests opens thousands beside one that starts. Throws the
 * system's error where none is free.
 */
export async function freePort(): Promise<number> {
  for (let tries = 1; ; tries += 1) {
    const port = randomInt(chosenFrom.first, chosenFrom.beyond);
    if (given.has(port)) continue;
    try {
      const server = await bind(port);
      given.add(port);
      await new Promise((resolve) => server.close(resolve));
      return port;
    } catch (error) {
      if (tries >= triesMax) throw error;
    }
  }
}

/** Throws a StackFailure when `port` is taken. Port 0 is never taken. */
export async function requireFree(port: number, what: string, flag: string): Promise<void> {
  if (port === 0) return;
  try {
    const server = await bind(port);
    await new Promise((resolve) => server.close(resolve));
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new StackFailure(
      code === "EACCES"
        ? `Port ${port}, wanted for ${what}, may not be opened by this user.`
        : `Port ${port}, wanted for ${what}, is taken by another program.`,
      `Stop that program, or choose another port: npm start -- ${flag} ${port < 60_000 ? port + 1000 : port - 1000}`,
      { cause: error },
    );
  }
}
