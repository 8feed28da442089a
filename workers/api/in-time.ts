// A bound on how long somebody is waited for, for platform calls that have none of their own. Called by object-ports.ts, platform-workers.ts,
// policies/ and routes/health.ts.

/** What `work` comes to; rejects where it takes longer than `ms`, and lets it go on then. `who`: the error's subject. */
export async function inTime<T>(work: Promise<T>, ms: number, who: string): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | null = null;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${who} did not answer within ${ms} ms`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
