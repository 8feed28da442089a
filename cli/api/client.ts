// What every part of the API's client works with: calls whose answers are parsed by the contract's schemas. Made by
// `cli/api.ts`, used by the other files here.

import type { z } from "zod";
import { Failure } from "../failure.ts";
import { readJson, send, type Call, type Wire } from "../http.ts";

export interface Client {
  readonly wire: Wire;
  readonly json: <T>(call: Call, schema: z.ZodType<T>) => Promise<T>;
}

/** One page of a list: how many, and `next_cursor` of the page before. */
export interface Page {
  readonly limit?: number | undefined;
  readonly cursor?: string | undefined;
}

export const createClient = (wire: Wire): Client => ({
  wire,
  json: async (call, schema) => fits(call, schema, await send(wire, call, readJson)),
});

/** `/api/…` with each part encoded. */
export const apiPath = (...parts: readonly string[]): string => `/api/${parts.map(encodeURIComponent).join("/")}`;

export function fits<T>(call: Call, schema: z.ZodType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  // The paths of the fields, never their values: an answer may hold a new key.
  const fields = [...new Set(parsed.error.issues.map((issue) => issue.path.join(".") || issue.code))].slice(0, 5);
  throw new Failure(
    "failure",
    `The API's answer to ${call.method} ${call.path} does not fit the contract (${fields.join(", ")})`,
    {
      advice: "This CLI and the API may be of different versions.",
    },
  );
}
