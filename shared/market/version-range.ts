// Whether a version is in the range of an entitlement: node-semver's rules, so that a pre-release is in a range only where
// the range names one of the same version. Called for installs, upgrades and runs.

import semver from "semver";

/** True where either is missing: then there is nothing to be in or out of. */
export const inRange = (version: string | null, range: string | null): boolean =>
  version === null || range === null || semver.satisfies(version, range);
