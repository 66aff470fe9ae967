// Mean of windows of two along each axis, stride 2, over [N, H, W, C] or [N, D, H, W, C]; odd last planes, rows and columns are left out.
//   y = Σ window / |window|          dx = dy of its window / |window|, 0 where x is left out
// One thread per quad of channels of an output (forward) or input (backward) pixel.
import {
  coordinates,
  coordinatesOf,
  type ImageSizes,
  pixelIndex,
  product,
  type Triple,
  vectorsOf,
} from './image-sizes.js';
import { enable, type Float, f32, flatIndex, u32, wgsl } from './wgsl.js';

/** `output` is ⌊input / window⌋. */
export interface AveragePoolSizes extends ImageSizes {
  readonly dtype: Float;
  /** [1, 2, 2] or [2, 2, 2]. */
  readonly window: Triple;
}

export function averagePoolShader(sizes: AveragePoolSizes, pass: 'forward' | 'backward'): string {
  const { dtype, batch, input, output, window } = sizes;
  const { V, S, quads } = vectorsOf(sizes);
  const isForward = pass === 'forward';
  const result = isForward ? output : input;
  const scale = f32(1 / product(window));
  const [plane, row, column] = coordinates.map((name, axis) => `${name} / ${u32(window[axis]!)}`) as [
    string,
    string,
    string,
  ];
  const inside = coordinates.map((name, axis) => `${name} < ${u32(output[axis]! * window[axis]!)}`).join(' && ');
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> source: array<${S}>;
@group(0) @binding(1) var<storage, read_write> result: array<${S}>;

@compute @workgroup_size(64)
fn average_pool(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(batch * product(result) * quads)}) { return; }
  let quad = i % ${u32(quads)};
  ${coordinatesOf(`(i / ${u32(quads)})`, result)}
  var sum = ${V}(0.0);
#if ${isForward}
  for (var z = 0u; z < ${u32(window[0])}; z++) {
    for (var y = 0u; y < 2u; y++) {
      for (var x = 0u; x < 2u; x++) {
        let pixel = ${pixelIndex(input, `${u32(window[0])} * plane + z`, '2u * row + y', '2u * column + x')};
        sum += ${V}(source[pixel * ${u32(quads)} + quad]);
      }
    }
  }
#else
  if (${inside}) { sum = ${V}(source[${pixelIndex(output, plane, row, column)} * ${u32(quads)} + quad]); }
#endif
  result[i] = ${S}(sum * ${scale});
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [3, 8].flatMap((channels) => {
      const flat: AveragePoolSizes = {
        ...{ dtype, batch: 2, channels, input: [1, 5, 6], output: [1, 2, 3], window: [1, 2, 2] },
      };
      const solid: AveragePoolSizes = { ...flat, input: [3, 5, 6], window: [2, 2, 2] };
      return [flat, solid].flatMap((sizes) => [
        averagePoolShader(sizes, 'forward'),
        averagePoolShader(sizes, 'backward'),
      ]);
    }),
  );
