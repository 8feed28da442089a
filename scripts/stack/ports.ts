// TCP ports on the loopback interface: a free one, and whether a wanted one is taken. Used by the parts of the stack.

import { createServer, type AddressInfo, type Server } from "node:net";
import { StackFailure } from "./failure.ts";

export const loopback = "127.0.0.1";

function bind(port: number): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ port, host: loopback, exclusive: true }, () => resolve(server));
  });
}

/** A port that was free a moment ago: for programs that cannot take port 0 themselves. */
export async function freePort(): Promise<number> {
  const server = await bind(0);
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
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
