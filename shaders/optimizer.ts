// Optimizer steps for several parameters in one launch, in place; a thread updates one element of one parameter, or four. Sizes are
// read from the bindings, so launches with the same number of parameters share one pipeline.
//   SGD     v ← m·v + (g + w·p),   p ← p − lr·v                                                      (PyTorch's momentum)
//   AdamW   p ← p − lr·w·p,   a ← β₁a + (1 − β₁)g,   b ← β₂b + (1 − β₂)g²,
//           p ← p − lr · (a/(1 − β₁ᵗ)) / (√(b/(1 − β₂ᵗ)) + ε)
//   EMA     p ← α·p + (1 − α)·q;  SGD can update the teacher in the same launch
// With a guard (the loss), nothing changes if that number is NaN or infinite; bits are tested, since WGSL may assume finite numbers.
// With `unscale`, gradients are first multiplied by that number; if it is 0, nothing changes (loss scaling).
import { also, f32, flatIndex, wgsl } from './wgsl.js';

/** A kernel with bindings p0, g0, v0, p1, g1, … for `count` parameters, which applies `body` to each element. */
function multiTensor(
  name: string,
  count: number,
  arrays: readonly { name: string; writes: boolean }[],
  scalars: readonly string[],
  guarded: boolean,
  body: (parameter: number) => string,
  width: 1 | 4 = 1,
): string {
  let index = 0;
  const declare = (array: string, writes: boolean, V = 'f32') =>
    `@group(0) @binding(${index++}) var<storage, ${writes ? 'read_write' : 'read'}> ${array}: array<${V}>;`;
  const parameters = Array.from({ length: count }, (_, k) => k);
  const declared = [
    ...parameters.flatMap((k) =>
      arrays.map((array) => declare(array.name + k, array.writes, width === 4 ? 'vec4f' : 'f32')),
    ),
    ...scalars.map((scalar) => declare(scalar, false)),
    ...(guarded ? [declare('guard', false)] : []),
  ];
  const branches = parameters.map(
    (k) => `  if (i < arrayLength(&p${k})) {\n${body(k)}\n    return;\n  }\n  i -= arrayLength(&p${k});`,
  );
  return wgsl`${declared.join('\n')}

@compute @workgroup_size(64)
fn ${name}(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
#if ${guarded}
  if ((bitcast<u32>(guard[0]) & 0x7f800000u) == 0x7f800000u) { return; }
#endif
#if ${scalars.includes('unscale')}
  if (unscale[0] == 0.0) { return; }
#endif
  var i = ${flatIndex(64)};
${branches.join('\n')}
}`;
}

export interface SgdOptions {
  readonly momentum: number;
  readonly decay: number;
  readonly guarded: boolean;
  /** Gradients are multiplied by `unscale` first. */
  readonly scaled: boolean;
  /** t ← α·t + (1 − α)·p with α = `average`, after the update. */
  readonly averaged: boolean;
  /** Elements of a thread. */
  readonly width: 1 | 4;
}

// Decay 0 copies and decay 1 keeps, both exactly. The formula would not: 0·p is not 0 where p is NaN or infinite, and −0 + 0 is 0.
const average = (to: string, from: string, decay: string): string =>
  `    let d = ${decay}[0];
    if (d == 0.0) { ${to} = ${from}; } else if (d != 1.0) { ${to} = d * ${to} + (1.0 - d) * ${from}; }`;

export const sgdShader = (count: number, { momentum, decay, guarded, scaled, averaged, width }: SgdOptions): string =>
  multiTensor(
    'sgd',
    count,
    [
      { name: 'p', writes: true },
      { name: 'v', writes: true },
      { name: 'g', writes: false },
      ...(averaged ? [{ name: 't', writes: true }] : []),
    ],
    ['lr', ...(scaled ? ['unscale'] : []), ...(averaged ? ['average'] : [])],
    guarded,
    (k) => `    let g = ${scaled ? `unscale[0] * g${k}[i]` : `g${k}[i]`};
    let v = ${f32(momentum)} * v${k}[i] + (g + ${f32(decay)} * p${k}[i]);
    v${k}[i] = v;
    let p = p${k}[i] - lr[0] * v;
    p${k}[i] = p;
${averaged ? average(`t${k}[i]`, 'p', 'average') : ''}`,
    width,
  );

export interface AdamWNumbers {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly decay: number;
}

/** `correction` holds 1 − β₁ᵗ and 1 − β₂ᵗ, kept by `adamwCorrectionShader`. */
export const adamwShader = (
  count: number,
  numbers: AdamWNumbers,
  guarded: boolean,
  width: 1 | 4 = 1,
  scaled = false,
): string =>
  multiTensor(
    'adamw',
    count,
    [
      { name: 'p', writes: true },
      { name: 'a', writes: true },
      { name: 'b', writes: true },
      { name: 'g', writes: false },
    ],
    ['lr', 'correction', ...(scaled ? ['unscale'] : [])],
    guarded,
    (k) => `    let g = ${scaled ? `unscale[0] * g${k}[i]` : `g${k}[i]`};
    let a = ${f32(numbers.beta1)} * a${k}[i] + ${f32(1 - numbers.beta1)} * g;
    let b = ${f32(numbers.beta2)} * b${k}[i] + ${f32(1 - numbers.beta2)} * g * g;
    a${k}[i] = a;
    b${k}[i] = b;
    let p = p${k}[i] * (1.0 - lr[0] * ${f32(numbers.decay)});
    p${k}[i] = p - lr[0] * (a / correction[0]) / (sqrt(b / correction[1]) + ${f32(numbers.epsilon)});`,
    width,
  );

/** correction ← β·correction + (1 − β): from 0, this is 1 − βᵗ after t steps, without the cancellation of that form. */
export const adamwCorrectionShader = ({ beta1, beta2 }: AdamWNumbers, guarded: boolean, scaled = false): string => wgsl`
@group(0) @binding(0) var<storage, read_write> correction: array<f32>;
#if ${guarded}
@group(0) @binding(1) var<storage, read> guard: array<f32>;
#endif${also(scaled, '@group(0) @binding(2) var<storage, read> unscale: array<f32>;')}

@compute @workgroup_size(1)
fn adamw_correction() {
#if ${guarded}
  if ((bitcast<u32>(guard[0]) & 0x7f800000u) == 0x7f800000u) { return; }
#endif${also(scaled, '  if (unscale[0] == 0.0) { return; }')}
  correction[0] = ${f32(beta1)} * correction[0] + ${f32(1 - beta1)};
  correction[1] = ${f32(beta2)} * correction[1] + ${f32(1 - beta2)};
}`;

export const emaShader = (
  count: number,
  { guarded, scaled, width }: Pick<SgdOptions, 'guarded' | 'scaled' | 'width'>,
): string =>
  multiTensor(
    'ema',
    count,
    [
      { name: 'p', writes: true },
      { name: 'q', writes: false },
    ],
    ['decay', ...(scaled ? ['unscale'] : [])],
    guarded,
    (k) => average(`p${k}[i]`, `q${k}[i]`, 'decay'),
    width,
  );

/** p ← g · factor, for clipped gradients. */
export const scaleShader = (count: number, width: 1 | 4): string =>
  multiTensor(
    'scale_gradients',
    count,
    [
      { name: 'p', writes: true },
      { name: 'g', writes: false },
    ],
    ['factor'],
    false,
    (k) => `    p${k}[i] = g${k}[i] * factor[0];`,
    width,
  );

export const variants = (): string[] =>
  [true, false].flatMap((guarded) => [
    ...[true, false].flatMap((scaled) =>
      [true, false].flatMap((averaged) =>
        ([1, 4] as const).map((width) =>
          sgdShader(width === 4 || averaged || scaled ? 1 : 2, {
            momentum: 0.9,
            decay: 1e-4,
            guarded,
            scaled,
            averaged,
            width,
          }),
        ),
      ),
    ),
    adamwShader(1, { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }, guarded),
    adamwCorrectionShader({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }, guarded),
    adamwShader(1, { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }, guarded, 4, true),
    adamwCorrectionShader({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }, guarded, true),
    scaleShader(2, 1),
    scaleShader(1, 4),
    emaShader(3, { guarded, scaled: false, width: 1 }),
    emaShader(1, { guarded, scaled: true, width: 4 }),
  ]);
