// The OutboxDrain class over an outbox and a queue in memory, so that a test can take either away.

import { outboxDrainObject } from "../../durable-objects/outbox-drain.ts";
import type { OutboxRow } from "../../shared/outbox/drain.ts";

export const probe = {
  rows: [] as OutboxRow[],
  sent: [] as string[],
  queueIsUp: true,
  databaseIsUp: true,
  /** How long a send takes, in ms. */
  sendMs: 0,
  /** How long it rested, in ms, each time. */
  rests: [] as number[],
};

export const DrainProbe = outboxDrainObject<unknown>(() => ({
  clock: () => Date.now(),
  rest: (ms) => {
    probe.rests.push(ms);
    return scheduler.wait(ms);
  },
  log: () => undefined,
  port: () => ({
    async select(limit) {
      if (!probe.databaseIsUp) throw new Error("the database is down");
      return probe.rows.slice(0, limit);
    },
    async send(messages) {
      if (!probe.queueIsUp) throw new Error("the queue is down");
      if (probe.sendMs > 0) await scheduler.wait(probe.sendMs);
      probe.sent.push(...messages);
    },
    async remove(ids) {
      probe.rows = probe.rows.filter(({ id }) => !ids.includes(id));
    },
  }),
}));
