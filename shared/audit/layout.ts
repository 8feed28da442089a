// Where a tenant's log lies in the bucket. The log writes there, the audit worker serves from there, and a copy of the
// bucket in a folder has the same paths. Nothing under these keys is ever rewritten.

import { tilePath, type Tile } from "./tiles.ts";

/** Half-open: rows `from` to `to` - 1. */
export interface Range {
  readonly from: number;
  readonly to: number;
}

const digits = (value: number): string => String(value).padStart(20, "0");

/** `{from:020}-{to:020}` */
export const rangeName = ({ from, to }: Range): string => `${digits(from)}-${digits(to)}`;

/** Null for anything but a name as `rangeName` writes it, of at least one row. */
export function parseRange(name: string): Range | null {
  const match = /^(\d{20})-(\d{20})$/.exec(name);
  const [from, to] = [Number(match?.[1]), Number(match?.[2])];
  return Number.isSafeInteger(from) && Number.isSafeInteger(to) && from < to ? { from, to } : null;
}

export const segmentKey = (tenantId: string, range: Range): string => `${tenantId}/seg/${rangeName(range)}.parquet`;
export const manifestKey = (tenantId: string, range: Range): string => `${tenantId}/manifest/${rangeName(range)}.json`;
export const tileKey = (tenantId: string, tile: Tile): string => `${tenantId}/tile/${tilePath(tile)}`;
/** `size`: of the tenant's log, at the anchored head. */
export const anchoringKey = (tenantId: string, size: number): string => `${tenantId}/anchor/${digits(size)}.json`;
