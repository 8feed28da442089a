// The If-Match header, as RFC 9110 section 13.1.1 reads it: `*`, or a list of ETags of which one must be current. Called by
// routes whose answers have an ETag.

/** So many ETags of a list are looked at; what comes after them never matches. */
const tagsMax = 64;

/**
 * The opaque part of each ETag that may match, or null where any will do (no header, or `*`). A weak ETag never matches
 * here (section 8.8.3.2), and a header that is not well formed has none that does.
 */
export function ifMatch(header: string | null): string[] | null {
  if (header === null || header.trim() === "*") return null;
  const tags: string[] = [];
  // Sticky: each step begins where the one before ended, so that nothing between two ETags goes unread. A list may have
  // empty members (section 5.6.1.2).
  const member = /[ \t]*(?:(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"[ \t]*)?(?:,|$)/y;
  for (let count = 0; member.lastIndex < header.length; count += 1) {
    const found = member.exec(header);
    if (found === null || count === tagsMax) return [];
    if (found[1] === undefined && found[2] !== undefined) tags.push(found[2]);
  }
  return tags;
}
