// The JSON of a file of Maestro's own that must fit a shape. Called by whoever reads one.

import type { z } from "zod";
import type { Failure } from "./failure.ts";

/** Throws `broken` where the text is no JSON, or does not fit. */
export function jsonThatFits<T>(text: string, shape: z.ZodType<T>, broken: Failure): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) throw broken;
    throw error;
  }
  const parsed = shape.safeParse(value);
  if (!parsed.success) throw broken;
  return parsed.data;
}
