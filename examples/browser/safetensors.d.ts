// Bundled as bytes (build.ts).
declare module '*.safetensors' {
  const bytes: Uint8Array;
  export default bytes;
}
