// The signer of TUF metadata with a bound on how long it is waited for: a publisher signs one change after the other, so that one
// call that never answers would hold up all that come behind it. Made by compose.ts.

import type { TufSignerApi } from "../../../shared/edge/service.ts";
import { inTime } from "../in-time.ts";

/** A signature takes milliseconds. */
export const tufSignerMsMax = 5_000;

/** The same signer; a call rejects where it is not answered within `tufSignerMsMax`. */
export const tufSignerInTime = (signer: TufSignerApi): TufSignerApi => ({
  tufKeys: (tenantId) => inTime(signer.tufKeys(tenantId), tufSignerMsMax, "the signer"),
  signTuf: (tenantId, signed) => inTime(signer.signTuf(tenantId, signed), tufSignerMsMax, "the signer"),
});
