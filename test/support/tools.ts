// Foreign programs for test/interop: found by scripts/interop.ts, which requires them in CI. A test skips with
// `test.skipIf(tool("go") === null)`.

/** The program's absolute path, or null where it is absent. */
export const tool = (name: "go" | "opa" | "python3" | "duckdb" | "openssl" | "unzip" | "versitygw"): string | null =>
  process.env[`MAESTRO_TOOL_${name.toUpperCase()}`] || null;
