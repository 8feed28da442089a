// Wire shapes of the privacy budget.

import { z } from "@hono/zod-openapi";

/** Leak arithmetic is exact in parts of a unit, 3,600,000 to the unit: 10^9 units stay below 2^53. */
export const unitsMax = 1_000_000_000;
export const privacyBudgetPut = z
  .strictObject({
    limit_units: z.int().min(0).max(unitsMax).describe("micro-epsilon that may be spent or held at one time"),
    leak_units_per_hour: z.int().min(0).max(unitsMax).describe("micro-epsilon that come back each hour"),
  })
  .openapi("PrivacyBudgetPut");
export const privacyBudget = privacyBudgetPut
  .extend({
    spent_units: z.int().describe("settled and not leaked back yet, rounded up"),
    held_units: z.int().describe("reserved by runs that have not finished"),
    remaining_units: z.int(),
  })
  .strict()
  .openapi("PrivacyBudget");
export type PrivacyBudget = z.infer<typeof privacyBudget>;
