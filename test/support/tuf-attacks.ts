// What a hostile provider may serve after a tenant's second revision was fetched, one attack a row, and what becomes of each: our
// own fetcher's verdict (cli/edge/attacks.test.ts) and a stock tuf-js's error (test/interop/tuf-attacks.test.ts) are in one table.

import type { RefusalCode } from "../../shared/edge/refusal.ts";
import { lifeMs } from "../../shared/edge/tuf.ts";
import { tenant, type EdgeWorld, type Fault, type Objects } from "./edge-world.ts";

export interface TufAttack {
  readonly title: string;
  /** How our fetcher refuses it; null: it takes the provider for one that lags, and stays where it is. */
  readonly ours: RefusalCode | null;
  /** What tuf-js says. */
  readonly stock: RegExp;
  /** What both providers do from now on. */
  readonly stage: (world: EdgeWorld) => Promise<{ readonly objects: Objects; readonly fault?: Fault }>;
}

const file = (name: string): string => `tuf/${tenant}/${name}`;
const isBundle = (key: string): boolean => key.startsWith("policies/");
const isTimestamp = (key: string): boolean => key === file("timestamp.json");

/** Serves other bytes than the store's for every bundle. */
const insteadOfBundles =
  (bytesOf: (key: string) => Uint8Array): Fault =>
  (key, response) => {
    if (!isBundle(key)) return false;
    response.writeHead(200, { "content-type": "application/gzip" }).end(bytesOf(key));
    return true;
  };

/** Bytes without an end, for the keys that `wanted` has; `onSent` is told how many. */
const endless =
  (wanted: (key: string) => boolean, type: string, onSent: (bytes: number) => void = () => undefined): Fault =>
  (key, response) => {
    if (!wanted(key)) return false;
    response.writeHead(200, { "content-type": type });
    const piece = new Uint8Array(16_384).fill(32);
    const more = (): void => {
      if (response.destroyed) return;
      onSent(piece.length);
      response.write(piece, more);
    };
    more();
    return true;
  };
export const endlessBundle = (onSent?: (bytes: number) => void): Fault => endless(isBundle, "application/gzip", onSent);
export const endlessTimestamp = (onSent?: (bytes: number) => void): Fault =>
  endless(isTimestamp, "application/json", onSent);

async function published(world: EdgeWorld): Promise<Objects> {
  await world.publish({ allowed: "mallory" });
  return world.copy();
}

/** The third revision's metadata, with the text of one file changed after it was signed. */
async function changed(world: EdgeWorld, name: string, change: (text: string) => string): Promise<Objects> {
  const objects = await published(world);
  const text = Buffer.from(objects.get(file(name))!).toString();
  if (change(text) === text) throw new Error(`nothing of ${name} was changed`);
  return objects.set(file(name), new Uint8Array(Buffer.from(change(text))));
}

export const tufAttacks: readonly TufAttack[] = [
  {
    title: "an older timestamp, as a provider has it that lags",
    ours: null,
    stock: /version/,
    async stage(world) {
      await world.sign(Date.now(), { targets: 1, snapshot: 1, timestamp: 1 });
      return { objects: world.copy() };
    },
  },
  {
    title: "rollback: a newer timestamp that names an older snapshot",
    ours: "rollback",
    stock: /version/,
    async stage(world) {
      await world.sign(Date.now(), { targets: 2, snapshot: 1, timestamp: 3 });
      return { objects: world.copy() };
    },
  },
  {
    title: "rollback: a newer snapshot that names older targets",
    ours: "rollback",
    stock: /version/,
    async stage(world) {
      await world.sign(Date.now(), { targets: 1, snapshot: 3, timestamp: 3 });
      return { objects: world.copy() };
    },
  },
  {
    title: "freeze: a timestamp that has expired",
    ours: "metadata_expired",
    stock: /expired/,
    async stage(world) {
      await world.publish({ allowed: "mallory", now: Date.now() - lifeMs.timestamp - 1_000 });
      return { objects: world.copy() };
    },
  },
  {
    title: "mix-and-match: another signed snapshot than the one that is named",
    ours: "mix_and_match",
    stock: /hash|length|version/i,
    async stage(world) {
      const objects = await published(world);
      return { objects: objects.set(file("3.snapshot.json"), objects.get(file("2.snapshot.json"))!) };
    },
  },
  {
    title: "mix-and-match: other signed targets than those that are named",
    ours: "mix_and_match",
    stock: /hash|length|version/i,
    async stage(world) {
      const objects = await published(world);
      return { objects: objects.set(file("3.targets.json"), objects.get(file("2.targets.json"))!) };
    },
  },
  {
    title: "a timestamp that was changed after it was signed",
    ours: "bad_signature",
    stock: /signed/,
    stage: async (world) => ({
      objects: await changed(world, "timestamp.json", (text) => text.replace('"version":3}', '"version":9}')),
    }),
  },
  {
    title: "targets of which one byte was flipped",
    ours: "wrong_digest",
    stock: /hash/i,
    stage: async (world) => ({
      objects: await changed(world, "3.targets.json", (text) => text.replace('"revision":3', '"revision":2')),
    }),
  },
  {
    title: "metadata that another tenant's keys have signed",
    ours: "bad_signature",
    stock: /signed/,
    async stage(world) {
      await world.publish({ allowed: "mallory", online: "another tenant's" });
      return { objects: world.copy() };
    },
  },
  {
    title: "a bundle of which one byte was flipped",
    ours: "wrong_digest",
    stock: /hash/i,
    async stage(world) {
      const objects = await published(world);
      const flipped = (key: string): Uint8Array => {
        const bytes = new Uint8Array(objects.get(key)!);
        bytes[bytes.length - 20]! ^= 1;
        return bytes;
      };
      return { objects, fault: insteadOfBundles(flipped) };
    },
  },
  {
    title: "another bundle under the right name",
    ours: "wrong_length",
    stock: /length|hash/i,
    async stage(world) {
      const [, first] = [...world.objects].find(([key]) => isBundle(key))!;
      return { objects: await published(world), fault: insteadOfBundles(() => first) };
    },
  },
  {
    title: "a root that has expired",
    ours: "root_expired",
    stock: /expired/,
    async stage(world) {
      await world.rotateRoot({ names: ["one", "two"], threshold: 2, now: Date.now() - lifeMs.root - 1_000 });
      return { objects: world.copy() };
    },
  },
  ...[
    ["by the old keys' measure", ["one", "three", "four"]],
    ["by its own measure", ["one", "two", "three"]],
  ].map(([measure, by]): TufAttack => ({
    title: `a root that too few have signed, ${String(measure)}`,
    ours: "bad_root_rotation",
    stock: /signed/,
    async stage(world) {
      await world.rotateRoot({ names: ["three", "four"], threshold: 2, by: by as string[] });
      return { objects: world.copy() };
    },
  })),
  {
    title: "a root that skips a version",
    ours: "rollback",
    stock: /version/,
    async stage(world) {
      await world.rotateRoot({ names: ["one", "two"], threshold: 2 });
      await world.rotateRoot({ names: ["one", "two"], threshold: 2 });
      const objects = world.copy();
      return { objects: objects.set(file("2.root.json"), objects.get(file("3.root.json"))!) };
    },
  },
  {
    title: "a timestamp without an end",
    ours: "too_large",
    stock: /length/i,
    stage: async (world) => ({ objects: await published(world), fault: endlessTimestamp() }),
  },
  {
    title: "a bundle without an end",
    ours: "too_large",
    stock: /length/i,
    stage: async (world) => ({ objects: await published(world), fault: endlessBundle() }),
  },
];
