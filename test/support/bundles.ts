// OPA bundles for tests: the parts of one that is taken, and what makes a tar.gz of parts. Runs on Node and in workerd.

import { gzipSync } from "node:zlib";
import type { Bytes } from "../../shared/contract/bytes.ts";
import { tarOf, type TarPart } from "./tar-bytes.ts";

export const bundleManifest = (given: Readonly<Record<string, unknown>> = {}): string =>
  JSON.stringify({ revision: "r1", roots: ["app"], rego_version: 1, ...given });

/** A policy that allows what its data says, under the root `app`. */
export const bundleParts = (given: Readonly<Record<string, unknown>> = {}, allowed = "alice"): TarPart[] => [
  { name: ".manifest", body: bundleManifest(given) },
  { name: "app/authz.rego", body: "# Who may.\npackage app.authz\n\nallow if input.user in data.app.allowed\n" },
  { name: "app/data.json", body: JSON.stringify({ allowed: [allowed] }) },
];

export const bundleOf = (parts: readonly TarPart[]): Bytes => new Uint8Array(gzipSync(tarOf(...parts)));
