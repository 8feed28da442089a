// The two pieces of Node that workerd has and this worker uses; the Workers types do not declare them.

declare module "node:crypto" {
  export function createHash(algorithm: "sha256"): {
    update(data: Uint8Array): { digest(): Uint8Array };
  };
}
declare module "node:zlib" {
  const zlib: {
    gzipSync(data: Uint8Array, options: { level: number }): Uint8Array;
    inflateRawSync(data: Uint8Array, options: { maxOutputLength: number; info: true }): unknown;
    crc32(data: Uint8Array): number;
  };
  export default zlib;
}
