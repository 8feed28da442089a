// Go's golang.org/x/mod/sumdb (note, tlog: what verifies every Go module) on our checkpoints, tiles and proofs.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openCheckpoint, originOf, verifierKey } from "../../shared/audit/checkpoint.ts";
import { leafBytes } from "../../shared/audit/leaf.ts";
import { newestSchema } from "../../shared/audit/segment-schema.ts";
import { readSegment } from "../../shared/audit/segment.ts";
import { tilePath, widthAt } from "../../shared/audit/tiles.ts";
import { base64 } from "../../shared/contract/bytes.ts";
import { canonicalJson } from "../../shared/contract/events.ts";
import { gzip } from "../../workers/audit/hashing.ts";
import { eventAt, seeded, tenantId } from "../simulation/audit-events.ts";
import { newKeys, originPrefix, rangeOfName, World } from "../simulation/audit-world.ts";

const go = process.env["MAESTRO_TOOL_GO"];

describe.skipIf(go === undefined)("Go's sumdb packages", () => {
  const folder = mkdtempSync(join(tmpdir(), "maestro-sumdb-"));
  const program = join(folder, "sumdb");
  beforeAll(() => {
    const { status, stderr } = spawnSync(go!, ["build", "-o", program, "."], {
      cwd: join(import.meta.dirname, "sumdb"),
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`the Go verifier does not build: ${stderr}`);
  }, 120_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  const run = (input: object): { status: number | null; stdout: string; stderr: string } =>
    spawnSync(program, { input: JSON.stringify(input), encoding: "utf8" });

  test("open the checkpoint, rebuild the root from our tiles, and accept our proofs; a flipped bit anywhere is refused", async () => {
    const keys = await newKeys();
    const world = new World(keys, 1);
    const next = seeded(1);
    const origin = originOf(originPrefix, tenantId);
    const roots = new Map<number, string>();
    for (const count of [3, 297, 300]) {
      const from = world.log.checkpoint() === null ? 0 : Math.max(...roots.keys());
      world.log.append(
        tenantId,
        Array.from({ length: count }, (_, at) => canonicalJson(eventAt((from + at) * 3, next))),
      );
      await world.log.sealNow();
      const opened = await openCheckpoint(world.log.checkpoint()!, origin, [keys.checkpoint.spki]);
      if (!opened.ok) throw new Error(opened.reason);
      roots.set(opened.checkpoint.size, base64(opened.checkpoint.root));
    }
    const leaves: string[] = [];
    for (const name of world.segmentRanges()) {
      const bytes = world.objects.get(`${world.prefix}seg/${name}.parquet`)!;
      const read = await readSegment({ tenantId, range: rangeOfName(name), version: newestSchema }, bytes, gzip);
      if (!read.ok) throw new Error(read.reason);
      leaves.push(...read.rows.map(({ salt, body }) => base64(leafBytes(salt, body))));
    }
    const size = leaves.length;
    expect([...roots.keys()]).toEqual([3, 300, 600]);
    const tiles: Record<string, string> = {};
    for (const level of [0, 1]) {
      for (let index = 0; widthAt(level, index, size) > 0; index += 1) {
        const tile = { level, index, width: widthAt(level, index, size) };
        tiles[tilePath(tile)] = base64((await world.log.tile(tile.level, tile.index, tile.width))!);
      }
    }
    const inclusion: Record<string, string[]> = {};
    for (const index of [0, 1, 2, 255, 256, 299, 300, 511, 512, 599]) {
      inclusion[index] = (await world.log.inclusionProof(index))!.hashes.map((hash) => base64(hash));
    }
    const consistency = [];
    for (const [size1, size2] of [
      [3, 300],
      [3, 600],
      [300, 600],
    ] as const) {
      const proof = (await world.log.consistencyProof(size1, size2))!.map((hash) => base64(hash));
      consistency.push({ size: size1, size2, root: roots.get(size1)!, root2: roots.get(size2)!, proof });
    }
    const input = {
      verifierKey: await verifierKey(origin, keys.checkpoint.spki),
      checkpoint: world.log.checkpoint()!,
      leaves,
      tiles,
      inclusion,
      consistency,
    };
    expect(run(input)).toMatchObject({ stderr: "", status: 0, stdout: `${1 + size + 10 + 3}\n` });

    const flip = (text: string): string => {
      const bytes = Buffer.from(text, "base64");
      bytes[7]! ^= 4;
      return bytes.toString("base64");
    };
    const wrong = [
      { ...input, checkpoint: input.checkpoint.replace("\n600\n", "\n601\n") },
      { ...input, leaves: leaves.with(123, flip(leaves[123]!)) },
      { ...input, tiles: { ...tiles, "0/001": flip(tiles["0/001"]!) } },
      { ...input, inclusion: { ...inclusion, 299: inclusion[299]!.with(0, flip(inclusion[299]![0]!)) } },
      {
        ...input,
        consistency: [{ ...consistency[0]!, proof: consistency[0]!.proof.with(0, flip(consistency[0]!.proof[0]!)) }],
      },
    ];
    for (const changed of wrong) expect(run(changed).status).toBe(1);
  });
});
