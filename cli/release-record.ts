// A release as `maestro` shows it. Used by the commands that publish, review and look at releases.

import type { Release } from "../shared/contract/http-market.ts";
import type { Session } from "./session.ts";

export function releaseRecord({ out }: Session, release: Release): string {
  const { limits, permissions, entry_point, changelog } = release.manifest;
  const optional = (name: string, value: string | null): [string, string][] =>
    value === null || value === "" ? [] : [[name, value]];
  return out.record([
    ["package", release.package],
    ["version", release.version],
    ["state", release.state],
    ...optional("yanked because", release.yank_reason),
    ...optional("the reviewer said", release.review_reason),
    ["first channel", release.channel],
    ["release", release.id],
    ["artifact", `${release.artifact_sha256}, ${release.artifact_bytes} bytes`],
    ["entry point", entry_point],
    ["reads input", permissions.read_input],
    ["limits", `${limits.wall_ms} ms, ${limits.output_bytes} bytes of output, ${limits.unpacked_bytes} bytes unpacked`],
    ["privacy units a run", release.units],
    ["publisher key", release.publisher_bundle.verificationMaterial.publicKey.hint],
    ["countersigned by", release.marketplace_bundle?.verificationMaterial.publicKey.hint],
    ["uploaded", release.uploaded_at],
    ["published", release.published_at],
    ["changelog", changelog === "" ? null : changelog],
  ]);
}
