// y = l_a(n_a) + l_b(n_b) with n = (z − μ)·s + β: the sum of two deferred activations (conv/fusion.ts). One thread per vector
// of four channels, or per element where their count is no multiple of four.
import { type Activation, groupOf, leakyRelu, normalized } from './conv/fusion.js';
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

/** Of both tensors: [items, …, channels]. */
export interface AddedSizes {
  readonly size: number;
  readonly items: number;
  readonly channels: number;
}

/** Vectors of four, or single elements. */
const widthOf = ({ channels }: AddedSizes): 1 | 4 => (channels % 4 === 0 ? 4 : 1);

export const addActivationsThreads = (sizes: AddedSizes): number => sizes.size / widthOf(sizes);

/** y from the norms' inputs `za`, `zb` and their coefficients; neither activation has dropout. */
export function addActivationsShader(dtype: Float, sizes: AddedSizes, a: Activation, b: Activation): string {
  if (a.dropout || b.dropout)
    throw new TypeError('addActivationsShader: dropout is not drawn; compute the input first.');
  const width = widthOf(sizes);
  const [V, S] = width === 4 ? ['vec4f', `vec4<${dtype}>`] : ['f32', dtype];
  const quads = sizes.channels / width;
  const term = (name: 'a' | 'b', of: Activation): string => {
    const group = groupOf(of);
    const at = (row: number): string =>
      `coefficients_${name}[${group ? `${group} * ${u32(4 * quads)} + ` : ''}${row ? `${u32(row * quads)} + ` : ''}quad]`;
    return wgsl`  let n${name} = ${normalized(`${V}(z${name}[i])`, at(0), at(1), at(2))};
  let ${name} = ${leakyRelu(`n${name}`, V, of.slope)};`;
  };
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> za: array<${S}>;
@group(0) @binding(1) var<storage, read> coefficients_a: array<${V}>;
@group(0) @binding(2) var<storage, read> zb: array<${S}>;
@group(0) @binding(3) var<storage, read> coefficients_b: array<${V}>;
@group(0) @binding(4) var<storage, read_write> y: array<${S}>;

@compute @workgroup_size(64)
fn add_activations(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(addActivationsThreads(sizes))}) { return; }
  let quad = i % ${u32(quads)};
  let image = i / ${u32(sizes.size / sizes.items / width)};
${term('a', a)}
${term('b', b)}
  y[i] = ${S}(a + b);
}`;
}

/** Representative texts of the kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [8, 3].flatMap((channels) => {
      const sizes = { size: 30 * channels, items: 2, channels };
      const [relu, grouped] = [
        { slope: 0, dropout: 0 },
        { slope: 0.01, dropout: 0, groups: [1, 1] },
      ];
      return [addActivationsShader(dtype, sizes, relu, relu), addActivationsShader(dtype, sizes, relu, grouped)];
    }),
  );
