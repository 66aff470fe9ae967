// Optimizer steps for several parameters in one launch, in place; a thread updates one element of one of them. Sizes are read
// from the bindings, so launches with equally many parameters share one pipeline.
//   SGD     v ← m·v + (g + w·p),   p ← p − lr·v                                                      (PyTorch's momentum)
//   AdamW   p ← p − lr·w·p,   a ← β₁a + (1 − β₁)g,   b ← β₂b + (1 − β₂)g²,
//           p ← p − lr · (a/(1 − β₁ᵗ)) / (√(b/(1 − β₂ᵗ)) + ε)
//   EMA     p ← α·p + (1 − α)·q
// With a guard (the loss), nothing changes when that number is NaN or infinite; bits are tested, since WGSL may assume finite.
import { f32, flatIndex, wgsl } from './wgsl.js';

/** Bindings named p0, g0, v0, p1, g1, … for `count` parameters; what each element does is `body`. */
function multiTensor(
  name: string,
  count: number,
  arrays: readonly { name: string; writes: boolean }[],
  scalars: readonly string[],
  guarded: boolean,
  body: (parameter: number) => string,
): string {
  let slot = 0;
  const declare = (array: string, writes: boolean) =>
    `@group(0) @binding(${slot++}) var<storage, ${writes ? 'read_write' : 'read'}> ${array}: array<f32>;`;
  const parameters = Array.from({ length: count }, (_, k) => k);
  const declared = [
    ...parameters.flatMap((k) => arrays.map((array) => declare(array.name + k, array.writes))),
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
  var i = ${flatIndex(64)};
${branches.join('\n')}
}`;
}

export const sgdShader = (count: number, momentum: number, decay: number, guarded: boolean): string =>
  multiTensor(
    'sgd',
    count,
    [
      { name: 'p', writes: true },
      { name: 'v', writes: true },
      { name: 'g', writes: false },
    ],
    ['lr'],
    guarded,
    (k) => `    let v = ${f32(momentum)} * v${k}[i] + (g${k}[i] + ${f32(decay)} * p${k}[i]);
    v${k}[i] = v;
    p${k}[i] -= lr[0] * v;`,
  );

export interface AdamWNumbers {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly decay: number;
}

/** `correction` holds 1 − β₁ᵗ and 1 − β₂ᵗ, kept by `adamwCorrectionShader`. */
export const adamwShader = (count: number, numbers: AdamWNumbers, guarded: boolean): string =>
  multiTensor(
    'adamw',
    count,
    [
      { name: 'p', writes: true },
      { name: 'a', writes: true },
      { name: 'b', writes: true },
      { name: 'g', writes: false },
    ],
    ['lr', 'correction'],
    guarded,
    (k) => `    let g = g${k}[i];
    let a = ${f32(numbers.beta1)} * a${k}[i] + ${f32(1 - numbers.beta1)} * g;
    let b = ${f32(numbers.beta2)} * b${k}[i] + ${f32(1 - numbers.beta2)} * g * g;
    a${k}[i] = a;
    b${k}[i] = b;
    let p = p${k}[i] * (1.0 - lr[0] * ${f32(numbers.decay)});
    p${k}[i] = p - lr[0] * (a / correction[0]) / (sqrt(b / correction[1]) + ${f32(numbers.epsilon)});`,
  );

/** correction ← β·correction + (1 − β): from 0, this is 1 − βᵗ after t steps, without the cancellation of that form. */
export const adamwCorrectionShader = ({ beta1, beta2 }: AdamWNumbers, guarded: boolean): string => wgsl`
@group(0) @binding(0) var<storage, read_write> correction: array<f32>;
#if ${guarded}
@group(0) @binding(1) var<storage, read> guard: array<f32>;
#endif

@compute @workgroup_size(1)
fn adamw_correction() {
#if ${guarded}
  if ((bitcast<u32>(guard[0]) & 0x7f800000u) == 0x7f800000u) { return; }
#endif
  correction[0] = ${f32(beta1)} * correction[0] + ${f32(1 - beta1)};
  correction[1] = ${f32(beta2)} * correction[1] + ${f32(1 - beta2)};
}`;

export const emaShader = (count: number, guarded: boolean): string =>
  multiTensor(
    'ema',
    count,
    [
      { name: 'p', writes: true },
      { name: 'q', writes: false },
    ],
    ['decay'],
    guarded,
    // Decay 0 copies and decay 1 keeps exactly: 0·p is not 0 where p is NaN or infinite, and −0 + 0 is 0.
    (k) => `    let d = decay[0];
    if (d == 0.0) { p${k}[i] = q${k}[i]; } else if (d != 1.0) { p${k}[i] = d * p${k}[i] + (1.0 - d) * q${k}[i]; }`,
  );

export const variants = (): string[] =>
  [true, false].flatMap((guarded) => [
    sgdShader(2, 0.9, 1e-4, guarded),
    adamwShader(1, { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }, guarded),
    adamwCorrectionShader({ beta1: 0.9, beta2: 0.999, epsilon: 1e-8, decay: 0.01 }, guarded),
    emaShader(3, guarded),
  ]);
