// Tiles of the tree, as C2SP tlog-tiles lays them out (https://c2sp.org/tlog-tiles): their paths and sizes. The log
// stores and publishes them, proofs are built from them.

import { hashBytes } from "./tree.ts";

export const tileHeight = 8;
export const tileWidth = 256;

export interface Tile {
  /** 0 holds leaf hashes, level L the roots of 256^L leaves. */
  readonly level: number;
  readonly index: number;
  /** 1 to 256 hashes; 256 is a full tile, which never changes. */
  readonly width: number;
}

/** `0/x001/067` or `0/000.p/12`: the path behind `tile/`. */
export function tilePath(tile: Tile): string {
  const digits = String(tile.index).padStart(Math.ceil(String(tile.index).length / 3) * 3, "0");
  const groups = digits.match(/\d{3}/g) ?? [];
  const path = groups.map((group, at) => (at < groups.length - 1 ? `x${group}` : group)).join("/");
  return `${tile.level}/${path}${tile.width === tileWidth ? "" : `.p/${tile.width}`}`;
}

/** Null for anything but a path exactly as `tilePath` writes it. */
export function parseTilePath(path: string): Tile | null {
  const match = /^(\d{1,2})\/((?:x\d{3}\/){0,5}\d{3})(?:\.p\/(\d{1,3}))?$/.exec(path);
  if (match === null) return null;
  const tile = {
    level: Number(match[1]),
    index: Number(match[2]?.replaceAll(/[x/]/g, "")),
    width: match[3] === undefined ? tileWidth : Number(match[3]),
  };
  if (tile.level > 6 || !Number.isSafeInteger(tile.index) || tile.width < 1 || tile.width > tileWidth) return null;
  return tilePath(tile) === path ? tile : null;
}

const span = (level: number): number => tileWidth ** level;

/** How many hashes tile `index` of `level` has in a tree of `size` leaves: 0 to 256. */
export const widthAt = (level: number, index: number, size: number): number =>
  Math.max(0, Math.min(tileWidth, Math.floor(size / span(level)) - index * tileWidth));

/** The tiles that became full between the tree sizes `from` and `to`, lowest level first. */
export function* fullTilesBetween(from: number, to: number): Generator<Tile> {
  for (let level = 0; span(level + 1) <= to; level += 1) {
    for (let index = Math.floor(from / span(level + 1)); index < Math.floor(to / span(level + 1)); index += 1) {
      yield { level, index, width: tileWidth };
    }
  }
}

export const tileBytes = (tile: Tile): number => tile.width * hashBytes;
