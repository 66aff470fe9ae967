// y[o, r, i] = Σ x[o, q, i] over q ≤ r (or q < r, or from the end), x seen as [outer, count, inner], cut into chunks along the middle.
// One thread per chunk walks it. 'totals': the sum of each chunk, f32; 'scan': the running sum on top of what came before the chunk.
import { enable, type Float, flatIndex, u32, wgsl } from './wgsl.js';

export interface RunningSum {
  readonly outer: number;
  readonly count: number;
  readonly inner: number;
  /** Elements of a chunk; the last may have fewer. */
  readonly chunk: number;
  readonly exclusive: boolean;
  readonly reverse: boolean;
}

export function cumsumShader(
  pass: 'totals' | 'scan',
  from: Float,
  to: Float,
  { outer, count, inner, chunk, exclusive, reverse }: RunningSum,
): string {
  const chunks = Math.ceil(count / chunk);
  const begins = pass === 'scan' && chunks > 1;
  const add = 'sum += f32(x[at]);';
  return wgsl`${enable(from === 'f16' || to === 'f16' ? 'f16' : 'f32')}
@group(0) @binding(0) var<storage, read> x: array<${from}>;
@group(0) @binding(1) var<storage, read_write> y: array<${to}>;
#if ${begins}
@group(0) @binding(2) var<storage, read> before: array<f32>;
#endif

@compute @workgroup_size(64)
fn cumsum_${pass}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let item = ${flatIndex(64)};
  if (item >= ${u32(outer * chunks * inner)}) { return; }
  let first = item / ${u32(inner)} % ${u32(chunks)} * ${u32(chunk)};
  let base = item / ${u32(chunks * inner)} * ${u32(count * inner)} + item % ${u32(inner)};
  let end = min(first + ${u32(chunk)}, ${u32(count)});
  let start = ${begins ? 'before[item]' : '0.0'};
  var sum = 0.0;
  for (var r = first; r < end; r++) {
    let at = base + ${reverse ? `(${u32(count - 1)} - r)` : 'r'} * ${u32(inner)};
    ${pass === 'totals' || !exclusive ? add : ''}
    ${pass === 'totals' ? '' : `y[at] = ${to}(start + sum);`}
    ${pass === 'scan' && exclusive ? add : ''}
  }
  ${pass === 'totals' ? 'y[item] = start + sum;' : ''}
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [true, false].flatMap((exclusive) =>
      [true, false].flatMap((reverse) => {
        const sum = { outer: 2, count: 100, inner: 3, chunk: 64, exclusive, reverse };
        return [
          cumsumShader('totals', dtype, 'f32', sum),
          cumsumShader('scan', dtype, dtype, sum),
          cumsumShader('scan', dtype, dtype, { ...sum, chunk: 100 }),
        ];
      }),
    ),
  );
