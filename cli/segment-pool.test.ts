// Segments checked in threads: the verdicts are those of one after the other, and closing ends them at once.

import { afterAll, beforeAll, expect, test } from "vitest";
import { verifyLog, type LogVerdict } from "../shared/audit/verify.ts";
import { checkerOf, type SegmentChecker } from "../shared/audit/verify-segment.ts";
import { MutationRoom, optionsOf, readerOf, type PublishedLog } from "../test/simulation/verify-mutations.ts";
import { sampled } from "../test/support/sampled.ts";
import { gzip, sha256 } from "./hashing.ts";
import { segmentPool, type SegmentPool } from "./segment-pool.ts";

let room: MutationRoom;
let pool: SegmentPool;
beforeAll(async () => {
  room = await MutationRoom.open();
  pool = segmentPool(2, { sha256, gzip }, 0);
});
afterAll(() => pool.close());

const verify = (log: PublishedLog, segments: SegmentChecker): Promise<LogVerdict> =>
  verifyLog(readerOf(log), { ...optionsOf(log), sha256, gzip, segments });

test("in threads every log has the verdict, the reason and the first bad row that it has without", async () => {
  const alone = checkerOf({ sha256, gzip });
  for (const mutation of [null, ...sampled(room.mutations(), 160)]) {
    const log = mutation === null ? room.base : await mutation.change();
    expect([mutation?.name, await verify(log, pool)]).toEqual([mutation?.name, await verify(log, alone)]);
  }
});

test("what was asked for and not answered is rejected when the threads are ended, and so is all that comes later", async () => {
  const ended = segmentPool(1, { sha256, gzip }, 0);
  const verifying = verify(room.base, ended);
  const closed = ended.close();
  await expect(verifying).rejects.toThrow("are ended");
  await closed;
  await expect(verify(room.base, ended)).rejects.toThrow("are ended");
});
