// How a command presents the SVID of a folder: as client certificate where the API's address is https, else as bearer. It looks
// at the folder at each request, so that a renewal counts from the next one on. Made by session.ts, called by http.ts.

import { isNearItsEnd } from "../../shared/identity/near-its-end.ts";
import { Failure } from "../failure.ts";
import type { Host } from "../host.ts";
import { fetchWithSvid, type ApiFetch } from "./svid-fetch.ts";
import { readCertificate, readToken, type HeldCertificate, type HeldSvid } from "./svid-folder.ts";

/** What the API is called in JWT-SVIDs. */
const apiAudience = "maestro-api";

export interface Presented {
  readonly svid: HeldSvid;
  readonly as: "certificate" | "token";
  /** What goes behind `Authorization: Bearer`; null where a certificate speaks. */
  readonly secret: string | null;
  /** Null where the plain one does. */
  readonly fetch: ApiFetch | null;
}

export interface Presenter {
  /** For a request to this address. Throws Failure `denied` where the folder has no SVID, or one that has expired. */
  present(baseUrl: string): Promise<Presented>;
}

export function presenterOf(folder: string, host: Pick<Host, "now">, warn: (line: string) => void): Presenter {
  let last: { readonly held: HeldCertificate; readonly fetch: ApiFetch } | null = null;
  let warned = false;

  function checkTime(svid: HeldSvid): void {
    const now = host.now();
    const ends = new Date(svid.expiresAtMs).toISOString();
    if (now >= svid.expiresAtMs) {
      throw new Failure("denied", `The SVID in ${folder} has expired at ${ends}`, {
        advice:
          "Is what renews it running? spiffe-helper does in production, `maestro svid mint --renew` in development.",
        facts: { spiffe_id: svid.id.uri, expires_at: ends },
      });
    }
    if (warned || !isNearItsEnd(svid.issuedAtMs, svid.expiresAtMs, now)) return;
    warned = true;
    warn(`warning: the SVID ${svid.id.uri} ends at ${ends}, with less than a third of its life left; is it renewed?`);
  }

  return {
    async present(baseUrl) {
      if (!baseUrl.startsWith("https:")) {
        const { token, kid: _, ...svid } = await readToken(folder, apiAudience);
        checkTime(svid);
        return { svid, as: "token", secret: token, fetch: null };
      }
      const held = await readCertificate(folder);
      checkTime(held);
      if (last === null || !isSame(last.held, held))
        last = { held, fetch: await fetchWithSvid(held, () => host.now()) };
      return { svid: held, as: "certificate", secret: null, fetch: last.fetch };
    },
  };
}

const isSame = (left: HeldCertificate, right: HeldCertificate): boolean =>
  left.chainPem === right.chainPem && left.keyPem === right.keyPem && left.bundle === right.bundle;
