// Mean over pixels of −log p_y, p = softmax(logits), y the label:
//   −log p_y = log Σ exp(x − m) − (x_y − m)          dlogits_k = (p_k − [k = y]) · dloss / pixels
// Partial sums: thread t adds up pixels t, t + threads, … in order. Gradient: one thread per pixel.
import { byteAt, classArray, loadClasses, partialThreads, pick, softmaxOf, storeClasses } from './classes.js';
import { enable, type Float, f32, flatIndex, u32, wgsl } from './wgsl.js';

export interface PixelSizes {
  readonly dtype: Float;
  readonly pixels: number;
  readonly classes: number;
}

export function crossEntropyForward({ dtype, pixels, classes }: PixelSizes): string {
  const threads = partialThreads(pixels);
  return wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

@compute @workgroup_size(64)
fn cross_entropy(@builtin(global_invocation_id) id: vec3u) {
  if (id.x >= ${u32(threads)}) { return; }
  var sum = 0.0;
  for (var i = id.x; i < ${u32(pixels)}; i += ${u32(threads)}) {
    let y = ${byteAt('labels', 'i')};
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
    sum += p_log - (${pick('y', 'x', classes)} - p_most);
  }
  partials[id.x] = sum;
}`;
}

export const crossEntropyBackward = ({ dtype, pixels, classes }: PixelSizes): string => wgsl`${enable(dtype)}
@group(0) @binding(0) var<storage, read> logits: array<${classArray(dtype, classes)}>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read> dloss: array<f32>;
@group(0) @binding(3) var<storage, read_write> dlogits: array<${classArray(dtype, classes)}>;

@compute @workgroup_size(64)
fn cross_entropy_backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = ${flatIndex(64)};
  if (i >= ${u32(pixels)}) { return; }
  let y = ${byteAt('labels', 'i')};
  let scale = dloss[0] * ${f32(1 / pixels)};
${loadClasses('x', 'logits', 'i', classes)}
${softmaxOf('x', 'p', classes)}
${storeClasses('dlogits', 'i', dtype, classes, (k) => `(p${k} - select(0.0, 1.0, y == ${k}u)) * scale`)}
}`;

export const variants = (): string[] =>
  (['f32', 'f16'] as const).flatMap((dtype) =>
    [2, 4, 5, 8].flatMap((classes) => {
      const sizes = { dtype, pixels: 1000, classes };
      return [crossEntropyForward(sizes), crossEntropyBackward(sizes)];
    }),
  );
