// A question on a terminal that is answered with yes, or not. Called by commands that do what is not taken back.

import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Host } from "./host.ts";
import { interruptedFailure } from "./http.ts";

/** False for any other answer than `yes`, and where the input ends. The caller looks first whether there is a terminal. */
export async function isConfirmed(host: Host, question: string): Promise<boolean> {
  const signal = host.interrupted;
  const readline = createInterface({ input: host.stdin, terminal: false });
  host.stderr.write(`${question} (yes/no) `);
  try {
    const ended = once(readline, "close", { signal }).then((): unknown[] => []);
    const [answer] = await Promise.race([once(readline, "line", { signal }), ended]);
    return typeof answer === "string" && answer.trim() === "yes";
  } catch (error) {
    if (signal.aborted) throw interruptedFailure();
    throw error;
  } finally {
    readline.close();
  }
}
