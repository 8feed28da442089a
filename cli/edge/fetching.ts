// A fetcher as the command line has it: what it is told by options, files and the environment, opened on what is held on this machine.
// Called by `maestro edge fetch|serve`; `status` and `clear` take the folder from here.

import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { InvalidArgumentError } from "commander";
import { EdgeCounters, type EdgeCounts } from "../../shared/edge/edge-counters.ts";
import { openEdgeFetcher, type EdgeFetcher } from "../../shared/edge/edge-fetcher.ts";
import type { HeldState } from "../../shared/edge/held-state.ts";
import { parseProviders, providersBytesMax, type Provider } from "../../shared/edge/providers.ts";
import { metadataBytesMax } from "../../shared/edge/trusted-metadata.ts";
import { targetPath } from "../../shared/edge/tuf.ts";
import { channelArgument, policyArgument } from "../command.ts";
import { errorCode, Failure } from "../failure.ts";
import { folderOf } from "../folders.ts";
import { printable } from "../output.ts";
import type { Session } from "../session.ts";
import { readCounts, writeCounts } from "./counts-file.ts";
import { FetcherSvid } from "./fetcher-svid.ts";
import { openHeldFolder } from "./held-folder.ts";
import { httpProviders, readBounds } from "./http-provider.ts";
import { readIdentity, type InstanceIdentity } from "./instance-file.ts";
import { edgeTools, nodeTimer } from "./node-parts.ts";
import { CacheCounts } from "./report.ts";

const policiesMax = 200;
const keyBytesMax = 1_024;

export interface HeldOptions {
  readonly tenant: string;
  readonly state?: string;
}

export interface FetchOptions extends HeldOptions {
  readonly root: string;
  readonly publisher: readonly string[];
  readonly providers: string;
  readonly keyFile?: string;
}

export const stateFolder = ({ host }: Session, { tenant, state }: HeldOptions): string =>
  state === undefined ? resolve(folderOf(host, "state"), "edge", tenant) : resolve(host.cwd, state);

/** What a fetcher comes with; null where it has nothing to come with now. */
interface Credential {
  toEdges(): string | null;
  toApi(): string | null;
  /** Null: it comes with a key. */
  readonly svid: FetcherSvid | null;
}

export interface Fetching {
  /** Another one once the flag edge_multicdn was switched. */
  readonly fetcher: EdgeFetcher;
  readonly counters: EdgeCounters;
  /** As they were before this process. */
  readonly countsBefore: EdgeCounts;
  readonly folder: string;
  readonly identity: InstanceIdentity;
  readonly caches: CacheCounts;
  readonly credential: Credential;
  /** Those that are asked now, in the order of their file. */
  providers(): readonly Provider[];
  /** Between two refreshes: asks the providers that the flag leaves. True where these are others now. */
  followFlag(): Promise<boolean>;
  close(): Promise<void>;
}

export async function openFetching(session: Session, options: FetchOptions): Promise<Fetching> {
  const { host, out } = session;
  const parsed = parseProviders(await fileOf(session, options.providers, providersBytesMax));
  if (!parsed.ok) throw new Failure("usage", `${options.providers} cannot be used: ${printable(parsed.reason)}`);
  const { providers: all } = parsed.config;
  const folder = stateFolder(session, options);
  const store = await openHeldFolder(folder);
  const counters = new EdgeCounters(await readCounts(folder));
  const identity = await readIdentity(folder, host.now());
  const caches = new CacheCounts();
  const credential = await credentialOf(session, options.keyFile, counters);
  const http = httpProviders(
    all,
    () => credential.toEdges(),
    readBounds,
    (provider, cacheStatus) => caches.saw(provider, cacheStatus),
  );
  const providersNow = (): Provider[] => (identity.asksOneProvider(host.now()) ? all.slice(0, 1) : [...all]);
  let providers = providersNow();
  const parts = {
    tenant: options.tenant,
    publishers: options.publisher.map(publisherKey),
    start: http.start,
    store,
    tools: edgeTools,
    clock: () => host.now(),
    timer: nodeTimer,
    counters,
  };
  const pin = await fileOf(session, options.root, metadataBytesMax.root);
  const openWith = async (state: HeldState | null): Promise<EdgeFetcher> => {
    const opened = await openEdgeFetcher({ ...parts, providers: providers.map(({ name }) => name) }, pin, state);
    if (opened.ok) return opened.fetcher;
    throw new Failure("usage", `${folder} cannot be gone on with: ${printable(opened.reason)}`, {
      advice: "Name another folder with --state, or the root and the tenant that it began with.",
    });
  };
  let fetcher = await openWith(await store.load());
  const close = async (): Promise<void> => {
    http.close();
    const why = await writeCounts(folder, counters.read());
    if (why !== null) out.note(`the counters could not be written to ${folder} (${why})`);
  };
  return {
    get fetcher() {
      return fetcher;
    },
    counters,
    countsBefore: counters.read(),
    folder,
    identity,
    caches,
    credential,
    providers: () => providers,
    async followFlag() {
      const wanted = providersNow();
      if (wanted.length === providers.length) return false;
      providers = wanted;
      fetcher = await openWith(fetcher.state);
      return true;
    },
    close,
  };
}

async function fileOf({ host }: Session, path: string, bytesMax: number): Promise<string> {
  try {
    const bytes = await readFile(resolve(host.cwd, path));
    if (bytes.length > bytesMax) throw new Failure("usage", `${path} has more than ${bytesMax} bytes`);
    return bytes.toString("utf8");
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure("usage", `${path} cannot be read (${errorCode(error) ?? "unknown"})`);
  }
}

async function credentialOf(
  session: Session,
  keyFile: string | undefined,
  counters: EdgeCounters,
): Promise<Credential> {
  const { svidFolder } = session;
  if (svidFolder === null) {
    const key = await fetcherKey(session, keyFile);
    return { toEdges: () => key, toApi: () => key, svid: null };
  }
  const svid = new FetcherSvid(svidFolder, () => counters.add("svid_rotations"));
  return { toEdges: () => svid.bearer("maestro-edge"), toApi: () => svid.bearer("maestro-api"), svid };
}

/** From a file or the environment, never an argument: those are seen by everybody on the machine. */
async function fetcherKey(session: Session, file: string | undefined): Promise<string> {
  const key = (
    file === undefined ? (session.host.env["MAESTRO_FETCHER_KEY"] ?? "") : await fileOf(session, file, keyBytesMax)
  ).trim();
  if (/^[\x21-\x7e]+$/.test(key)) return key;
  throw new Failure("usage", "There is no fetcher's key", {
    advice:
      "An admin of the tenant makes one; name its file with --key-file, or put it into MAESTRO_FETCHER_KEY. Or name a folder of SVIDs with --svid:",
    command: "maestro keys create --role fetcher --out fetcher.key",
  });
}

function publisherKey(text: string): string {
  if (/^[A-Za-z0-9+/]{122}==$/.test(text)) return text;
  throw new Failure("usage", `${printable(text.slice(0, 40))} is not a publisher's key`, {
    advice: "It is the SPKI of a P-256 key in base64, 124 characters; `maestro market keygen` prints one's own.",
  });
}

/** Of NAME and NAME/CHANNEL, each once. Throws Failure `usage`. */
export function pathsOf(policies: readonly string[]): string[] {
  const paths = [...new Set(policies.map(pathArgument))];
  if (paths.length > policiesMax) throw new Failure("usage", `At most ${policiesMax} policies are followed at once`);
  return paths;
}

function pathArgument(text: string): string {
  const [name = "", channel = "stable", ...more] = text.split("/");
  if (more.length > 0) throw new Failure("usage", `${printable(text)} is not NAME or NAME/CHANNEL`);
  try {
    return targetPath(policyArgument(name), channelArgument(channel));
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new Failure("usage", `${printable(text)}: ${error.message}`);
    throw error;
  }
}
