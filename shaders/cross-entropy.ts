// Mean over counted pixels of −log p_y, p = softmax(logits), y the label; a pixel whose label is not a class is not counted:
//   −log p_y = log Σ exp(x − m) − (x_y − m)          dlogits_k = (p_k − [k = y]) · dloss / counted, 0 where not counted
// partials [threads, 3]: thread t adds up pixels t, t + threads, … in order: the sum, how many were counted, and NaN if a pixel
// that was not counted has NaN. If no pixel is counted, the loss is that third sum: 0 unless there is a NaN.
// For up to 16 classes, which are named scalars; one thread per pixel in the gradient. More: cross-entropy-of-many.ts.
import {
  classArray,
  type Labels,
  labelArray,
  labelAt,
  loadClasses,
  partialThreads,
  pick,
  softmaxOf,
  storeClasses,
} from './classes.js';
import { quotientFunction } from './functions.js';
import { enable, type Float, flatIndex, isNan, u32, wgsl } from './wgsl.js';

export interface PixelSizes {
  readonly dtype: Float;
  readonly pixels: number;
  readonly classes: number;
}

/** Pixels, each with a label. */
export interface LabeledSizes extends PixelSizes {
  readonly labels: Labels;
}

export function crossEntropyForward({ dtype, pixels, classes, labels }: LabeledSizes): string {
  const threads = partialThreads(pixels);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<${labelArray(labels)}>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn cross_entropy(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
  var sum = 0.0; var counted = 0.0; var spoiled = 0.0;
  for (var i = id.x; i < ${u32(pixels)}; i += ${u32(threads)}) {
    let y = ${labelAt('labels', 'i', labels)};
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
    if (y < ${u32(classes)}) {
      sum += p_log - (${pick('y', 'x', classes)} - p_most);
      counted += 1.0;
    } else if (${isNan('p_most', 'f32')}) { spoiled = p_most; }
  }
${storeSums}
}`;
}

const storeSums =
  '  partials[3u * id.x] = sum; partials[3u * id.x + 1u] = counted; partials[3u * id.x + 2u] = spoiled;';

/** loss [] from sums [3]: the partials added up. */
export const crossEntropyValue = (): string => wgsl`
@group(0) @binding(0) var<storage, read> sums: array<f32>;
@group(0) @binding(1) var<storage, read_write> loss: array<f32>;
${quotientFunction.text}

@compute @workgroup_size(1)
fn cross_entropy_value() {
  if (sums[1] > 0.0) { loss[0] = quotient_1(sums[0], sums[1]); } else { loss[0] = sums[2]; }
}`;

export const crossEntropyBackward = ({ dtype, pixels, classes, labels }: LabeledSizes): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<${labelArray(labels)}>;
@group(0) @binding(2) var<storage, read> sums: array<f32>;
@group(0) @binding(3) var<storage, read> dloss: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<${classArray(dtype, classes)}>;

@compute @workgroup_size(64)
fn cross_entropy_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
  let y = ${labelAt('labels', 'i', labels)};
  if (y >= ${u32(classes)}) {
${storeClasses('dlogits', 'i', dtype, classes, () => '0.0')}
    return;
  }
  let scale = dloss[0] / sums[1];
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${storeClasses('dlogits', 'i', dtype, classes, (k) => `(p${k} - select(0.0, 1.0, y == ${k}u)) * scale`)}
}`;

export const variants = (): string[] => [
  crossEntropyValue(),
  ...(['f32', 'f16'] as const).flatMap((dtype) =>
    ([2, 4, 5, 8] as const).flatMap((classes, i) => {
      const labels = { type: (['u8', 'u32', 'i32'] as const)[i % 3]!, ignored: i > 2 ? 1 : undefined };
      const sizes = { dtype, pixels: 1000, classes, labels };
      return [crossEntropyForward(sizes), crossEntropyBackward(sizes)];
    }),
  ),
];
