// Reads vitest's JSON report: how many tests passed and failed, and which were skipped. Called by the commands that run
// vitest.

import { existsSync, readFileSync } from "node:fs";

export interface Count {
  readonly passed: number;
  readonly failed: number;
}

interface Report {
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

/**
 * A file that could not be loaded counts as one failure, and so does a run that ended badly although every test passed:
 * no report, an unhandled error, a time limit.
 */
export function countTests(
  reportPath: string,
  status: number | null,
  timedOut: boolean,
): Count & { readonly skipped: readonly string[] } {
  const none = { passed: 0, failed: status === 0 && !timedOut ? 0 : 1, skipped: [] };
  if (!existsSync(reportPath)) return none;
  const report = JSON.parse(readFileSync(reportPath, "utf8")) as Report;
  let passed = 0;
  let failed = 0;
  const skipped: string[] = [];
  for (const file of report.testResults) {
    const failures = file.assertionResults.filter((test) => test.status === "failed").length;
    failed += file.status === "failed" && failures === 0 ? 1 : failures;
    passed += file.assertionResults.filter((test) => test.status === "passed").length;
    for (const test of file.assertionResults) {
      if (test.status !== "passed" && test.status !== "failed") skipped.push(test.fullName);
    }
  }
  if (failed === 0 && (status !== 0 || timedOut)) failed = 1;
  return { passed, failed, skipped };
}
