// What the market's routes refuse alike.

import { Problem } from "../../../shared/contract/problems.ts";

export const noRelease = (): Problem => new Problem("not_found", "There is no such release.");
export const noEntitlements = (): Problem =>
  new Problem("database_unavailable", "Entitlements cannot be read or changed now.");

/** A reason of a room, as the problem's sentence. */
export const invalidRelease = (reason: string): Problem =>
  new Problem("release_invalid", `${reason.charAt(0).toUpperCase()}${reason.slice(1)}.`);

export const wrongState = (stateNow: string): Problem =>
  new Problem("release_state", `The release is ${stateNow.replaceAll("_", " ")}.`, { state_now: stateNow });

export const packageBusy = (): Problem =>
  new Problem("package_busy", "The package kept changing under this call.", { retry_after_s: 1 });

export const channelBusy = (): Problem =>
  new Problem("package_busy", "The channel kept moving under this call.", { retry_after_s: 1 });
