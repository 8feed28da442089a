// A flood of client certificates that nobody has seen, each sent once, at a steady rate whatever is answered: a process of its own, so
// that the measured callers share no event loop with it. Started by `startFlood`; told to begin by a message.

import { fork } from "node:child_process";
import http from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { base64Bytes } from "../../shared/contract/bytes.ts";
import { byCertificate, minuteMs, presented, type TestDomain } from "../../test/support/identities.ts";
import { newAuthority, newKeys, newLeaf, type KeyPair } from "../../test/support/svid.ts";

export interface FloodOrder {
  readonly url: string;
  readonly plainUrl: string;
  readonly spiffeId: string;
  /** The authority that the API believes signs half of them; a stranger of the same trust domain the others. */
  readonly authority: { readonly name: string; readonly pkcs8: string };
  readonly per_s: number;
  readonly duration_ms: number;
}

export type FloodKind = "strangers" | "plain";
/** Answers by status. */
export type FloodCounts = Readonly<Record<string, number>>;

export interface Flood {
  /**
   * Sends for the time of the order; when all is answered, how. `plain`: as many requests with the same headers, for a path that
   * nothing looks at SVIDs for.
   */
  run(kind: FloodKind): Promise<FloodCounts>;
  close(): void;
}

const socketsMax = 256;
const answerMsMax = 30_000;

export async function floodOrder(
  domain: TestDomain,
  order: Pick<FloodOrder, "url" | "plainUrl" | "spiffeId" | "per_s" | "duration_ms">,
): Promise<FloodOrder> {
  const { name, keys } = domain.authority;
  const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  return { ...order, authority: { name, pkcs8 } };
}

/** Resolves when its certificates for the first run are made. Each further run makes its own while it sends nothing. */
export async function startFlood(order: FloodOrder, signal: AbortSignal): Promise<Flood> {
  const child = fork(fileURLToPath(import.meta.url), ["flood"], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
    execArgv: [],
    signal,
  });
  const said = (): Promise<FloodCounts> =>
    new Promise((resolve, reject) => {
      child.once("message", (counts) => resolve(counts as FloodCounts));
      child.once("exit", (code) => reject(new Error(`the flood ended with ${code}`)));
    });
  const ready = said();
  child.send(order);
  await ready;
  return {
    run(kind) {
      const counts = said();
      child.send(kind);
      return counts;
    },
    close: () => void (child.connected && child.disconnect()),
  };
}

async function headersOf(order: FloodOrder): Promise<http.OutgoingHttpHeaders[]> {
  const { authority, spiffeId } = order;
  const now = Date.now();
  const times = { notBeforeMs: now - minuteMs, notAfterMs: now + 30 * minuteMs };
  const keys: KeyPair = await newKeys("P-256");
  const believed = {
    name: authority.name,
    keys: {
      ...keys,
      privateKey: await crypto.subtle.importKey(
        "pkcs8",
        base64Bytes(authority.pkcs8),
        { name: "ECDSA", namedCurve: "P-256" },
        false,
        ["sign"],
      ),
    },
  };
  const stranger = await newAuthority(new URL(spiffeId).host, times);
  const made: http.OutgoingHttpHeaders[] = [];
  const count = Math.ceil((order.per_s * order.duration_ms) / 1_000);
  // A signature of ECDSA is another one each time, and so is the certificate.
  for (let at = 0; at < count; at += 1) {
    const leaf = await newLeaf(at % 2 === 0 ? believed : stranger, spiffeId, { ...times, keys });
    made.push(byCertificate(presented([leaf])));
  }
  return made;
}

async function flood(
  url: string,
  perSecond: number,
  headers: readonly http.OutgoingHttpHeaders[],
): Promise<FloodCounts> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: socketsMax });
  const counts: Record<string, number> = {};
  const ask = (one: http.OutgoingHttpHeaders): Promise<string> =>
    new Promise((resolve) => {
      const sent = http.get(url, { agent, headers: one, timeout: answerMsMax }, (response) => {
        response.resume();
        response.once("close", () => resolve(response.complete ? String(response.statusCode) : "broken"));
      });
      sent.once("timeout", () => sent.destroy());
      sent.once("error", () => resolve("broken"));
    });
  const under: Promise<void>[] = [];
  const startedAt = performance.now();
  for (const [at, one] of headers.entries()) {
    const waitMs = startedAt + (at * 1_000) / perSecond - performance.now();
    if (waitMs > 0) await sleep(waitMs);
    under.push(ask(one).then((status) => void (counts[status] = (counts[status] ?? 0) + 1)));
  }
  await Promise.all(under);
  agent.destroy();
  return counts;
}

if (process.argv[1] === fileURLToPath(import.meta.url) && process.argv[2] === "flood") {
  let order: FloodOrder | undefined;
  let headers: Promise<http.OutgoingHttpHeaders[]> | undefined;
  process.on("message", (message: FloodOrder | FloodKind) => {
    const work = async (): Promise<void> => {
      if (typeof message === "string") {
        const { url, plainUrl, per_s: perSecond } = order!;
        process.send!(await flood(message === "plain" ? plainUrl : url, perSecond, await headers!));
        // What was looked at once is no stranger any more.
        if (message === "strangers") headers = headersOf(order!);
        await headers;
        return;
      }
      order = message;
      headers = headersOf(order);
      await headers;
      process.send!({});
    };
    work().catch((error: unknown) => {
      console.error(error);
      process.exit(1);
    });
  });
}
