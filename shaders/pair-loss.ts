// Mean over pairs (a_i, b_i) of a loss; a member of the table below is its value and its slopes. Numbers δ are data.
// Forward: thread t adds up pairs t, t + threads, …, four at a time where the count allows; the partial sums are added up by a
// reduction. Backward: one thread per pair (or four). Every order is fixed, and sums are f32.
import { functionTexts, quotientFunction } from './functions.js';
import { enable, type Float, flatIndex, nanFunctions, u32, wgsl } from './wgsl.js';

export type PairLoss = 'meanSquaredError' | 'huberLoss' | 'binaryCrossEntropy';

export interface PairLossSizes {
  readonly kind: PairLoss;
  readonly dtype: Float;
  readonly size: number;
}

/**
 * log(1 + e) for 0 ≤ e ≤ 1 as 2 artanh(e/(2 + e)): log itself would lose a small e. The next term of the series is below 2^-26 of the
 * first.
 */
const softly = wgsl`
fn log_1_plus(e: V) -> V {
  let s = e / (e + 2.0);
  let q = s * s;
  return 2.0 * s * (1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0)))))));
}`;

/** WGSL of V for each loss. Drivers may drop a NaN in exp, min and max; there `keep_nan` tests the bits. */
const losses: Record<PairLoss, { value: string; a: string; b: string; numbers?: true; functions?: string }> = {
  meanSquaredError: { value: '(a - b) * (a - b)', a: '2.0 * (a - b)', b: '2.0 * (b - a)' },
  huberLoss: {
    value: 'select(delta * (abs(a - b) - 0.5 * delta), 0.5 * (a - b) * (a - b), abs(a - b) <= delta)',
    a: 'keep_nan(a - b, clamp(a - b, -delta, delta))',
    b: 'keep_nan(b - a, clamp(b - a, -delta, delta))',
    numbers: true,
  },
  // a: logit, b: target t. With e = exp(−|a|): −log p and −log(1 − p) are log(1 + e) plus 0 or |a|.
  binaryCrossEntropy: {
    value: 'keep_nan(a, select(-a * b, a * (1.0 - b), a >= V(0.0)) + log_1_plus(exp(-abs(a))))',
    a: 'keep_nan(a, ((1.0 - b) * select(e_of(a), V(1.0), a >= V(0.0)) - b * select(V(1.0), e_of(a), a >= V(0.0))) / (1.0 + e_of(a)))',
    b: '-a',
    functions: `${softly}\nfn e_of(a: V) -> V { return exp(-abs(a)); }`,
  },
};

/** Threads of the forward pass: as many partial sums. */
export const pairThreads = (size: number): number => Math.min(4096, Math.ceil(size / 16));

const widthOf = (size: number): 1 | 4 => (size % 4 === 0 ? 4 : 1);

function head({ kind, dtype, size }: PairLossSizes, outputs: string, first: number): string {
  const width = widthOf(size);
  const { numbers, functions = '' } = losses[kind];
  const stored = width === 4 ? `vec4<${dtype}>` : dtype;
  return wgsl`${enable(dtype)}
alias V = ${width === 4 ? 'vec4f' : 'f32'};
${nanFunctions(width === 4)}
${functions}
@group(0) @binding(0) var<storage, read> a_: array<${stored}>;
@group(0) @binding(1) var<storage, read> b_: array<${stored}>;
#if ${numbers === true}
@group(0) @binding(2) var<storage, read> numbers: array<f32>;
#endif
${outputs.replace(/@next/g, () => `@group(0) @binding(${first++})`)}`;
}

const load = ({ kind }: PairLossSizes): string =>
  `let a = V(a_[i]); let b = V(b_[i]);${losses[kind].numbers ? ' let delta = V(numbers[0]);' : ''}`;

export function pairLossForward(sizes: PairLossSizes): string {
  const { size, kind } = sizes;
  const width = widthOf(size);
  const threads = pairThreads(size);
  return wgsl`${head(sizes, '@next var<storage, read_write> partials: array<f32>;', 3)}

@compute @workgroup_size(64)
fn pair_loss(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
  var sum = V(0.0);
  for (var i = id.x; i < ${u32(size / width)}; i += ${u32(threads)}) {
    ${load(sizes)}
    sum += ${losses[kind].value};
  }
  partials[id.x] = ${width === 4 ? '(sum.x + sum.y) + (sum.z + sum.w)' : 'sum'};
}`;
}

/** The gradient of a or b; `count` [1] is what it is divided by. */
export function pairLossBackward(sizes: PairLossSizes, of: 'a' | 'b'): string {
  const { dtype, size, kind } = sizes;
  const width = widthOf(size);
  const stored = width === 4 ? `vec4<${dtype}>` : dtype;
  const outputs = `@next var<storage, read> dloss: array<f32>;
@next var<storage, read> count: array<f32>;
@next var<storage, read_write> gradient: array<${stored}>;`;
  return wgsl`${head(sizes, outputs, 3)}${functionTexts(quotientFunction)(width === 4)}

@compute @workgroup_size(64)
fn pair_loss_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= arrayLength(&gradient)) { return; }
  ${load(sizes)}
  gradient[i] = ${stored}(quotient(${losses[kind][of]} * dloss[0], V(count[0])));
}`;
}

/** Representative texts of every kernel in this file. */
export const variants = (): string[] =>
  (Object.keys(losses) as PairLoss[]).flatMap((kind) =>
    (['f32', 'f16'] as const).flatMap((dtype) =>
      [7, 400].flatMap((size) => [
        pairLossForward({ kind, dtype, size }),
        pairLossBackward({ kind, dtype, size }, 'a'),
        pairLossBackward({ kind, dtype, size }, 'b'),
      ]),
    ),
  );
