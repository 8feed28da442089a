// A version as text whose byte order is semver's precedence (semver.org, 11), so that Postgres can compare versions in the
// transaction that moves a channel. `version` must be valid semver.

import semver from "semver";

/** 2^53 has 16 digits: what node-semver takes. */
const digits = 16;
const numeric = (part: number): string => String(part).padStart(digits, "0");

/**
 * Numbers are padded; in a pre-release a number is marked `0` and a word `1`, since numbers come first, and a space ends each
 * identifier, since it sorts before everything an identifier has. A number that is too long to be padded has `:` and how many
 * digits it has before it, which is after every digit. A release is `~`: after all of its pre-releases.
 */
export function versionOrder(version: string): string {
  const parsed = semver.parse(version);
  if (parsed === null) throw new TypeError("not a semver version");
  const core = [parsed.major, parsed.minor, parsed.patch].map(numeric).join(".");
  if (parsed.prerelease.length === 0) return `${core}~`;
  return `${core}-${parsed.prerelease.map((part) => `${identifier(part)} `).join("")}`;
}

/** node-semver leaves a number that no double holds a text. */
function identifier(part: string | number): string {
  if (typeof part === "number") return `0${numeric(part)}`;
  return /^\d+$/.test(part) ? `0:${String(part.length).padStart(2, "0")}${part}` : `1${part}`;
}
