// Headers of every answer: app.ts sets them last.

/** Nothing is cached, framed, sniffed or run, unless the route said otherwise; and no header lets another origin in. */
export function secureHeaders(headers: Headers, requestId: string): void {
  headers.set("maestro-request-id", requestId);
  headers.set("x-content-type-options", "nosniff");
  headers.set("referrer-policy", "no-referrer");
  headers.set("cross-origin-resource-policy", "same-origin");
  headers.set("strict-transport-security", "max-age=31536000");
  if (!headers.has("cache-control")) headers.set("cache-control", "no-store");
  if (!headers.has("content-security-policy")) {
    headers.set("content-security-policy", "default-src 'none'; frame-ancestors 'none'");
  }
}
