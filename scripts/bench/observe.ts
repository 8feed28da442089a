// Watches both ends of the chain from outside: the rows in Postgres by asking for each tenant's highest `seq`, the bucket by
// the times at which its objects were put. Called by the chain benchmark.

import { setTimeout as sleep } from "node:timers/promises";
import { gunzipSync } from "node:zlib";
import { parseRange, type Range } from "../../shared/audit/layout.ts";
import { newestSchema } from "../../shared/audit/segment-schema.ts";
import { readSegment, type Gzip } from "../../shared/audit/segment.ts";
import { clientOf, withClient } from "../stack/connection.ts";
import type { Stack } from "../stack/index.ts";
import type { Sighting } from "./schedule.ts";

/** The most that watching adds to a lag, beside the question's own time. */
const pollMs = 20;

const gzip: Gzip = {
  deflate() {
    throw new Error("a benchmark writes no segment");
  },
  inflate: (bytes) => new Uint8Array(gunzipSync(bytes)),
};

export interface RowsWatch {
  /** Resolves when every tenant has that many rows, or after `waitMs` without them all. */
  until(rows: readonly number[], waitMs: number, signal: AbortSignal): Promise<void>;
  /** Ends the watch: what was seen when, by tenant. */
  stop(): Promise<Sighting[][]>;
}

/**
 * The log's rows are written in `seq` order, so that the highest one tells that those below it are there; that this was
 * so is checked afterwards, row by row.
 */
export async function watchRows(stack: Stack, tenantIds: readonly string[]): Promise<RowsWatch> {
  const client = clientOf(stack.databaseUrls.owner);
  await client.connect();
  const sightings: Sighting[][] = tenantIds.map(() => []);
  const ended = new AbortController();
  const watching = (async () => {
    while (!ended.signal.aborted) {
      const { rows } = await client.query<{ below: string | null }>({
        name: "highest",
        text: `select (select max(seq) + 1 from audit_events where tenant_id = given.id) as below
               from unnest($1::uuid[]) with ordinality as given (id, position) order by position`,
        values: [tenantIds],
      });
      const at = Date.now();
      for (const [tenant, { below }] of rows.entries()) {
        const seen = sightings[tenant]!;
        if (Number(below) > (seen.at(-1)?.below ?? 0)) seen.push({ at, below: Number(below) });
      }
      await sleep(pollMs);
    }
  })();
  // `stop` tells.
  watching.catch(() => ended.abort());
  return {
    async until(rows, waitMs, signal) {
      const end = performance.now() + waitMs;
      while (!ended.signal.aborted && performance.now() < end) {
        if (rows.every((count, tenant) => (sightings[tenant]!.at(-1)?.below ?? 0) >= count)) return;
        await sleep(pollMs, undefined, { signal });
      }
    },
    async stop() {
      ended.abort();
      try {
        await watching;
      } finally {
        await client.end();
      }
      return sightings;
    },
  };
}

/** A tenant's rows as [seq, event id], in `seq` order: past row security, as they stand. */
export async function indexedRows(stack: Stack, tenantId: string): Promise<LoggedRow[]> {
  const { rows } = await withClient(stack.databaseUrls.owner, (client) =>
    client.query<{ seq: string; event_id: string }>(
      "select seq, event_id from audit_events where tenant_id = $1 order by seq",
      [tenantId],
    ),
  );
  return rows.map(({ seq, event_id: eventId }) => ({ seq: Number(seq), eventId }));
}

export interface LoggedRow {
  readonly seq: number;
  readonly eventId: string;
}

export interface Published {
  /** Objects under the tenant's prefix: each was put once. */
  readonly objects: number;
  /** Manifests, with the checkpoint that each holds, in order of their ranges. */
  readonly manifests: readonly { readonly range: Range; readonly putAt: number }[];
  /** The rows of all segments, as they stand in Parquet. */
  readonly rows: readonly LoggedRow[];
}

/** Objects in the bucket, of all tenants and kinds: each was put once, and none is ever removed. */
export async function objectsInBucket(stack: Stack): Promise<number> {
  const bucket = await stack.miniflare.getR2Bucket("AUDIT_BUCKET", "maestro-audit");
  let count = 0;
  let cursor: string | undefined;
  do {
    const page = await bucket.list(cursor === undefined ? {} : { cursor });
    count += page.objects.length;
    cursor = page.truncated ? page.cursor : undefined;
  } while (cursor !== undefined);
  return count;
}

export async function publishedOf(stack: Stack, tenantId: string): Promise<Published> {
  const bucket = await stack.miniflare.getR2Bucket("AUDIT_BUCKET", "maestro-audit");
  const listed: { key: string; putAt: number }[] = [];
  let cursor: string | undefined;
  do {
    const page = await bucket.list({ prefix: `${tenantId}/`, ...(cursor === undefined ? {} : { cursor }) });
    listed.push(...page.objects.map(({ key, uploaded }) => ({ key, putAt: uploaded.getTime() })));
    cursor = page.truncated ? page.cursor : undefined;
  } while (cursor !== undefined);
  const named = listed.flatMap(({ key, putAt }) => {
    const match = /^[^/]+\/(seg|manifest)\/([^/.]+)\./.exec(key);
    const range = match === null ? null : parseRange(match[2]!);
    return range === null ? [] : [{ kind: match![1], key, putAt, range }];
  });
  named.sort((left, right) => left.range.from - right.range.from);
  const rows: LoggedRow[] = [];
  for (const { key, range } of named.filter(({ kind }) => kind === "seg")) {
    const object = await bucket.get(key);
    if (object === null) throw new Error(`${key} was listed, but is not there`);
    const bytes = new Uint8Array(await object.arrayBuffer());
    const read = await readSegment({ tenantId, range, version: newestSchema }, bytes, gzip);
    if (!read.ok) throw new Error(`${key}: ${read.reason}`);
    rows.push(...read.rows.map(({ seq, event_id: eventId }) => ({ seq, eventId })));
  }
  return { objects: listed.length, manifests: named.filter(({ kind }) => kind === "manifest"), rows };
}
