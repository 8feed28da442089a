// README.txt of a pack: what is in it, and how a stranger checks it with openssl, unzip, sh and DuckDB alone. Every line
// that begins with "$ " is run by test/e2e/pack-stranger.test.ts as it is printed.

import type { PackParts } from "./pack.ts";

export function readme(
  pack: Pick<PackParts, "version" | "executionId" | "tenantId" | "logOrigin" | "treeSize">,
): string {
  const { version, executionId, tenantId, logOrigin, treeSize } = pack;
  const proven = version === 3;
  return `Disclosure pack (version ${version}) of the execution ${executionId}
tenant ${tenantId}, log ${logOrigin}/${tenantId}, tree of ${treeSize} entries

What is here
  receipt.json               the signed receipt (Sigstore bundle v0.3, DSSE, in-toto statement, ECDSA P-256)
  events/N.json              each event of this run: entry N of the tenant's log, RFC 8785 JSON
${
  proven
    ? `  context/N.json             what was in force then: entitlement and its reviews, release, budget, flags; entries of the same log
  events/N.tlog-proof, context/N.tlog-proof
                             proof that entry N is there (C2SP tlog-proof): salt, index, sibling hashes, signed checkpoint
  appendix/*.json            the privacy budget and the access reviews of this run; each value names the entry it was read from
`
    : ""
}  manifests/FROM-TO.json     signed manifest of the log segment that holds an entry
  keys.json                  the public keys that signed; trust them only if you had them from elsewhere
  check.sh                   does all that stands below, but for DuckDB
  index.json                 one signed statement with the SHA-256 of every other file
${
  proven
    ? ""
    : `
What this pack does not prove
  Version 2 is made while the tenant's log is exported periodically (flag audit_rt_export off). It has no proofs: that these
  entries are in the log is what the key that signed index.json says, and nothing that you can compute. It does not say which
  entitlement and which budget were in force.
`
}
How to check it, with sh and openssl
  You need the keys from elsewhere than from here: GET /api/audit/keys of the service that you trust, saved as a file. KEYS
  below is that file. check.sh came with the pack: read it, it is short. PACK is the archive.

$ unzip -q "$PACK" -d pack
$ cd pack
$ sh check.sh "$KEYS"

  It ends with VERIFIED, or names the first file that is not right. What it does, by hand:

  1. The key of index.json, out of KEYS, as PEM:
$ kid=$(cut -d'"' -f16 index.json)
$ { tr -d ' \\n' < "$KEYS"; echo; } | tr '{' '\\n' | while read -r key; do case $key in *"$kid"*) case $key in *'"use":"pack"'*) key=\${key#*'"spki":"'}; echo "\${key%%'"'*}";; esac;; esac; done | openssl base64 -d -A | openssl pkey -pubin -inform DER -out ../pack.pem

  2. Its signature is over DSSE's encoding of the payload (https://github.com/secure-systems-lab/dsse):
$ cut -d'"' -f6 index.json | openssl base64 -d -A > ../payload.json
$ cut -d'"' -f20 index.json | openssl base64 -d -A > ../signature.der
$ { printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c < ../payload.json)"; cat ../payload.json; } > ../signed
$ openssl dgst -sha256 -verify ../pack.pem -signature ../signature.der ../signed

  3. Every file has the digest that stands in the payload (no output is good):
$ { tr '{' '\\n' < ../payload.json; echo; } | while IFS='"' read -r _ member _ sha _ word _ name _; do [ "$member $word" = "sha256 name" ] || continue; [ "$(openssl dgst -sha256 -r "$name" | cut -d' ' -f1)" = "$sha" ] || echo "$name was changed"; done
${
  proven
    ? `
  4. A leaf is SHA-256 of: the byte 00, the 16 bytes of salt ("extra" in the proof, base64), the event's bytes. For the first:
$ for event in events/*.json; do break; done; N=\${event%.json}
$ { printf '\\000'; head -n 2 "$N.tlog-proof" | tail -n 1 | cut -d' ' -f2 | openssl base64 -d -A; cat "$N.json"; } | openssl dgst -sha256
     Combine it with the proof's hashes (RFC 9162, 2.1.3.2), SHA-256 of: the byte 01, left, right. check.sh does.

  5. The result is the third line of the checkpoint at the end of the proof, whose three lines are signed with Ed25519, by one of
     the log's keys (those that signed before are in KEYS too):
$ { tr -d ' \\n' < "$KEYS"; echo; } | tr '{' '\\n' | while read -r key; do case $key in *'"use":"checkpoint"'*) key=\${key#*'"spki":"'}; echo "\${key%%'"'*}";; esac; done > ../log.keys
$ tail -n 5 "$N.tlog-proof" | head -n 3 > ../note
$ tail -n 1 "$N.tlog-proof" | cut -d' ' -f3 | openssl base64 -d -A | tail -c 64 > ../note.sig
$ while read -r key; do echo "$key" | openssl base64 -d -A | openssl pkey -pubin -inform DER -out ../log.pem; openssl pkeyutl -verify -pubin -inkey ../log.pem -rawin -in ../note -sigfile ../note.sig && break; done < ../log.keys
`
    : ""
}
How to read it, with DuckDB
$ duckdb -c "select seq, type, occurred_at, principal from read_json('events/*.json', columns={seq: 'BIGINT', type: 'VARCHAR', occurred_at: 'TIMESTAMPTZ', principal: 'VARCHAR'}) order by seq"
${
  proven
    ? `  The numbers of appendix/privacy-budget.json, out of the entries that they were read from:
$ duckdb -c "select seq, type, attributes->>'limit_units' as limit_units, attributes->>'units' as units, attributes->>'remaining_units' as remaining_units from read_json(['events/*.json', 'context/*.json'], columns={seq: 'BIGINT', type: 'VARCHAR', attributes: 'JSON'}) where type like 'mc.privacy.%' order by seq"
`
    : ""
}  Whoever has the segment that a manifest is about (GET /api/audit/segments/FROM-TO, saved as SEGMENT) finds the same rows there:
$ duckdb -c "select seq, event_id, type from read_parquet('$SEGMENT') where execution_id = '${executionId}' order by seq"
`;
}
