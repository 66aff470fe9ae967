// Input gradient of a convolution of stride 2, by gathering:
//
//   dx[n,q,c] = Σ_{tap,o} dy[n, (q + padding − tap)/stride, o] · weight[o,tap,c]      (where that is an output pixel)
import { enable, type Float, flatIndex, u32, wgsl } from '../wgsl.js';
import { type ConvGeometry, evenGeometry, lines, product, range, squareGeometry, vector } from './geometry.js';

/** Pixels of one thread of `convStridedGradientShader`: every other column of a row. */
const stridedColumns = 4;

const stridedTiles = (g: ConvGeometry): number => 2 * Math.ceil(Math.ceil(g.input[2] / 2) / stridedColumns);
const stridedWidth = (g: ConvGeometry): 1 | 4 => (g.inputs % 4 === 0 ? 4 : 1);

/** Threads of a launch of `convStridedGradientShader`. */
export const convStridedGradientThreads = (g: ConvGeometry): number =>
  (g.inputs / stridedWidth(g)) * stridedTiles(g) * g.batch * g.input[0] * g.input[1];

/**
 * Input gradient of stride 2. Thread = 4 (or 1) neighbouring input channels × 4 columns of one row, all even or all odd, so
 * that they meet the same taps; taps that fall between output pixels are never visited.
 */
export function convStridedGradientShader(dtype: Float, g: ConvGeometry, parameters = dtype): string {
  const [depth, height, width] = g.input;
  const [outDepth, outHeight, outWidth] = g.output;
  const [kernelDepth, kernelHeight, kernelWidth] = g.kernel;
  const [padDepth, padHeight, padWidth] = g.padding;
  const channels = stridedWidth(g);
  const groups = g.inputs / channels;
  const tiles = stridedTiles(g);
  const accumulator = channels === 1 ? 'f32' : 'vec4f';
  const columns = range(stridedColumns);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> dy: array<${dtype}>;
@group(0) @binding(1) var<storage, read> weight: array<${vector(parameters, channels)}>;
@group(0) @binding(2) var<storage, read_write> dx: array<${vector(dtype, channels)}>;

@compute @workgroup_size(64)
fn conv_strided_input_gradient(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let thread = ${flatIndex(64)};
  if (thread >= ${u32(convStridedGradientThreads(g))}) { return; }
  let c = i32(thread % ${u32(groups)});
  let part = i32(thread / ${u32(groups)} % ${u32(tiles)});
  let row = i32(thread / ${u32(groups * tiles)});
  let parity = part % 2;
  let x0 = part / 2 * ${2 * stridedColumns} + parity;
  let y = row % ${height};
  let z = row / ${height} % ${depth};
  let image = row / ${height * depth};
${lines(columns.map((p) => `  var a${p} = ${accumulator}(0.0);`))}
  for (var kz = (z + ${padDepth}) % 2; kz < ${kernelDepth}; kz += 2) {
    let oz = (z + ${padDepth} - kz) / 2;
    if (z + ${padDepth} < kz || oz >= ${outDepth}) { continue; }
    for (var ky = (y + ${padHeight}) % 2; ky < ${kernelHeight}; ky += 2) {
      let oy = (y + ${padHeight} - ky) / 2;
      if (y + ${padHeight} < ky || oy >= ${outHeight}) { continue; }
      for (var kx = (parity + ${padWidth}) % 2; kx < ${kernelWidth}; kx += 2) {
        let ox = (x0 + ${padWidth} - kx) / 2;
        let pixel = ((image * ${outDepth} + oz) * ${outHeight} + oy) * ${outWidth} + ox;
        let tap = (kz * ${kernelHeight} + ky) * ${kernelWidth} + kx;
${lines(columns.map((p) => `        let inside${p} = ox + ${p} >= 0 && ox + ${p} < ${outWidth};`))}
        for (var o = 0; o < ${g.outputs}; o++) {
          let w = ${accumulator}(weight[u32((o * ${product(g.kernel)} + tap) * ${groups} + c)]);
${lines(
  columns.map(
    (p) => `          a${p} += w * select(0.0, f32(dy[u32((pixel + ${p}) * ${g.outputs} + o)]), inside${p});`,
  ),
)}
        }
      }
    }
  }
${lines(
  columns.map(
    (p) =>
      `  if (x0 + ${2 * p} < ${width}) { dx[u32((row * ${width} + x0 + ${2 * p}) * ${groups} + c)] = ${vector(dtype, channels)}(a${p}); }`,
  ),
)}
}`;
}

/** Representative texts of the kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) => [
    convStridedGradientShader(dtype, squareGeometry(8, 4, 3, 2)),
    convStridedGradientShader(dtype, squareGeometry(3, 5, 1, 2, 12), 'f32'),
    convStridedGradientShader(dtype, evenGeometry),
  ]);
