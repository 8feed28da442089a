// A version as text whose byte order is semver's precedence (semver.org, 11), so that Postgres can compare versions in the
// transaction that moves a channel. `version` must be valid semver.

import semver from "semver";

/** 2^53 has 16 digits: what node-semver takes. */
const digits = 16;
const numeric = (part: number): string => String(part).padStart(digits, "0");

/**
 * Numbers are padded; in a pre-release a number is marked `0` and a word `1`, since numbers come first, and a space ends each
 * identifier, since it sorts before everything an identifier has. A release is `~`: after all of its pre-releases.
 */
export function versionOrder(version: string): string {
  const parsed = semver.parse(version);
  if (parsed === null) throw new TypeError("not a semver version");
  const core = [parsed.major, parsed.minor, parsed.patch].map(numeric).join(".");
  if (parsed.prerelease.length === 0) return `${core}~`;
  return `${core}-${parsed.prerelease.map((part) => (typeof part === "number" ? `0${numeric(part)} ` : `1${part} `)).join("")}`;
}
