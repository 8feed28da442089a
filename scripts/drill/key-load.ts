// The load of the drill of rotating keys, as a process of its own: fetches, calls, installs, releases, verifications and receipts at
// a steady rate, with the SVIDs that it was given last; and beside them every SVID that it ever had, presented by intent. Started
// by key-rotation.ts, which speaks to it by messages.

import { createHash } from "node:crypto";
import http from "node:http";
import https from "node:https";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { runMaestro } from "../../cli/program.ts";
import { createSession } from "../../cli/session.ts";
import { trustedKeys } from "../../cli/trusted-keys.ts";
import { verifyMove } from "../../cli/verify-moves.ts";
import type { Role } from "../../shared/contract/names.ts";
import { contractOf } from "../../test/support/openapi.ts";
import { installPackage, manifestOf, publishRelease, registeredSigner } from "../../test/support/publisher.ts";
import { finishedRun } from "../../test/support/runs.ts";
import type { SeededTenant } from "../stack/seed.ts";
import { drillHost, type DrillHost } from "./key-host.ts";
import { places, type Place, type PresentedRecord, type WorkRecord } from "./key-figures.ts";
import { dueBetween, loadKinds, type KeySetting, type LoadKind } from "./key-plan.ts";

/** SVIDs of one workload by one authority. */
export interface Credentials {
  readonly generation: number;
  readonly edgeToken: string;
  readonly apiToken: string;
  readonly chainPem: string;
  readonly keyPem: string;
}

export interface KeyOrder {
  readonly setting: KeySetting;
  readonly tenant: SeededTenant;
  readonly urls: { readonly a: string; readonly b: string; readonly api: string; readonly tls: string };
  /** The authority of the TLS front's own certificate. */
  readonly serverAuthorityPem: string;
  readonly bundles: readonly { readonly path: string; readonly sha256: string }[];
  readonly credentials: Credentials;
  /** For what `maestro` remembers, and for packs. */
  readonly folder: string;
}

export type ToLoad =
  | { readonly order: KeyOrder }
  | { readonly begin: true }
  | { readonly credentials: Credentials }
  | { readonly revoking: number }
  | { readonly stop: true };
export type FromLoad =
  | { readonly state: "ready" }
  | { readonly state: "began"; readonly at: number }
  /** Everything by the credentials from before has been answered. */
  | { readonly state: "replaced"; readonly generation: number }
  | {
      readonly state: "done";
      readonly stopped: number;
      readonly work: readonly WorkRecord[];
      readonly presented: readonly PresentedRecord[];
      /** Processor time of this process, in s. */
      readonly cpu_s: number;
    };

const answerMsMax = 30_000;
const socketsMax = 16;
const tickMs = 4;
/** Installs of one package wait for each other: the drill is not about that. */
const packages = 4;
const packageNamed = (count: number): string => `key-rotation/probe-${count % packages}`;

interface Answer {
  readonly status: number;
  readonly sha256: string;
  readonly reused: boolean;
}

function ask(url: string, agent: http.Agent, headers: Readonly<Record<string, string>>): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const send = url.startsWith("https:") ? https.get : http.get;
    const sent = send(url, { agent, headers, timeout: answerMsMax }, (response) => {
      const hash = createHash("sha256");
      response.on("data", (piece: Buffer) => hash.update(piece));
      response.once("error", reject);
      response.once("end", () =>
        resolve({ status: response.statusCode ?? 0, sha256: hash.digest("hex"), reused: sent.reusedSocket }),
      );
    });
    sent.once("timeout", () => sent.destroy(new Error(`no answer within ${answerMsMax} ms`)));
    sent.once("error", reject);
  });
}

/** The ways to each place with one generation's SVIDs. */
class Ways {
  readonly credentials: Credentials;
  readonly #order: KeyOrder;
  readonly #plain: http.Agent;
  readonly #certified: https.Agent;
  underWay = 0;

  constructor(order: KeyOrder, credentials: Credentials, maxSockets: number) {
    this.#order = order;
    this.credentials = credentials;
    this.#plain = new http.Agent({ keepAlive: true, maxSockets });
    this.#certified = new https.Agent({
      keepAlive: true,
      maxSockets,
      ca: order.serverAuthorityPem,
      cert: credentials.chainPem,
      key: credentials.keyPem,
    });
  }

  async ask(place: Place, path: string): Promise<Answer> {
    const { urls } = this.#order;
    const { edgeToken, apiToken } = this.credentials;
    const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
    this.underWay += 1;
    try {
      if (place === "api_certificate") return await ask(`${urls.tls}${path}`, this.#certified, {});
      if (place === "api_token") return await ask(`${urls.api}${path}`, this.#plain, bearer(apiToken));
      return await ask(`${urls[place]}${path}`, this.#plain, bearer(edgeToken));
    } finally {
      this.underWay -= 1;
    }
  }

  close(): void {
    this.#plain.destroy();
    this.#certified.destroy();
  }
}

const hostOf = (order: KeyOrder, role: Role): DrillHost => {
  const user = { apiUrl: order.urls.api, key: order.tenant.keys[role], folder: order.folder };
  return drillHost(user, new AbortController().signal);
};

/** What callers with keys do, ready to be done. Each throws where it does not get what it should. */
async function callersOf(order: KeyOrder): Promise<Record<"install" | "verify" | "publish" | "receipt", Work>> {
  const { tenant, urls, folder } = order;
  const api = await contractOf(urls.api);
  for (let count = 0; count < packages; count += 1) await installPackage(api, tenant, packageNamed(count));
  const publisher = await registeredSigner(api, tenant);
  const maestro = async (...argv: string[]): Promise<void> => {
    const host = hostOf(order, "auditor");
    const code = await runMaestro(argv, host);
    if (code !== 0) throw new Error(`maestro ${argv.slice(0, 2).join(" ")} ended with ${code}: ${host.said()}`);
  };
  return {
    // By the client of `maestro`, which sends again what is answered 503.
    async install(count) {
      const client = await createSession(hostOf(order, "operator"), true).api();
      await client.install({ package: packageNamed(count), channel: "stable", name: "default" });
    },
    // As `maestro market install` does after it has installed.
    async verify(count) {
      const session = createSession(hostOf(order, "operator"), true);
      const keys = await trustedKeys(session);
      const releases = [{ version: "1.0.0" }];
      await verifyMove(await session.api(), keys, { package: packageNamed(count), channel: "stable", releases });
    },
    async publish(count) {
      await publishRelease(api, tenant, publisher, manifestOf(`key-rotation/new-${count}`));
    },
    async receipt(count) {
      const file = join(folder, `pack-${count}.zip`);
      await maestro("disclosure", "get", await finishedRun(api, tenant, packageNamed(count)), "--out", file, "--json");
      await maestro("disclosure", "verify", file, "--json");
    },
  };
}
type Work = (count: number) => Promise<void>;

class Load {
  readonly #order: KeyOrder;
  readonly #callers: Awaited<ReturnType<typeof callersOf>>;
  readonly work: WorkRecord[] = [];
  readonly presented: PresentedRecord[] = [];
  #ways: Ways;
  #intruders: Ways[] = [];
  #presenting: Promise<void>[] = [];
  #revoking = -1;
  #isOn = true;
  readonly #counts = Object.fromEntries(loadKinds.map((kind) => [kind, 0])) as Record<LoadKind, number>;

  constructor(order: KeyOrder, callers: Awaited<ReturnType<typeof callersOf>>) {
    this.#order = order;
    this.#callers = callers;
    this.#ways = new Ways(order, order.credentials, socketsMax);
  }

  /** Resolves when all has been answered that was begun. Answers when it was told to stop. */
  async run(beganAt: number): Promise<number> {
    const { per_s: perSecond } = this.#order.setting;
    this.#present(this.#order.credentials);
    const under: Promise<void>[] = [];
    let doneMs = 0;
    while (this.#isOn) {
      const nowMs = Date.now() - beganAt;
      for (const { kind, at_ms: at } of dueBetween(perSecond, doneMs, nowMs)) under.push(this.#one(kind, beganAt + at));
      doneMs = Math.max(doneMs, nowMs);
      await sleep(tickMs);
    }
    const stopped = Date.now();
    await Promise.all([...under, ...this.#presenting]);
    for (const ways of [this.#ways, ...this.#intruders]) ways.close();
    return stopped;
  }

  stop(): void {
    this.#isOn = false;
  }

  /** From now on everything is asked with these. Resolves when nothing by those before is under way. */
  async replace(credentials: Credentials): Promise<void> {
    const before = this.#ways;
    this.#ways = new Ways(this.#order, credentials, socketsMax);
    this.#present(credentials);
    while (before.underWay > 0) await sleep(tickMs);
    before.close();
  }

  revoking(generation: number): void {
    this.#revoking = generation;
  }

  async #one(kind: LoadKind, due: number): Promise<void> {
    const started = Date.now();
    let fault: string | null = null;
    try {
      await this.#do(kind);
    } catch (error) {
      const { message, cause } = error as Error;
      fault = `${message}${cause instanceof Error ? `: ${cause.message}` : ""}`.slice(0, 500);
    }
    this.work.push({ kind, due, started, ended: Date.now(), fault });
  }

  async #do(kind: LoadKind): Promise<void> {
    const count = this.#counts[kind];
    this.#counts[kind] += 1;
    if (kind === "fetch_a" || kind === "fetch_b") {
      const { path, sha256 } = this.#order.bundles[count % this.#order.bundles.length]!;
      const had = await this.#ways.ask(kind === "fetch_a" ? "a" : "b", path);
      if (had.status !== 200) throw new Error(`it was answered ${had.status}`);
      if (had.sha256 !== sha256) throw new Error(`other bytes came: ${had.sha256}`);
    } else if (kind === "call_token" || kind === "call_certificate") {
      const place = kind === "call_token" ? "api_token" : "api_certificate";
      const { status } = await this.#ways.ask(place, "/api/whoami");
      if (status !== 200) throw new Error(`it was answered ${status}`);
    } else await this.#callers[kind](count);
  }

  /** At each place over one connection of its own, which stays open, whatever becomes of the authority. */
  #present(credentials: Credentials): void {
    for (const place of places) {
      const ways = new Ways(this.#order, credentials, 1);
      this.#intruders.push(ways);
      this.#presenting.push(this.#presentAt(ways, place));
    }
  }

  /** At the API one that was replaced is not presented before it is being revoked: a rotation waits for whoever still presents it. */
  #isHeldBack(generation: number, place: Place): boolean {
    const isOfApi = place === "api_token" || place === "api_certificate";
    return isOfApi && generation < this.#ways.credentials.generation && generation > this.#revoking;
  }

  async #presentAt(ways: Ways, place: Place): Promise<void> {
    const { setting, tenant } = this.#order;
    const { generation } = ways.credentials;
    const path = place === "a" || place === "b" ? `/tuf/${tenant.slug}/timestamp.json` : "/api/whoami";
    while (this.#isOn) {
      if (this.#isHeldBack(generation, place)) {
        await sleep(setting.present_closely_every_ms);
        continue;
      }
      const started = Date.now();
      // No answer is none that was accepted; before its revocation that counts as a failure.
      const { status, reused } = await ways.ask(place, path).catch(() => ({ status: 0, reused: false }));
      this.presented.push({ place, generation, started, ended: Date.now(), status, reused });
      const isClose = generation === this.#revoking;
      await sleep(isClose ? setting.present_closely_every_ms : setting.present_every_ms);
    }
  }
}

const send = (message: FromLoad): Promise<void> =>
  new Promise((resolve, reject) => {
    process.send!(message, undefined, undefined, (error) => (error === null ? resolve() : reject(error)));
  });

async function begin(load: Load): Promise<void> {
  const at = Date.now();
  const before = process.cpuUsage();
  await send({ state: "began", at });
  const stopped = await load.run(at);
  const { user, system } = process.cpuUsage(before);
  const { work, presented } = load;
  await send({ state: "done", stopped, work, presented, cpu_s: (user + system) / 1e6 });
  process.disconnect();
}

let load: Load | null = null;

async function hear(message: ToLoad): Promise<void> {
  if ("order" in message) {
    load = new Load(message.order, await callersOf(message.order));
    await send({ state: "ready" });
    return;
  }
  if (load === null) throw new Error("an order comes first");
  if ("begin" in message) await begin(load);
  else if ("credentials" in message) {
    await load.replace(message.credentials);
    await send({ state: "replaced", generation: message.credentials.generation });
  } else if ("revoking" in message) load.revoking(message.revoking);
  else load.stop();
}

// Ctrl-C reaches the whole group: whoever started this process ends it.
process.on("SIGINT", () => undefined);
process.on("message", (message) => {
  hear(message as ToLoad).catch((error: unknown) => {
    process.stderr.write(`${(error as Error).stack}\n`);
    process.exit(1);
  });
});
