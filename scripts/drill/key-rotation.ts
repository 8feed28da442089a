// `npm run drill -- key-rotation`: the marketplace's signing key and the fetchers' authority rotate five times under 200 requests a
// second, and SVIDs of every revoked authority are presented on purpose. ADR-1239 says why it is measured so.

import { fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { readAuthority } from "../../cli/svid/authority-folder.ts";
import { runMaestro } from "../../cli/program.ts";
import { bundleOfState } from "../../shared/identity/issue/authority-state.ts";
import type { Rotation } from "../../shared/contract/http-rotations.ts";
import type { Bench } from "../bench/benchmark.ts";
import { rotateFetchers } from "./authority-rotation.ts";
import type { Drill, DrillOutcome, DrillRecord } from "./drill.ts";
import { keyFigures, type KeyMeasured, type Place, type Revocation, type RotationTimes } from "./key-figures.ts";
import type { Credentials, FromLoad, KeyOrder, ToLoad } from "./key-load.ts";
import { drillHost } from "./key-host.ts";
import type { KeySetting } from "./key-plan.ts";
import { checkpointsText, keyReport, requestLines, timelineText, type LogVerified, type Step } from "./key-report.ts";
import { fetcher, keyWorld, type KeyStack, type KeyWorld } from "./key-world.ts";

const fullSetting: KeySetting = {
  variant: "full",
  rotations: 5,
  per_s: {
    fetch_a: 66,
    fetch_b: 120,
    call_token: 6,
    call_certificate: 4,
    install: 2,
    verify: 1,
    publish: 0.5,
    receipt: 0.5,
  },
  offered_per_s: 200,
  lead_ms: 5_000,
  tail_ms: 5_000,
  policies: 4,
  bundle_bytes: 3_000,
  present_every_ms: 1_000,
  present_closely_every_ms: 250,
  svid_ttl_s: 3_600,
};

/** For whoever works on the drill. */
export const shortSetting: KeySetting = {
  ...fullSetting,
  variant: "short",
  rotations: 2,
  per_s: {
    fetch_a: 8,
    fetch_b: 8,
    call_token: 4,
    call_certificate: 3,
    install: 1,
    verify: 1,
    publish: 0.5,
    receipt: 0.5,
  },
  offered_per_s: 26,
  lead_ms: 2_000,
  tail_ms: 2_000,
};

const setting = process.env["MAESTRO_DRILL_SHORT"] === "1" ? shortSetting : fullSetting;

const pollMs = 100;
const signerMsMax = 120_000;
const observeMsMax = 60_000;
const readyMsMax = 60_000;
/** After the load was told to stop: the slowest answer, and a pack that is waited for. */
const endMsMax = 120_000;

export const keyRotation: Drill = {
  about: "the signing key of releases and the fetchers' authority rotate five times under 200 requests/s",
  settings: { ...setting },
  goals: [
    { figure: "failed", is: "at_most", limit: 0 },
    { figure: "accepted_after_revocation", is: "at_most", limit: 0 },
  ],
  run: (bench, keepsRecord) => rotateKeys(bench, setting, keepsRecord),
  evidence(result, _signal, record) {
    const folder = `key-rotation-${result.started_at.slice(0, 10)}`;
    const files: DrillRecord = {
      ...record,
      "key-rotation.json": `${JSON.stringify(result, null, 2)}\n`,
      "README.md": keyReport(result),
    };
    return Promise.resolve(
      Object.fromEntries(Object.entries(files).map(([name, content]) => [`${folder}/${name}`, content])),
    );
  },
};

/** What of a stack the drill needs. */
export interface KeyBench extends Pick<Bench, "signal" | "progress"> {
  readonly stack: KeyStack;
}

/** The whole drill, with whatever setting: a test runs a short one. */
export async function rotateKeys(bench: KeyBench, setting: KeySetting, keepsRecord: boolean): Promise<DrillOutcome> {
  const { stack, signal, progress } = bench;
  const folder = mkdtempSync(join(stack.folder, "drill-"));
  const load = startLoad(signal);
  try {
    progress("a tenant, its policies, its authority");
    const world = await keyWorld(stack, setting, join(folder, "authority"), signal);
    const first = await world.mint(await readAuthority(world.authorityFolder), 0);
    await enrol(stack, world, first, signal);
    const urls = { a: stack.edge.a, b: stack.edge.b, api: stack.apiUrl, tls: stack.tls.url };
    const { tenant, serverAuthorityPem, bundles } = world;
    await load.order({ setting, tenant, urls, serverAuthorityPem, bundles, credentials: first, folder });
    progress("verifying the log");
    const before = await verifiedLog(stack, world, folder, signal);

    const began = await load.begin();
    const steps: Step[] = [];
    const rotations: RotationTimes[] = [];
    const revocations: Revocation[] = [];
    await sleep(setting.lead_ms, undefined, { signal });
    for (let rotation = 1; rotation <= setting.rotations; rotation += 1) {
      const note = (identity: Step["identity"]) => (step: string) => {
        steps.push({ at: Date.now(), identity, rotation, step });
        progress(`rotation ${rotation} of ${setting.rotations}: ${identity}: ${step}`);
      };
      const timed = async (identity: Step["identity"], work: () => Promise<void>): Promise<void> => {
        const started = Date.now();
        await work();
        rotations.push({ identity, started, revoked: Date.now() });
      };
      await load.during([
        timed("signer", () => rotateSigner(world, note("signer"), signal)),
        timed("fetchers", async () => {
          const generation = rotation - 1;
          const revocation = await rotateFetchers({
            world,
            generation,
            signal,
            reissue: load.reissue,
            replaced: load.replaced,
            revoking: load.revoking,
            step: note("fetchers"),
          });
          revocations.push(revocation);
        }),
      ]);
    }
    progress("presenting what is revoked, a last time");
    await load.during([sleep(setting.tail_ms, undefined, { signal })]);
    const done = await load.end();
    progress("verifying the log");
    const after = await verifiedLog(stack, world, folder, signal);

    const { stopped, work, presented } = done;
    const measured: KeyMeasured = { began, stopped, work, presented, revocations, rotations, troubles: world.troubles };
    const { headline, parts, complaints } = keyFigures(setting, measured);
    const record = {
      "timeline.json": timelineText(measured, steps),
      "requests.csv.gz": requestLines(measured),
      "checkpoints.json": checkpointsText(before, after),
    };
    if (keepsRecord) await archive(stack, began, record);
    const failures = headline["failed"]! + headline["accepted_after_revocation"]!;
    return {
      headline: { ...headline, load_cpu_s: done.cpu_s },
      parts,
      faults: failures === 0 ? [] : complaints,
      record,
    };
  } finally {
    load.kill();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The first bundle, the fetcher's ID, and until both edges and the API take its SVID. */
async function enrol(stack: KeyStack, world: KeyWorld, first: Credentials, signal: AbortSignal): Promise<void> {
  const document = bundleOfState(await readAuthority(world.authorityFolder));
  await world.admin("PUT", `/api/identity/trust-domains/${world.trustDomain}/bundle`, { document });
  await world.admin("POST", "/api/identity/workloads", { spiffe_id: fetcher, role: "fetcher" });
  const until = Date.now() + observeMsMax;
  for (;;) {
    const accepted = await acceptedAt(stack, world, first, signal);
    if (accepted.length === 4) return;
    if (Date.now() > until) throw new Error(`the first SVID is taken at ${accepted.join(", ")} alone`);
    await sleep(pollMs, undefined, { signal });
  }
}

/** Asked from here, over connections of the moment, with the certificate told as the front tells it. */
async function acceptedAt(
  { edge, apiUrl }: KeyStack,
  { tenant }: KeyWorld,
  { edgeToken, apiToken, chainPem }: Credentials,
  signal: AbortSignal,
): Promise<Place[]> {
  const leaf = chainPem.replaceAll(/-----[A-Z ]+-----|\s/g, "");
  const tlsClientAuth = { certPresented: "1", certRFC9440: `:${leaf}:`, certChainRFC9440: "" };
  const asked: Readonly<Record<Place, readonly [url: string, headers: Record<string, string>]>> = {
    a: [`${edge.a}/tuf/${tenant.slug}/timestamp.json`, { authorization: `Bearer ${edgeToken}` }],
    b: [`${edge.b}/tuf/${tenant.slug}/timestamp.json`, { authorization: `Bearer ${edgeToken}` }],
    api_token: [`${apiUrl}/api/whoami`, { authorization: `Bearer ${apiToken}` }],
    api_certificate: [`${apiUrl}/api/whoami`, { "mf-cf-blob": JSON.stringify({ tlsClientAuth }) }],
  };
  const found = await Promise.all(
    Object.entries(asked).map(async ([place, [url, headers]]) => {
      const response = await fetch(url, { headers, signal });
      await response.arrayBuffer();
      return response.ok ? [place as Place] : [];
    }),
  );
  return found.flat();
}

async function rotateSigner(world: KeyWorld, step: (name: string) => void, signal: AbortSignal): Promise<void> {
  const { id } = (await world.admin("POST", "/api/rotations", { kind: "release" })) as Rotation;
  const until = Date.now() + signerMsMax;
  let seen = 0;
  for (;;) {
    const { state, obstacle, transitions } = (await world.admin("GET", `/api/rotations/${id}`)) as Rotation;
    for (const transition of transitions.slice(seen)) step(transition.state);
    seen = transitions.length;
    if (state === "revoked" && obstacle === null) return;
    if (Date.now() > until) throw new Error(`the rotation ${id} is ${state}: ${obstacle ?? "no obstacle"}`);
    await sleep(pollMs, undefined, { signal });
  }
}

/** The head of the tenant's log, and what `maestro audit verify` says of it, with the keys that it remembers in `folder`. */
async function verifiedLog(
  { apiUrl }: KeyStack,
  { tenant }: KeyWorld,
  folder: string,
  signal: AbortSignal,
): Promise<LogVerified> {
  const at = Date.now();
  const key = tenant.keys.auditor;
  const response = await fetch(`${apiUrl}/api/audit/checkpoint`, {
    headers: { authorization: `Bearer ${key}` },
    signal,
  });
  const checkpoint = await response.text();
  if (!response.ok) throw new Error(`the checkpoint was answered ${response.status} ${checkpoint}`);
  const host = drillHost({ apiUrl, key, folder }, signal);
  await runMaestro(["audit", "verify", "--threads", "1", "--json"], host);
  if (host.out() === "") throw new Error(`maestro audit verify said nothing but: ${host.said()}`);
  return { at, checkpoint, verdict: JSON.parse(host.out()) as unknown };
}

/** Beside the log: put if it is not there, so that no record is ever replaced. */
async function archive({ miniflare }: KeyStack, began: number, record: DrillRecord): Promise<void> {
  const bucket = await miniflare.getR2Bucket("AUDIT_BUCKET", "maestro-audit");
  const prefix = `drills/key-rotation/${new Date(began).toISOString()}`;
  for (const [name, content] of Object.entries(record)) {
    const put = await bucket.put(`${prefix}/${name}`, content, { onlyIf: { etagDoesNotMatch: "*" } });
    if (put === null) throw new Error(`${prefix}/${name} is there already`);
  }
}

type Done = Extract<FromLoad, { state: "done" }>;

interface Load {
  order(order: KeyOrder): Promise<void>;
  /** Answers when it began. */
  begin(): Promise<number>;
  reissue(this: void, credentials: Credentials): void;
  /** The generation that everything is asked with. */
  replaced(this: void): number;
  revoking(this: void, generation: number): void;
  /** What is done under it; rejects at once where it ends before. */
  during(work: readonly Promise<unknown>[]): Promise<void>;
  end(): Promise<Done>;
  kill(): void;
}

function startLoad(signal: AbortSignal): Load {
  const child = fork(fileURLToPath(new URL("key-load.ts", import.meta.url)), {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: [],
  });
  let said = "";
  let replaced = 0;
  child.stderr!.on("data", (piece: Buffer) => void (said = (said + piece.toString()).slice(-2_000)));
  child.on("message", (message: FromLoad) => {
    if (message.state === "replaced") replaced = message.generation;
  });
  const ended = new Promise<never>((_resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`the load ended with ${code}: ${said}`)));
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
  ended.catch(() => {}); // Where nothing is awaited of it, it is what `kill` has done.
  const tell = (message: ToLoad): void => void child.send(message);
  async function heard<S extends FromLoad["state"]>(
    state: S,
    msMax: number,
    tellIt: () => void,
  ): Promise<Extract<FromLoad, { state: S }>> {
    const waiting = new AbortController();
    try {
      const answer = new Promise<Extract<FromLoad, { state: S }>>((resolve) => {
        const onMessage = (message: FromLoad): void => {
          if (message.state === state) resolve(message as Extract<FromLoad, { state: S }>);
        };
        child.on("message", onMessage);
        waiting.signal.addEventListener("abort", () => void child.off("message", onMessage));
      });
      const late = sleep(msMax, undefined, { signal: waiting.signal }).then(() => {
        throw new Error(`the load was not ${state} within ${msMax} ms`);
      });
      late.catch(() => {}); // Ended below, once there is an answer.
      tellIt();
      return await Promise.race([answer, late, ended]);
    } finally {
      waiting.abort();
    }
  }
  return {
    order: async (order) => void (await heard("ready", readyMsMax, () => tell({ order }))),
    begin: async () => (await heard("began", readyMsMax, () => tell({ begin: true }))).at,
    reissue: (credentials) => tell({ credentials }),
    replaced: () => replaced,
    revoking: (revoking) => tell({ revoking }),
    during: async (work) => void (await Promise.race([Promise.all(work), ended])),
    end: () => heard("done", endMsMax, () => tell({ stop: true })),
    kill: () => void child.kill("SIGKILL"),
  };
}
