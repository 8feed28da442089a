// What a command works with: the host, its output, the API as the logged-in caller. Made by `program.ts`.

import { resolve } from "node:path";
import { createApi, type Api } from "./api.ts";
import { currentApiUrl, currentLogin, readConfig } from "./config.ts";
import { Failure } from "./failure.ts";
import type { Host } from "./host.ts";
import { createOutput, type Output } from "./output.ts";
import { presenterOf, type Presented } from "./svid/presenter.ts";

export interface Session {
  readonly host: Host;
  readonly out: Output;
  /**
   * The API with the SVID that is named, else with the stored or given credential; `signal` ends its calls as Ctrl-C does. Throws Failure `denied` where there
   * is none.
   */
  api(options?: { readonly evenWhenInterrupted?: boolean; readonly signal?: AbortSignal }): Promise<Api>;
  /** The API's public routes, without a credential. */
  openApi(): Promise<Api>;
  apiUrl(): Promise<string>;
  /** Whole path of the folder of SVIDs that is named; null where none is. */
  readonly svidFolder: string | null;
  /** The SVID that speaks for this command at the API; null where a login does. */
  svid(): Promise<Presented | null>;
}

/** `svidFolder`: what --svid says; else MAESTRO_SVID does. It goes before any key, token or login. */
export function createSession(host: Host, json: boolean, svidFolder?: string): Session {
  const out = createOutput(host, json);
  const named = svidFolder ?? host.env["MAESTRO_SVID"];
  const folder = named ? resolve(host.cwd, named) : null;
  const presenter = folder === null ? null : presenterOf(folder, host, (line) => out.note(line));
  return {
    svidFolder: folder,
    host,
    out,
    async api(options) {
      const { apiUrl, secret } =
        presenter === null ? await currentLogin(host) : { apiUrl: await apiUrlBesideSvid(host), secret: null };
      const signals = [
        ...(options?.evenWhenInterrupted === true ? [] : [host.interrupted]),
        ...(options?.signal === undefined ? [] : [options.signal]),
      ];
      const signal = signals.length === 0 ? null : AbortSignal.any(signals);
      return createApi({ baseUrl: apiUrl, secret, presenter, host, signal });
    },
    async openApi() {
      const baseUrl = await currentApiUrl(host);
      // Beside an SVID the server is known by its own: public routes are asked over the same connection.
      const over = baseUrl.startsWith("https:") ? presenter : null;
      return createApi({ baseUrl, secret: null, presenter: over, host, signal: host.interrupted });
    },
    apiUrl: () => currentApiUrl(host),
    svid: async () => (presenter === null ? null : presenter.present(await currentApiUrl(host))),
  };
}

/** With an SVID nobody needs to log in; but where the API is must be said. */
async function apiUrlBesideSvid(host: Host): Promise<string> {
  if (!host.env["MAESTRO_API_URL"] && (await readConfig(host)) === null) {
    throw new Failure("usage", "Where is the API?", {
      advice: "Set MAESTRO_API_URL beside the SVID, or log in there once.",
    });
  }
  return currentApiUrl(host);
}
