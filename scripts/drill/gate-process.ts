// The two doors in front of the providers' edges as a process of its own, so that nothing else that the stack does holds them up.
// Started by `openGates`, which speaks to it by messages.

import { fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { openGate, type Gate } from "./gate.ts";

type Name = "a" | "b";
type Order = { readonly open: Readonly<Record<Name, string>> } | { readonly gate: Name; readonly act: keyof Acts };
type Acts = Omit<Gate, "url">;

export interface Gates {
  readonly urls: Readonly<Record<Name, string>>;
  /** Resolves when it is done. */
  act(gate: Name, act: keyof Acts): Promise<void>;
  close(): void;
}

const answerMsMax = 10_000;

/** `upstreams`: the edges themselves. */
export async function openGates(upstreams: Readonly<Record<Name, string>>): Promise<Gates> {
  const child = fork(fileURLToPath(import.meta.url), ["open"], { stdio: ["ignore", "ignore", "inherit", "ipc"] });
  const ask = (order: Order): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("the gates do not answer")), answerMsMax);
      child.once("message", (message) => {
        clearTimeout(timer);
        resolve(message);
      });
      child.send(order);
    });
  const { urls } = (await ask({ open: upstreams })) as Pick<Gates, "urls">;
  return {
    urls,
    async act(gate, act) {
      await ask({ gate, act });
    },
    close: () => void child.kill("SIGKILL"),
  };
}

async function main(): Promise<void> {
  const gates = new Map<Name, Gate>();
  const urls: Record<string, string> = {};
  process.on("disconnect", () => process.exit());
  process.on("message", (order: Order) => {
    void (async () => {
      if ("open" in order)
        for (const name of ["a", "b"] as const) {
          const gate = await openGate(order.open[name]);
          gates.set(name, gate);
          urls[name] = gate.url;
        }
      else await gates.get(order.gate)?.[order.act]();
      process.send!({ urls });
    })();
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
