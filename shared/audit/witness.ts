// A witness of transparency logs (https://c2sp.org/tlog-witness): it cosigns a checkpoint only where that continues the
// last one of its log that it cosigned, so that nobody can show two trees to two people. `maestro witness serve` is the
// server around it; the store is its memory, and all that stands between two requests at once.
//
// What stands where after a crash, in `addCheckpoint`:
//   verify, sign      nothing; the log asks again, and gets the same answer
//   advance           the new head and the cosigned note are durable, in one write, before a byte of the answer leaves;
//                     the log, which never saw it, asks again from the old size, hears 409 with the new one, and asks
//                     from there: the same tree gets another cosignature of a later time, another tree gets 422

import {
  base64,
  base64Bytes,
  bytesEqual,
  hex,
  hexBytes,
  sha256Hex,
  utf8,
  utf8Text,
  type Bytes,
} from "../contract/bytes.ts";
import type { Clock } from "../contract/ports.ts";
import { verifySignature, type Signer } from "../signing/keys.ts";
import { cosign } from "./cosignature.ts";
import { importEd25519, noteTypes, parseNote, signaturesBy, type Note, type VerifierKey } from "./note.ts";
import { emptyRoot, hashBytes, verifyConsistency, type Sha256 } from "./tree.ts";

/** The largest request that is read: 63 hashes, and a checkpoint with a good many signatures, some of them post-quantum. */
export const requestBytesMax = 128 * 1024;
/** "The client MUST NOT send more than 63 consistency proof lines." */
const proofLinesMax = 63;

export interface WitnessedHead {
  readonly size: number;
  /** Lower-case hex. */
  readonly root_sha256: string;
}

export interface WitnessStore {
  /** The last head of this log that was cosigned; null where there is none. */
  read(origin: string): Promise<WitnessedHead | null>;
  /**
   * Sets the log's head to `to` where it still is `from`, atomically against every other call, other processes' too.
   * When it resolves to true, head and note are durable.
   */
  advance(origin: string, from: WitnessedHead | null, to: WitnessedHead, note: string): Promise<boolean>;
  /** The note of the last `advance`. `originSha256`: lower-case hex. */
  note(originSha256: string): Promise<string | null>;
}

export interface WitnessParts {
  readonly name: string;
  /** Ed25519. */
  readonly signer: Signer;
  /** Logs that are watched: Ed25519 keys whose name is the log's origin. */
  readonly logs: readonly VerifierKey[];
  readonly store: WitnessStore;
  readonly clock: Clock;
  readonly sha256: Sha256;
}

export interface WitnessAnswer {
  readonly status: 200 | 400 | 403 | 404 | 409 | 422;
  readonly contentType: string;
  readonly body: string;
  /** For the server's log: what the request was about, where that could be read. */
  readonly origin: string | null;
  readonly size: number | null;
}

interface Request {
  readonly old: number;
  readonly proof: readonly Bytes[];
  readonly note: Note;
  readonly origin: string;
  readonly size: number;
  readonly root: Bytes;
}

const decimal = /^(?:0|[1-9]\d{0,15})$/;

function sizeOf(text: string | undefined): number | null {
  const size = text !== undefined && decimal.test(text) ? Number(text) : null;
  return size !== null && Number.isSafeInteger(size) ? size : null;
}

function hashOf(line: string): Bytes | null {
  try {
    const bytes = base64Bytes(line);
    return bytes.length === hashBytes ? bytes : null;
  } catch {
    return null; // not base64
  }
}

/** The text of an `add-checkpoint` request: what a log sends. */
export const addCheckpointText = (old: number, proof: readonly Uint8Array[], note: string): string =>
  [`old ${old}`, ...proof.map((hash) => base64(hash)), "", note].join("\n");

/** The tree size in the body of a 409, or null where it is none. */
export const conflictSize = (body: string): number | null => (body.endsWith("\n") ? sizeOf(body.slice(0, -1)) : null);

function parseRequest(body: Uint8Array): Request | string {
  let text: string;
  try {
    text = utf8Text(body);
  } catch {
    return "the request is not UTF-8";
  }
  const end = text.indexOf("\n\n");
  const [oldLine, ...proofLines] = text.slice(0, Math.max(0, end)).split("\n");
  const old = sizeOf(/^old (\S+)$/.exec(oldLine ?? "")?.[1]);
  if (end < 0 || old === null) return "the request does not begin with the line of the old size";
  if (proofLines.length > proofLinesMax) return `the proof has more than ${proofLinesMax} lines`;
  const proof = proofLines.map(hashOf);
  if (!proof.every((hash) => hash !== null)) return "a line of the proof is not a hash in base64";
  const note = parseNote(text.slice(end + 2));
  if (note === null) return "the checkpoint is not a signed note";
  // At least three lines that are not empty; more are extensions, which are cosigned with the rest.
  const [origin = "", sizeLine, rootLine = "", ...extensions] = note.text.slice(0, -1).split("\n");
  const size = sizeOf(sizeLine);
  const root = hashOf(rootLine);
  if (origin === "" || size === null || root === null || extensions.includes(""))
    return "the note is not a checkpoint: origin, size, root";
  return { old, proof, note, origin, size, root };
}

const plain = "text/plain; charset=utf-8";

/** Answers an `add-checkpoint` request. Throws only what the store and the signer throw: nothing was promised then. */
export async function addCheckpoint(parts: WitnessParts, body: Uint8Array): Promise<WitnessAnswer> {
  const request = parseRequest(body);
  if (typeof request === "string")
    return { status: 400, contentType: plain, body: `${request}\n`, origin: null, size: null };
  const { old, note, origin, size } = request;
  const answer = (status: WitnessAnswer["status"], text: string, contentType = plain): WitnessAnswer => ({
    status,
    contentType,
    body: text,
    origin,
    size,
  });
  const refused = (status: 400 | 403 | 404 | 422, reason: string): WitnessAnswer => answer(status, `${reason}\n`);
  const conflict = (head: WitnessedHead | null): WitnessAnswer =>
    answer(409, `${head?.size ?? 0}\n`, "text/x.tlog.size");

  const keys = parts.logs.filter(({ name, type }) => name === origin && type === noteTypes.ed25519);
  if (keys.length === 0) return refused(404, "this log is not watched here");
  const logLines = await signaturesOfLog(keys, note);
  if (logLines === null) return refused(403, "the checkpoint is not signed by a key of this log that is trusted here");
  if (old > size) return refused(400, "the old size is larger than the checkpoint's");

  const head = await parts.store.read(origin);
  if (old !== (head?.size ?? 0)) return conflict(head);
  const fault = inconsistency(parts.sha256, head, request);
  if (fault !== null) return refused(422, fault);

  const line = await cosign(parts.signer, parts.name, note.text, Math.floor(parts.clock() / 1000));
  const next = { size, root_sha256: hex(request.root) };
  const isDurable = await parts.store.advance(origin, head, next, `${note.text}\n${logLines}${line}`);
  // Another request was faster: this signature is thrown away, unseen.
  return isDurable ? answer(200, line) : conflict(await parts.store.read(origin));
}

/** The log's own lines on its note, each verified; null where there is none, or one that does not verify. */
async function signaturesOfLog(keys: readonly VerifierKey[], note: Note): Promise<string | null> {
  let lines = "";
  for (const key of keys) {
    const publicKey = await importEd25519(key);
    for (const { signature, line } of signaturesBy(note.signatures, key)) {
      if (publicKey === null || !(await verifySignature(publicKey, signature, utf8(note.text)))) return null;
      lines += line;
    }
  }
  return lines === "" ? null : lines;
}

/** Why the checkpoint does not continue the last one; null where it does. */
function inconsistency(sha256: Sha256, head: WitnessedHead | null, request: Request): string | null {
  const { size, root, proof, old } = request;
  if (size === 0 && !bytesEqual(root, emptyRoot(sha256))) return "the root is not that of an empty tree";
  if (head === null || old === 0) return proof.length === 0 ? null : "there is nothing to prove from size zero";
  if (old === size) {
    if (hex(root) !== head.root_sha256) return "another tree of this size was cosigned before";
    return proof.length === 0 ? null : "there is nothing to prove between equal sizes";
  }
  const root1 = hexBytes(head.root_sha256);
  return verifyConsistency(sha256, { size1: old, root1, size2: size, root2: root, proof })
    ? null
    : "the proof does not lead from the last cosigned tree to this one";
}

/** `GET /<hex SHA-256 of the origin>/checkpoint`, by the path behind the prefix: the last note, cosigned; null: 404. */
export async function readCheckpoint(store: WitnessStore, path: string): Promise<string | null> {
  const originSha256 = /^\/([0-9a-f]{64})\/checkpoint$/.exec(path)?.[1];
  return originSha256 === undefined ? null : await store.note(originSha256);
}

export const originSha256 = (origin: string): Promise<string> => sha256Hex(utf8(origin));
