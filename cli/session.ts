// What a command works with: the host, its output, the API as the logged-in caller. Made by `program.ts`.

import { resolve } from "node:path";
import { createApi, type Api } from "./api.ts";
import { currentApiUrl, currentLogin } from "./config.ts";
import type { Host } from "./host.ts";
import { createOutput, type Output } from "./output.ts";

export interface Session {
  readonly host: Host;
  readonly out: Output;
  /**
   * The API with the stored or given credential; `signal` ends its calls as Ctrl-C does. Throws Failure `denied` where there
   * is none.
   */
  api(options?: { readonly evenWhenInterrupted?: boolean; readonly signal?: AbortSignal }): Promise<Api>;
  /** The API's public routes, without a credential. */
  openApi(): Promise<Api>;
  apiUrl(): Promise<string>;
  /** Whole path of the folder of SVIDs that is named; null where none is. */
  readonly svidFolder: string | null;
}

/** `svidFolder`: what --svid says; else MAESTRO_SVID does. */
export function createSession(host: Host, json: boolean, svidFolder?: string): Session {
  const named = svidFolder ?? host.env["MAESTRO_SVID"];
  return {
    svidFolder: named ? resolve(host.cwd, named) : null,
    host,
    out: createOutput(host, json),
    async api(options) {
      const { apiUrl, secret } = await currentLogin(host);
      const signals = [
        ...(options?.evenWhenInterrupted === true ? [] : [host.interrupted]),
        ...(options?.signal === undefined ? [] : [options.signal]),
      ];
      const signal = signals.length === 0 ? null : AbortSignal.any(signals);
      return createApi({ baseUrl: apiUrl, secret, host, signal });
    },
    async openApi() {
      return createApi({ baseUrl: await currentApiUrl(host), secret: null, host, signal: host.interrupted });
    },
    apiUrl: () => currentApiUrl(host),
  };
}
