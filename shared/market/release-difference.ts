// What differs between a release under review and the one before it. Pure; called by the review routes.

import type { PackageManifest, Release, ReleaseDifference, ReleaseFile } from "../contract/http-market.ts";

interface Side {
  readonly release: Release;
  /** Null for releases from before files were listed: then every file counts as new. */
  readonly contents: { readonly files: readonly ReleaseFile[]; readonly unpacked_bytes: number } | null;
}

export function releaseDifference(after: Side, before: Side | null): ReleaseDifference {
  return {
    before:
      before === null
        ? null
        : {
            release_id: before.release.id,
            version: before.release.version,
            artifact_sha256: before.release.artifact_sha256,
          },
    manifest: changedMembers("", before?.release.manifest, after.release.manifest),
    files: changedFiles(before?.contents?.files ?? [], after.contents?.files ?? []),
    unpacked_bytes: {
      before: before?.contents?.unpacked_bytes ?? null,
      after: after.contents?.unpacked_bytes ?? 0,
    },
    same_publisher_key: before === null ? null : before.release.publisher_key === after.release.publisher_key,
    asks_for_more: before === null ? [] : asksForMore(before.release, after.release),
  };
}

type Member = ReleaseDifference["manifest"][number];
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** By JSON Pointer (RFC 6901), in byte order of names; null stands for a member that there is not. */
function changedMembers(path: string, before: unknown, after: unknown): Member[] {
  if (isObject(after) && (isObject(before) || before === undefined)) {
    const names = new Set([...Object.keys(before ?? {}), ...Object.keys(after)]);
    return [...names]
      .toSorted()
      .flatMap((name) =>
        changedMembers(
          `${path}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`,
          isObject(before) ? before[name] : undefined,
          after[name],
        ),
      );
  }
  return JSON.stringify(before) === JSON.stringify(after)
    ? []
    : [{ path, before: before ?? null, after: after ?? null }];
}

function changedFiles(before: readonly ReleaseFile[], after: readonly ReleaseFile[]): ReleaseDifference["files"] {
  const old = new Map(before.map((file) => [file.path, file]));
  const fresh = new Set(after.map(({ path }) => path));
  const both = after.flatMap((file) => {
    const was = old.get(file.path);
    return was === undefined ? [] : [{ path: file.path, before: was, after: file }];
  });
  const changed = both.filter((pair) => pair.before.sha256 !== pair.after.sha256);
  return {
    added: after.filter(({ path }) => !old.has(path)),
    removed: before.filter(({ path }) => !fresh.has(path)),
    changed,
    unchanged_count: both.length - changed.length,
  };
}

const limitNames: Readonly<Record<keyof PackageManifest["limits"], string>> = {
  wall_ms: "milliseconds of time",
  output_bytes: "bytes of output",
  unpacked_bytes: "bytes unpacked",
};

/** Sentences on what the new release may do, or costs, that the one before did not. */
function asksForMore(before: Release, after: Release): string[] {
  const [old, fresh] = [before.manifest, after.manifest];
  const sentences: string[] = [];
  if (fresh.privacy_units > old.privacy_units) {
    sentences.push(`A run spends ${fresh.privacy_units} micro-epsilon instead of ${old.privacy_units}.`);
  }
  if (fresh.permissions.read_input && !old.permissions.read_input) sentences.push("It reads its input.");
  for (const [name, unit] of Object.entries(limitNames) as [keyof PackageManifest["limits"], string][]) {
    if (fresh.limits[name] > old.limits[name]) {
      sentences.push(`It may take ${fresh.limits[name]} ${unit} instead of ${old.limits[name]}.`);
    }
  }
  if (fresh.entry_point !== old.entry_point) {
    sentences.push(`It starts at ${fresh.entry_point} instead of ${old.entry_point}.`);
  }
  if (after.publisher_key !== before.publisher_key) sentences.push("Another key of the publisher has signed it.");
  return sentences;
}
