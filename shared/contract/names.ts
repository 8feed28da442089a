// Names as callers write them: packages, channels, versions, digests. Parsed once at the door.

import semver from "semver";
import { z } from "@hono/zod-openapi";

export const packageName = z
  .string()
  .max(128)
  .regex(
    /^[a-z0-9]+(?:[.-][a-z0-9]+)*(?:\/[a-z0-9]+(?:[.-][a-z0-9]+)*)*$/,
    "a package name is segments of [a-z0-9] with single dots or dashes inside, joined by '/', up to 128 characters",
  )
  .openapi({ example: "tools/sbom-inventory" });

export const channelNames = ["stable", "canary"] as const;
export const channel = z.enum(channelNames);
export type Channel = z.infer<typeof channel>;

export const version = z
  .string()
  .max(64)
  .refine((text) => semver.valid(text) === text, "a version is semver 2.0, like 1.2.3 or 1.2.3-rc.1")
  .openapi({ example: "1.2.0" });

export const sha256Digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/, "a digest is 64 lower-case hex digits (SHA-256)")
  .openapi({ example: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" });

const daysOfMonths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/** Whether a time of that form is one, from 1970 on. By the calendar: a Date there and back takes ten times as long. */
function exists(text: string): boolean {
  const number = (from: number, to: number): number => Number(text.slice(from, to));
  const [year, month, day] = [number(0, 4), number(5, 7), number(8, 10)];
  const isLeap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  const days = isLeap && month === 2 ? 29 : (daysOfMonths[month - 1] ?? 0);
  if (!(year >= 1970 && day >= 1 && day <= days)) return false;
  return number(11, 13) <= 23 && number(14, 16) <= 59 && number(17, 19) <= 59;
}

/** RFC 3339, UTC, milliseconds; a time that exists, from 1970 to 9999. */
export const timestamp = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$/, "a time is RFC 3339 in UTC with milliseconds")
  .refine(exists, "there is no such time")
  .openapi({ example: "2026-04-13T16:00:00.000Z" });

export const tenantId = z.uuid().openapi({ example: "7f0c2d9e-5a53-4d2f-9a0b-2f6a1c9f0001" });

export const roleNames = ["admin", "operator", "auditor", "publisher", "reviewer", "viewer", "fetcher"] as const;
export const role = z.enum(roleNames);
export type Role = z.infer<typeof role>;
