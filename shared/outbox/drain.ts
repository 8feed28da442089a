// The drain's decision: select waiting events, send them in packs, delete them by id. Called by the OutboxDrain object
// (Postgres) and by objects with an outbox of their own (SQLite). It keeps no watermark, since ids commit out of order,
// and takes no locks, since they would die before the send.
//
// What stands where after a crash:
//   before the send           the rows wait; the next drain sends them
//   after the send            the rows wait and are sent again; the log knows their event ids and keeps one
//   after the delete          done

import { utf8Length } from "../contract/bytes.ts";
import type { Log } from "../contract/ports.ts";

/** Rows a select takes; a full one says that more may wait. */
export const drainRowsMax = 1_000;
/** A message, as JSON text. The platform's limit is 128 KB (Cloudflare Queues, limits). */
export const messageBytesMax = 60_000;
/** One sendBatch: at most 100 messages and 256 KB (Cloudflare Queues, limits). */
const sendBytesMax = 250_000;
const sendMessagesMax = 100;

export interface OutboxRow {
  /** The store's own id of the row, as text. */
  readonly id: string;
  /** `eventText()` of the event. */
  readonly body: string;
}

export interface DrainPort {
  /** Up to `limit` rows, oldest id first. */
  select(limit: number): Promise<readonly OutboxRow[]>;
  /** When it resolves, the queue has all of the messages. */
  send(messages: readonly string[]): Promise<void>;
  remove(ids: readonly string[]): Promise<void>;
}

export interface Drained {
  readonly events: number;
  /** More rows may wait. */
  readonly full: boolean;
}

/** One pass. Throws what the port throws; a later pass resumes. */
export async function drainOnce(port: DrainPort): Promise<Drained> {
  const rows = await port.select(drainRowsMax);
  for (const call of packCalls(rows)) {
    await port.send(call.messages);
    await port.remove(call.ids);
  }
  return { events: rows.length, full: rows.length === drainRowsMax };
}

/** Passes until nothing waits. False: a pass failed, and was told to `log`; the rest waits for the next try. */
export async function drainAll(port: DrainPort, log: Log, fields: Readonly<Record<string, string>>): Promise<boolean> {
  try {
    while ((await drainOnce(port)).full);
    return true;
  } catch (error) {
    log("warn", "outbox drain failed, will try again", { ...fields, error: errorName(error) });
    return false;
  }
}

/** What of an error may be logged: messages can quote a payload. */
export const errorName = (error: unknown): string => (error instanceof Error ? error.name : typeof error);

interface SendCall {
  readonly messages: string[];
  readonly ids: string[];
}

/** Rows as calls of sendBatch, in order, each within the platform's bounds. */
export function packCalls(rows: readonly OutboxRow[]): SendCall[] {
  const calls: SendCall[] = [];
  let call: SendCall = { messages: [], ids: [] };
  let callBytes = 0;
  let bodies: string[] = [];
  let messageBytes = 2;
  const closeMessage = (): void => {
    if (bodies.length === 0) return;
    call.messages.push(`[${bodies.join(",")}]`);
    callBytes += messageBytes;
    bodies = [];
    messageBytes = 2;
  };
  const closeCall = (): void => {
    closeMessage();
    if (call.messages.length > 0) calls.push(call);
    call = { messages: [], ids: [] };
    callBytes = 0;
  };
  for (const row of rows) {
    const bytes = utf8Length(row.body) + 1;
    if (messageBytes + bytes > messageBytesMax) closeMessage();
    if (callBytes + messageBytes + bytes > sendBytesMax || call.messages.length >= sendMessagesMax) closeCall();
    bodies.push(row.body);
    messageBytes += bytes;
    call.ids.push(row.id);
  }
  closeCall();
  return calls;
}
