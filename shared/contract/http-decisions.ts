// Wire shapes of decisions of the policy, as they are asked again.

import { z } from "@hono/zod-openapi";
import { eventTypes } from "./events.ts";
import { idPattern } from "./ids.ts";
import { timestamp } from "./names.ts";

export const eventId = z
  .string()
  .regex(idPattern("event"), "an event's id is evt_ and 26 letters and digits")
  .openapi({ example: "evt_01k9x6f6c8a0b1c2d3e4f5g6h7" });

export const decisionRecord = z
  .strictObject({
    id: eventId,
    decided_at: timestamp,
    input: z
      .string()
      .max(48 * 1024)
      .describe("RFC 8785 text of what the policy was asked: its SHA-256 is in the log"),
    logged: z
      .strictObject({
        seq: z.int().min(0),
        logged_at: timestamp,
        attributes: eventTypes["mc.policy.decision"].attributes,
      })
      .nullable()
      .describe("what the tenant's log says of it; null until it is there"),
  })
  .openapi("DecisionRecord");
export type DecisionRecord = z.infer<typeof decisionRecord>;
