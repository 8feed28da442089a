#!/bin/sh
# Checks the disclosure pack in the folder of this script, with sh, openssl and the plainest tools of POSIX (cat, cut, tr,
# head, od, sort, tail, wc, mktemp, rm). Nothing is asked of a network.
#
#   sh check.sh KEYS     KEYS: a file with the answer of GET /api/audit/keys, from a service that you trust
#
# Its last line is VERIFIED, with exit code 0; or FAILED and what is wrong, with exit code 1. What it does not do: make the
# files of appendix/ anew (they are covered by the signed index; `maestro disclosure verify` and DuckDB can).
#
# Formats: https://github.com/secure-systems-lab/dsse (signatures), https://c2sp.org/tlog-proof, https://c2sp.org/signed-note,
# RFC 9162 section 2.1.3.2 (inclusion). JSON is RFC 8785's, so members stand in one order and text can be compared.

set -u
LC_ALL=C
export LC_ALL

keys=${1:-}
if [ -z "$keys" ] || [ ! -f "$keys" ]; then
  echo "usage: sh check.sh KEYS (a file with the public keys that you trust)" >&2
  exit 2
fi
case $keys in /*) ;; *) keys=$(pwd)/$keys ;; esac
case $0 in */*) cd "${0%/*}" || exit 2 ;; esac
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM

fail() {
  echo "FAILED: $1"
  exit 1
}

# The text of member $2 in the JSON text $1; empty where there is none. Numbers: number.
member() {
  case $1 in *"\"$2\":\""*) ;; *) return ;; esac
  value=${1#*"\"$2\":\""}
  printf %s "${value%%\"*}"
}
number() {
  case $1 in *"\"$2\":"*) ;; *) return ;; esac
  value=${1#*"\"$2\":"}
  printf %s "${value%%[!0-9]*}"
}
digest() { openssl dgst -sha256 -r "$1" | cut -d' ' -f1; }
decode() { printf %s "$1" | openssl base64 -d -A; }

# --- the keys: one a line, so that members of one are not taken for those of another
{ tr -d ' \r\n\t' < "$keys"; echo; } | tr '{' '\n' > "$tmp/keys"
origin=$(member "$(cat "$tmp/keys")" origin_prefix)
[ -n "$origin" ] || fail "KEYS is not a key set"

# Writes the key $1 (a kid) of use $2 as $tmp/key.pem.
key_of() {
  while read -r line; do
    [ "$(member "$line" kid)" = "$1" ] && [ "$(member "$line" use)" = "$2" ] || continue
    decode "$(member "$line" spki)" > "$tmp/key.der"
    openssl pkey -pubin -inform DER -in "$tmp/key.der" -out "$tmp/key.pem" 2> "$tmp/said" || continue
    key_line=$line
    return 0
  done < "$tmp/keys"
  return 1
}

# Whether the key of $tmp/key.pem signed at the time $1: not before it was made, nor after it was retired.
in_force() {
  end=$(member "$key_line" not_after)
  printf '%s\n%s\n%s\n' "$(member "$key_line" not_before)" "$1" "${end:-$1}" | sort -c 2> "$tmp/said"
}

# Verifies the bundle $1 with a key of use $2; its payload is then $tmp/payload and in $payload.
open_bundle() {
  bundle=$(cat "$1"; echo .)
  bundle=${bundle%.}
  payload64=$(member "$bundle" payload)
  kid=$(member "$bundle" keyid)
  sig=$(member "$bundle" sig)
  envelope="{\"dsseEnvelope\":{\"payload\":\"$payload64\",\"payloadType\":\"application/vnd.in-toto+json\",\"signatures\":[{\"keyid\":\"$kid\",\"sig\":\"$sig\"}]}"
  material="\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"verificationMaterial\":{\"publicKey\":{\"hint\":\"$kid\"}}}"
  [ "$bundle" = "$envelope,$material" ] || fail "$1 is not a signed bundle of the expected form"
  key_of "$kid" "$2" || fail "$1 is signed by a key that is not in KEYS for this use ($2)"
  decode "$payload64" > "$tmp/payload"
  decode "$sig" > "$tmp/sig"
  {
    printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c < "$tmp/payload")"
    cat "$tmp/payload"
  } > "$tmp/signed"
  openssl dgst -sha256 -verify "$tmp/key.pem" -signature "$tmp/sig" "$tmp/signed" > "$tmp/said" 2>&1 ||
    fail "$1: the signature does not verify"
  payload=$(cat "$tmp/payload")
}

# --- the index: its signature, what it says, and the digest of every file
[ -f index.json ] || fail "index.json is missing"
open_bundle index.json pack
index=$payload
index_end=$(member "$key_line" not_after)
case $index in
  *'"predicateType":"https://maestro-conductor.dev/attestations/disclosure-pack/v3"'*) version=3 ;;
  *'"predicateType":"https://maestro-conductor.dev/attestations/disclosure-pack/v2"'*) version=2 ;;
  *) fail "index.json is not the index of a pack of version 2 or 3" ;;
esac
tenant=$(member "$index" tenant_id)
execution=$(member "$index" execution_id)
size=$(number "$index" tree_size)
[ "$(member "$index" log_origin)" = "$origin" ] || fail "the pack is of another log than $origin"

{ tr '{' '\n' < "$tmp/payload"; echo; } > "$tmp/lines"
: > "$tmp/names"
while IFS='"' read -r _ first _ sha _ second _ name _; do
  [ "$first $second" = "sha256 name" ] || continue
  case $name in
    README.txt | check.sh | receipt.json | keys.json) ;;
    events/*/* | context/*/* | appendix/*/* | manifests/*/* | *[!A-Za-z0-9./-]*) fail "a pack has no such file: $name" ;;
    events/[0-9]* | context/[0-9]* | appendix/[a-z]* | manifests/[0-9]*) ;;
    *) fail "a pack has no such file: $name" ;;
  esac
  [ -f "$name" ] && [ ! -L "$name" ] || fail "$name is missing"
  printf '%s\n' "$name" >> "$tmp/names"
  printf '%s *%s\n' "$sha" "$name" >> "$tmp/expected"
done < "$tmp/lines"
names=" $(tr '\n' ' ' < "$tmp/names")"
# Names have no spaces and no patterns: they were looked at.
openssl dgst -sha256 -r $names > "$tmp/found" || fail "the files cannot be read"
exec 3< "$tmp/found"
while read -r line; do
  read -r found <&3 && [ "$line" = "$found" ] || fail "${line#*\*} was changed"
done < "$tmp/expected"
exec 3<&-
for file in * */* .[!.]*; do
  [ -e "$file" ] || [ -L "$file" ] || continue
  case $file in index.json | events | context | appendix | manifests) continue ;; esac
  case $names in *" $file "*) ;; *) fail "$file is not in the index" ;; esac
done

# --- the manifests: which ranges of the log are sealed
: > "$tmp/ranges"
tree_note=
tree_sealed=
for file in manifests/*.json; do
  [ -f "$file" ] || fail "no manifest"
  open_bundle "$file" manifest
  case $payload in *'"predicateType":"https://maestro-conductor.dev/attestations/audit-segment/v1"'*) ;; *) fail "$file is no manifest" ;; esac
  [ "$(member "$payload" tenant_id)" = "$tenant" ] || fail "$file is another tenant's"
  range=${file#manifests/}
  range=${range%.json}
  from=$(number "$payload" from)
  to=$(number "$payload" to)
  [ "$range" = "$(printf '%020d-%020d' "$from" "$to")" ] || fail "$file is of another range"
  in_force "$(member "$payload" sealed_at)" || fail "$file is not of the time of its key"
  if [ "$to" = "$size" ]; then
    tree_sealed=$(member "$payload" sealed_at)
    tree_note=$(member "$payload" checkpoint)
  fi
  printf '%s %s\n' "$from" "$to" >> "$tmp/ranges"
done
[ -n "$tree_note" ] || fail "no manifest ends with the pack's tree"
# Its key may be younger than the tree, and not older than its own end.
printf '%s\n%s\n' "$tree_sealed" "${index_end:-$tree_sealed}" | sort -c 2> "$tmp/said" ||
  fail "index.json is about a tree from after the time of the key that signed it"
is_sealed() {
  while read -r from to; do
    [ "$from" -le "$1" ] && [ "$1" -lt "$to" ] && return 0
  done < "$tmp/ranges"
  return 1
}

# --- the checkpoint: signed once, the same in every proof and in the manifest that ends with the tree
checked_note=
check_note() {
  [ "$1" = "$checked_note" ] && return
  printf '%s\n' "$1" > "$tmp/whole"
  # As JSON writes it: its line ends are \n, and nothing else of it is escaped.
  escaped=
  while read -r line; do escaped="$escaped$line\\n"; done < "$tmp/whole"
  [ "$escaped" = "$tree_note" ] || fail "$2: the checkpoint is not the one in the manifest"
  head -n 3 "$tmp/whole" > "$tmp/note"
  {
    read -r note_origin
    read -r note_size
    read -r root
  } < "$tmp/note"
  [ "$note_origin" = "$origin/$tenant" ] || fail "$2: the checkpoint is of another log"
  [ "$note_size" = "$size" ] || fail "$2: the checkpoint is of another tree than index.json says"
  tail -n +5 "$tmp/whole" | cut -d' ' -f3 | head -n 1 > "$tmp/line"
  decode "$(cat "$tmp/line")" | tail -c 64 > "$tmp/sig"
  found=
  while read -r line; do
    [ "$(member "$line" use)" = checkpoint ] || continue
    key_of "$(member "$line" kid)" checkpoint || continue
    openssl pkeyutl -verify -pubin -inkey "$tmp/key.pem" -rawin -in "$tmp/note" -sigfile "$tmp/sig" > "$tmp/said" 2>&1 &&
      in_force "$tree_sealed" && found=yes
  done < "$tmp/keys"
  [ -n "$found" ] || fail "$2: the checkpoint's signature does not verify"
  checked_note=$1
}

# --- an entry: its proof leads from it to the checkpoint's root (RFC 9162, 2.1.3.2). Its leaf hash is then $tmp/leaf
check_proof() {
  proof=${1%.json}.tlog-proof
  [ -f "$proof" ] || fail "$proof is missing"
  {
    read -r head_line
    read -r extra_line
    read -r index_line
    [ "$head_line" = "c2sp.org/tlog-proof@v1" ] && [ "$index_line" = "index $2" ] || fail "$proof is not a proof of entry $2"
    {
      printf '\000'
      decode "${extra_line#extra }"
      cat "$1"
    } > "$tmp/pre"
    openssl dgst -sha256 -binary "$tmp/pre" > "$tmp/leaf"
    cat "$tmp/leaf" > "$tmp/hash"
    place=$2
    last=$((size - 1))
    while read -r line && [ -n "$line" ]; do
      [ "$last" -gt 0 ] || fail "$proof is too long"
      decode "$line" > "$tmp/sibling"
      if [ $((place % 2)) -eq 1 ] || [ "$place" -eq "$last" ]; then
        { printf '\001'; cat "$tmp/sibling" "$tmp/hash"; } > "$tmp/pre"
        while [ $((place % 2)) -eq 0 ] && [ "$place" -gt 0 ]; do
          place=$((place / 2))
          last=$((last / 2))
        done
      else
        { printf '\001'; cat "$tmp/hash" "$tmp/sibling"; } > "$tmp/pre"
      fi
      openssl dgst -sha256 -binary "$tmp/pre" > "$tmp/hash"
      place=$((place / 2))
      last=$((last / 2))
    done
    note=$(cat)
  } < "$proof"
  [ "$last" -eq 0 ] || fail "$proof is too short"
  check_note "$note" "$proof"
  [ "$(openssl base64 -A -in "$tmp/hash")" = "$root" ] || fail "$proof does not lead from the entry to the checkpoint"
}

# The number in a file's name, without leading zeros.
seq_of() {
  seq=${1##*/}
  seq=${seq%.json}
  while [ "${#seq}" -gt 1 ] && [ "${seq#0}" != "$seq" ]; do seq=${seq#0}; done
}

events=0
finished=
finished_leaf=
receipt_logged=
[ -f receipt.json ] || fail "receipt.json is missing"
receipt=$(cat receipt.json)
for file in events/*.json context/*.json; do
  [ -f "$file" ] || continue
  seq_of "$file"
  body=$(cat "$file")
  case $body in
    *"\"seq\":$seq,\"source\":"*"\"tenant_id\":\"$tenant\",\"type\":\""*'"}') ;;
    *) fail "$file is not entry $seq of this tenant's log" ;;
  esac
  is_sealed "$seq" || fail "no manifest in the pack is about the segment that holds $file"
  [ "$version" = 2 ] || check_proof "$file" "$seq"
  case $file in context/*) continue ;; esac
  events=$((events + 1))
  [ "$(member "$body" execution_id)" = "$execution" ] || fail "$file is another run's"
  case $body in
    *'"type":"mc.execution.finished"}')
      [ -z "$finished" ] || continue
      finished=$body
      [ "$version" = 2 ] || finished_leaf=$(od -An -v -tx1 "$tmp/leaf" | tr -d ' \n')
      ;;
    *"\"receipt\":$receipt,"*'"type":"mc.receipt.signed"}' | *"\"receipt\":$receipt}"*'"type":"mc.receipt.signed"}') receipt_logged=yes ;;
  esac
done
[ "$events" = "$(number "$index" event_count)" ] || fail "the number of events is not the one that was signed"

# --- the receipt: signed, the one in the log, and to the letter what the run's end makes: of its leaf, and of what it says
open_bundle receipt.json receipt
case $payload in *'"predicateType":"https://maestro-conductor.dev/attestations/receipt/v1"'*) ;; *) fail "receipt.json is no receipt" ;; esac
[ "$(member "$payload" execution_id)" = "$execution" ] || fail "the receipt is another run's"
[ -n "$receipt_logged" ] || fail "the receipt is not the one in the log"
[ -n "$finished" ] || fail "the end of the run is not in the pack"
[ "$version" = 2 ] || [ "$(member "$payload" leaf_sha256)" = "$finished_leaf" ] || fail "the receipt is not of the run's last entry"
# "name":value of the end's member $1, as the receipt's $2; `text` for strings, `whole` for numbers, of which one may be null.
text() { printf '"%s":"%s"' "$2" "$(member "$finished" "$1")"; }
whole() {
  value=$(number "$finished" "$1")
  printf '"%s":%s' "$2" "${value:-null}"
}
part() {
  sha=$(member "$finished" "$2")
  [ -z "$sha" ] || printf ',{"digest":{"sha256":"%s"},"name":"%s/%s"}' "$sha" "$execution" "$1"
}
subjects=$(part release release_sha256; part input input_sha256; part output output_sha256)
{
  printf '{"_type":"https://in-toto.io/Statement/v1","predicate":{'
  printf '%s,' "$(text channel channel)" "$(whole duration_ms duration_ms)" "$(text execution_id execution_id)" "$(whole exit_code exit_code)"
  printf '%s,' "$(text occurred_at finished_at)"
  printf '"finished_event":{%s,"leaf_sha256":"%s",' "$(text id id)" "$(member "$payload" leaf_sha256)"
  printf '%s,%s},' "$(text logged_at logged_at)" "$(whole seq seq)"
  printf '%s,' "$(text outcome outcome)" "$(text package package)" '"schema_version":1' "$(text tenant_id tenant_id)" "$(whole units units)"
  printf '%s},"predicateType":"https://maestro-conductor.dev/attestations/receipt/v1",' "$(text version version)"
  printf '"subject":[%s]}' "${subjects#,}"
} > "$tmp/expected"
[ "$payload" = "$(cat "$tmp/expected")" ] || fail "the receipt does not say what the run's end says"

echo "execution $execution, outcome $(member "$payload" outcome), tenant $tenant"
echo "$events events of the run, in a tree of $size entries"
[ "$version" = 3 ] || echo "version 2: no proofs. That the entries are in the log is what the key of index.json says, not more."
[ "$(digest "$keys")" != "$(digest keys.json)" ] || echo "note: KEYS is the very file that came with the pack. Unless you have it from elsewhere too, this proves nothing."
echo VERIFIED
