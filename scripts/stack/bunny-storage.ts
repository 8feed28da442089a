// A small stand-in for Bunny Storage's HTTP API over a folder: provider B's store on this machine. Called by startStack; spoken
// to by the publishing side, which writes, and by provider B, which reads. https://docs.bunny.net/storage/http
//   PUT    /{zone}/{path}    201, or 400 where `Checksum` (upper-case hex SHA-256) is another's; folders come by themselves
//   GET    /{zone}/{path}    200, 206 with one `Range`, 404; with a slash at the end the entries of a folder
//   HEAD   /{zone}/{path}    as GET, without the body
//   DELETE /{zone}/{path}    200, 404; with a slash at the end a folder and all that is in it
// `AccessKey` is the zone's password, or the read-only one, with which nothing is written; else 401.

import { createHash, randomUUID, timingSafeEqual } from "node:crypto";
import { createReadStream, mkdirSync, rmSync, type Stats } from "node:fs";
import { mkdir, open, readdir, rename, rm, stat } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { loopback } from "./ports.ts";

export const bunnyZone = "maestro-edge";

const objectBytesMax = 256 * 1024 * 1024;
const pathBytesMax = 1_024;
const nameBytesMax = 255;
const entriesMax = 10_000;

export interface BunnyStorageOptions {
  /** Made when missing: objects are in `zone/` of it, writes that are under way in `drafts/`. */
  readonly folder: string;
  /** 0 = any free one, kept over stop() and start(). */
  readonly port: number;
  readonly accessKey: string;
  readonly readOnlyKey: string;
  /** True: a PUT that has answered is on the disk. */
  readonly durable: boolean;
}

export interface BunnyStorage {
  /** Without the zone, and without a slash at the end. */
  readonly url: string;
  readonly zone: string;
  start(): Promise<void>;
  stop(): Promise<void>;
}

class Refusal extends Error {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  constructor(status: number, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.headers = headers;
  }
}

const notThere = (): Refusal => new Refusal(404, "Object Not Found");

export async function startBunnyStorage(options: BunnyStorageOptions): Promise<BunnyStorage> {
  const root = join(options.folder, "zone");
  const drafts = join(options.folder, "drafts");
  mkdirSync(root, { recursive: true, mode: 0o700 });
  // What a killed stack left half-written.
  rmSync(drafts, { recursive: true, force: true });
  mkdirSync(drafts, { recursive: true, mode: 0o700 });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "" } = request;
    const given = request.headers["accesskey"];
    const isOwner = sameText(given, options.accessKey);
    const mayRead = isOwner || sameText(given, options.readOnlyKey);
    if (!mayRead || (!isOwner && method !== "GET" && method !== "HEAD")) throw new Refusal(401, "Unauthorized");
    const target = parsePath(request.url ?? "");
    if (target === null) throw new Refusal(400, "The path is not usable");
    if (target.zone !== bunnyZone) throw new Refusal(401, "Unauthorized");
    const path = join(root, ...target.segments);
    if (method === "PUT" && !target.isFolder) return await put(request, response, path);
    if (method === "PUT") {
      await mkdir(path, { recursive: true });
      return tell(response, 201, "Directory created.");
    }
    if (method === "DELETE") {
      const entry = await statOrNull(path);
      if (entry === null || entry.isDirectory() !== target.isFolder || target.segments.length === 0) throw notThere();
      await rm(path, { recursive: target.isFolder });
      return tell(response, 200, target.isFolder ? "Directory deleted successfuly." : "File deleted successfuly.");
    }
    if (method !== "GET" && method !== "HEAD") throw new Refusal(405, "Method Not Allowed");
    if (target.isFolder) return await list(response, path, target.segments);
    return await get(request, response, path);
  }

  async function put(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    const draft = join(drafts, randomUUID());
    const hash = createHash("sha256");
    let size = 0;
    try {
      const file = await open(draft, "wx", 0o600);
      try {
        for await (const chunk of request as AsyncIterable<Buffer>) {
          size += chunk.length;
          if (size > objectBytesMax) throw new Refusal(413, "Request Entity Too Large");
          hash.update(chunk);
          await file.writeFile(chunk);
        }
        if (options.durable) await file.sync();
      } finally {
        await file.close();
      }
      const wanted = request.headers["checksum"];
      if (wanted !== undefined && wanted !== hash.digest("hex").toUpperCase()) {
        throw new Refusal(400, "Checksum and file contents mismatched");
      }
      await mkdir(dirname(path), { recursive: true, mode: 0o700 }).catch(refuseTakenName);
      await rename(draft, path).catch(refuseTakenName);
      if (options.durable) await syncFolder(dirname(path));
    } finally {
      await rm(draft, { force: true });
    }
    tell(response, 201, "File uploaded.");
  }

  async function get(request: IncomingMessage, response: ServerResponse, path: string): Promise<void> {
    const entry = await statOrNull(path);
    if (entry === null || !entry.isFile()) throw notThere();
    const range = rangeOf(request.headers.range, entry.size);
    if (range === "beyond")
      throw new Refusal(416, "Range Not Satisfiable", { "content-range": `bytes */${entry.size}` });
    const { from, to } = range ?? { from: 0, to: entry.size - 1 };
    response.writeHead(range === null ? 200 : 206, {
      "content-type": "application/octet-stream",
      "content-length": to - from + 1,
      "last-modified": entry.mtime.toUTCString(),
      "accept-ranges": "bytes",
      ...(range === null ? {} : { "content-range": `bytes ${from}-${to}/${entry.size}` }),
    });
    if (request.method === "HEAD" || entry.size === 0) response.end();
    else await pipeline(createReadStream(path, { start: from, end: to }), response);
  }

  async function list(response: ServerResponse, path: string, segments: readonly string[]): Promise<void> {
    // A folder that is not there is an empty one: so Bunny answers, too.
    const names = await readdir(path).catch((error: unknown) => {
      if (isMissing(error)) return [];
      throw error;
    });
    const entries: unknown[] = [];
    for (const name of names.toSorted((left, right) => (left < right ? -1 : 1)).slice(0, entriesMax)) {
      const entry = await statOrNull(join(path, name));
      if (entry === null) continue;
      entries.push({
        StorageZoneName: bunnyZone,
        Path: `/${[bunnyZone, ...segments].join("/")}/`,
        ObjectName: name,
        Length: entry.isDirectory() ? 0 : entry.size,
        LastChanged: entry.mtime.toISOString().slice(0, -1),
        IsDirectory: entry.isDirectory(),
      });
    }
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(entries));
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      const refusal = error instanceof Refusal ? error : new Refusal(500, "Internal Server Error");
      if (response.headersSent || response.destroyed) response.destroy();
      else tell(response, refusal.status, refusal.message, refusal.headers);
      // The rest of a body that nobody wants any more is not read.
      if (!request.complete) response.once("finish", () => request.destroy());
    });
  });

  let { port } = options;
  async function start(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, loopback, () => {
        server.off("error", reject);
        resolve();
      });
    });
    ({ port } = server.address() as AddressInfo);
  }
  await start();
  return {
    url: `http://${loopback}:${port}`,
    zone: bunnyZone,
    start,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function tell(
  response: ServerResponse,
  status: number,
  message: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  response
    .writeHead(status, { ...headers, "content-type": "application/json" })
    .end(JSON.stringify({ HttpCode: status, Message: message }));
}

/** Zone and path of a request's target. Null for what is no path of an object: empty or dotted segments, NUL, too long. */
function parsePath(target: string): { zone: string; segments: string[]; isFolder: boolean } | null {
  const [path = ""] = target.split("?");
  if (!path.startsWith("/") || path.length > pathBytesMax) return null;
  let parts: string[];
  try {
    parts = path.slice(1).split("/").map(decodeURIComponent);
  } catch {
    return null;
  }
  const isFolder = parts.at(-1) === "";
  if (isFolder) parts.pop();
  const isName = (part: string): boolean =>
    part !== "" && part !== "." && part !== ".." && !/[\0/\\]/.test(part) && Buffer.byteLength(part) <= nameBytesMax;
  const [zone, ...segments] = parts;
  if (zone === undefined || !parts.every(isName) || (segments.length === 0 && !isFolder)) return null;
  return { zone, segments, isFolder };
}

/** One range of `size` bytes; null for none, or one that is not understood, which HTTP passes over. */
function rangeOf(header: string | undefined, size: number): { from: number; to: number } | "beyond" | null {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? "");
  if (match === null || (match[1] === "" && match[2] === "")) return null;
  const last = size - 1;
  if (match[1] === "") {
    const count = Math.min(Number(match[2]), size);
    return count === 0 ? "beyond" : { from: size - count, to: last };
  }
  const from = Number(match[1]);
  const to = match[2] === "" ? last : Math.min(Number(match[2]), last);
  if (match[2] !== "" && Number(match[2]) < from) return null;
  return from > last ? "beyond" : { from, to };
}

function sameText(given: string | readonly string[] | undefined, wanted: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return typeof given === "string" && timingSafeEqual(digest(given), digest(wanted));
}

const isMissing = (error: unknown): boolean =>
  ["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "");

async function statOrNull(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** A file where a folder is wanted, or the other way round. */
function refuseTakenName(error: unknown): never {
  if (["EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY"].includes((error as NodeJS.ErrnoException).code ?? "")) {
    throw new Refusal(400, "The path is taken by something of another kind");
  }
  throw error;
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
