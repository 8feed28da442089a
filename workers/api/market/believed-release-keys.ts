// Which release keys signatures are believed by now. Made by compose.ts.

import { z } from "zod";
import { base64Bytes } from "../../../shared/contract/bytes.ts";
import { remembered } from "../../../shared/contract/remember.ts";
import { readReleaseKeys } from "../../../shared/market/release-key-store.ts";
import { kidOf } from "../../../shared/signing/keys.ts";
import type { ReleaseKey } from "../../../shared/signing/release.ts";
import type { Database } from "../../../shared/tenancy/database.ts";
import type { Parts } from "../parts.ts";

/** `pinnedText`: a JSON array of SPKI DER in base64. The pinned ones are read once, the others each time. */
export function believedReleaseKeys(database: Database, pinnedText: string): Parts["releaseKeys"] {
  const pinned = remembered(async () => {
    const list = z.array(z.base64()).parse(JSON.parse(pinnedText));
    return await Promise.all(
      list.map(async (spki) => [await kidOf(base64Bytes(spki)), { spki, not_after: null }] as const),
    );
  });
  return async () => {
    const [first, rows] = await Promise.all([pinned(), readReleaseKeys(database)]);
    const known = rows.map(({ kid, spki, not_after }) => [kid, { spki, not_after }] as const);
    const all = new Map<string, ReleaseKey>([...first, ...known]);
    for (const { kid, revoked } of rows) if (revoked) all.delete(kid);
    return all;
  };
}
