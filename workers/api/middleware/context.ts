// Hono's context as this app has it: the parts come with each request, visit and body are opened by app.ts.

import type { Context } from "hono";
import type { Parts } from "../parts.ts";
import type { RequestBody } from "./body.ts";
import type { Visit } from "./visit.ts";

export interface AppEnv {
  Bindings: { parts: Parts };
  Variables: { visit: Visit; body: RequestBody };
}
export type AppContext = Context<AppEnv>;
