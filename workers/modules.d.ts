// What the bundler makes of files that are not code: a .wasm is a compiled module (rule CompiledWasm in wrangler.toml).

declare module "*.wasm" {
  const module: WebAssembly.Module;
  export default module;
}
