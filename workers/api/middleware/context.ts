// Hono's context as this app has it: the parts come with each request, the visit is opened by app.ts.

import type { Context } from "hono";
import type { Parts } from "../parts.ts";
import type { Visit } from "./visit.ts";

export interface AppEnv {
  Bindings: { parts: Parts };
  Variables: { visit: Visit };
}
export type AppContext = Context<AppEnv>;
