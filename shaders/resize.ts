// Resampling along each axis of [N, L, C], [N, H, W, C] or [N, D, H, W, C] by rows of weights: an output is Σ weight · input over the
// neighbouring inputs of its row, along one axis inside the other. A gradient is the same with the rows of the transposed weights.
// One thread per quad of channels of an output. The rows are data, computed in float64 by the op: `table` holds for each output of each
// axis [first input, end, weights …]. So one kernel serves every mode, and what a row does not list is not read.
import {
  coordinates,
  coordinatesOf,
  type ImageSizes,
  pixelIndex,
  product,
  type Triple,
  vectorsOf,
} from './image-sizes.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

export interface ResizeSizes extends ImageSizes {
  readonly dtype: Float;
  /** Weights that a row of each axis has room for; 0 for an axis that stays as it is. */
  readonly room: Triple;
}

export function resizeShader(sizes: ResizeSizes): string {
  const { batch, input, output, room } = sizes;
  const { V, S, quads } = vectorsOf(sizes);
  const begins = room.map((_, k) => [0, 1, 2].slice(0, k).reduce((at, j) => at + rowsLength(sizes, j), 0));
  const changed = coordinates.filter((_, k) => room[k]);
  const rows = coordinates.flatMap((name, k) =>
    room[k]
      ? [
          wgsl`
  let ${name}_row = ${u32(begins[k]!)} + ${name} * ${u32(room[k]! + 2)};
  let ${name}_first = u32(table[${name}_row]);
  let ${name}_end = u32(table[${name}_row + 1u]);`,
        ]
      : [],
  );
  const at = coordinates.map((name, k) => (room[k] ? `${name}_in` : name)) as [string, string, string];
  const pixel = `${V}(x[${pixelIndex(input, ...at)} * ${u32(quads)} + quad])`;
  const sum = changed.reduceRight(
    (inner, name, level) => wgsl`
  var ${name}_sum = ${V}(0.0);
  for (var ${name}_in = ${name}_first; ${name}_in < ${name}_end; ${name}_in++) {${level === changed.length - 1 ? '' : inner}
  ${name}_sum += table[${name}_row + 2u + ${name}_in - ${name}_first] * ${level === changed.length - 1 ? inner : `${changed[level + 1]}_sum`};
  }`,
    pixel,
  );
  return wgsl`${enable(sizes.dtype)}
@group(0) @binding(0) var<storage, read> x: array<${S}>;
@group(0) @binding(1) var<storage, read_write> y: array<${S}>;
@group(0) @binding(2) var<storage, read> table: array<f32>;

@compute @workgroup_size(64)
fn resize(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(batch * product(output) * quads)}) { return; }
  let quad = i % ${u32(quads)};
  ${coordinatesOf(`(i / ${u32(quads)})`, output)}
${rows.join('')}${sum}
  y[i] = ${S}(${changed[0]!}_sum);
}`;
}

/** Numbers of the table for an axis. */
const rowsLength = ({ output, room }: ResizeSizes, axis: number): number =>
  room[axis] ? output[axis]! * (room[axis]! + 2) : 0;

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [3, 8].flatMap((channels) => [
      resizeShader({ dtype, batch: 2, channels, input: [1, 1, 5], output: [1, 1, 8], room: [0, 0, 2] }),
      resizeShader({ dtype, batch: 2, channels, input: [1, 5, 4], output: [1, 3, 8], room: [0, 4, 2] }),
      resizeShader({ dtype, batch: 2, channels, input: [4, 5, 4], output: [2, 5, 9], room: [2, 0, 3] }),
    ]),
  );
