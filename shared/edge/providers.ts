// Which CDN providers there are, as a file says it (policy/edge.multicdn.json): a third one is a third entry. Read by the local
// stack, which writes one for its own two, and by whoever fetches from them.

import { z } from "@hono/zod-openapi";
import { utf8Length } from "../contract/bytes.ts";

export const providersBytesMax = 64 * 1024;
/** Each is probed by every fetcher, so that a list has an end. */
export const providersMax = 16;
const baseUrlLengthMax = 255;

const providerName = z
  .string()
  .max(32)
  .regex(/^[a-z0-9]+(?:-[a-z0-9]+)*$/, "a provider's name is lower-case letters, digits and single dashes");

/** `https://host[:port][/path]` without a slash at the end; `http` for this machine alone. Paths of the edge are put behind it. */
const baseUrl = z.string().max(baseUrlLengthMax).refine(isBaseUrl, {
  error: "a baseUrl is https://host or https://host/path, without credentials, query, or a slash at the end",
});

const provider = z.strictObject({ name: providerName, baseUrl });

const providersFile = z.strictObject({
  edge: z.strictObject({
    cdn: z.strictObject({
      providers: z
        .array(provider)
        .min(1)
        .max(providersMax)
        .refine((list) => isUnique(list.map(({ name }) => name)), { error: "two providers have the same name" })
        .refine((list) => isUnique(list.map(({ baseUrl }) => baseUrl)), {
          error: "two providers have the same baseUrl: they would fail together",
        }),
      strategy: z.literal("health-latency"),
      digestPin: z.literal(true, { error: "digests are always pinned: write true, or leave no bundle unpinned" }),
    }),
  }),
});

/** `name` is also what the provider's edge calls itself in Cache-Status. */
export interface Provider {
  readonly name: string;
  readonly baseUrl: string;
}

export interface Providers {
  /** At least one; the first is the only one where the flag `edge_multicdn` is off. */
  readonly providers: readonly Provider[];
  /** Healthy ones first, then by their latency. */
  readonly strategy: "health-latency";
  readonly digestPin: true;
}

export type ParsedProviders =
  | { readonly ok: true; readonly config: Providers }
  /** `reason` names the place in the file, and fits behind "it cannot be used: ". */
  | { readonly ok: false; readonly reason: string };

export function parseProviders(text: string): ParsedProviders {
  if (utf8Length(text) > providersBytesMax) return { ok: false, reason: `it has more than ${providersBytesMax} bytes` };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { ok: false, reason: "it is not JSON" };
  }
  const parsed = providersFile.safeParse(value);
  if (parsed.success) return { ok: true, config: parsed.data.edge.cdn };
  const [issue] = parsed.error.issues;
  return { ok: false, reason: `${issue?.path.join(".") || "the file"}: ${issue?.message ?? "not as it should be"}` };
}

/** The file for these providers. */
export const writeProviders = (providers: readonly Provider[]): string =>
  `${JSON.stringify({ edge: { cdn: { providers, strategy: "health-latency", digestPin: true } } }, null, 2)}\n`;

function isBaseUrl(text: string): boolean {
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return false;
  }
  const isHere = ["127.0.0.1", "localhost", "[::1]"].includes(url.hostname);
  if (url.protocol !== "https:" && !(url.protocol === "http:" && isHere)) return false;
  // Written as the URL is understood: no dot segments, no upper-case host, no default port, nothing that is left out.
  return text === `${url.origin}${url.pathname === "/" ? "" : url.pathname}` && !text.endsWith("/");
}

const isUnique = (list: readonly string[]): boolean => new Set(list).size === list.length;
