// What the adapter can do at most, measured: bytes a second of a plain copy of a large buffer, and multiply-adds a second of
// independent chains in registers. Every share of the roofline in `wgrad bench kernels` is a share of these two.

import { empty, run } from '../engine/custom.js';
import { capture, type Gpu, type Step, scope, tensor } from '../engine/index.js';
import { median } from './harness.js';

export interface Roofline {
  readonly gigabytesPerSecond: number;
  /** A multiply-add is two operations. */
  readonly gflops: number;
}

// y = x, a vec4 a thread
const copyShader = `
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(256)
fn roofline_copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.y * groups.x * 256u + id.x;
  if (i >= arrayLength(&x)) { return; }
  y[i] = x[i];
}`;

const chains = 8;
const rounds = 64;

/** a ← a·x + x in eight vec4 a thread; as written, or as `fma`, which some CPU drivers emulate. */
const multiplyAddShader = (fused: boolean): string => {
  const every = (line: (k: number) => string): string => Array.from({ length: chains }, (_, k) => line(k)).join('\n');
  return `
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4f>;

@compute @workgroup_size(64)
fn roofline_multiply_add(@builtin(global_invocation_id) id: vec3u) {
  let factor = x[id.x];
${every((k) => `  var a${k} = factor * ${k + 1}.0;`)}
  for (var i = 0u; i < ${rounds}u; i++) {
${every((k) => (fused ? `    a${k} = fma(a${k}, factor, factor);` : `    a${k} = a${k} * factor + factor;`))}
  }
  y[id.x] = ${Array.from({ length: chains }, (_, k) => `a${k}`).join(' + ')};
}`;
};

/** Milliseconds of one call of a step by timestamps: the median of `repeats`, summed over its launches. */
export async function profiledMs(step: Step<unknown>, repeats: number): Promise<{ ms: number; launches: number }> {
  await step.prepare();
  await step.profile();
  const times: number[] = [];
  let launches = 0;
  for (let i = 0; i < repeats; i++) {
    const profile = await step.profile();
    launches = profile.length;
    times.push(profile.reduce((sum, { ms }) => sum + ms, 0));
  }
  return { ms: median(times), launches };
}

/** Measures both bounds of an adapter. `copyBytes`: how much is read (and as much written). */
export async function measureRoofline(gpu: Gpu, repeats: number, copyBytes = defaultCopyBytes(gpu)): Promise<Roofline> {
  // A step that repeats a launch would read what it wrote; each has its own, so nothing can be left out.
  const timed = async (source: string, values: number, threads: number): Promise<number> => {
    const x = tensor(gpu, 0.5, [values]);
    const step = scope(gpu, () =>
      capture(gpu, () => {
        const y = empty(gpu, [values], 'f32', 'roofline');
        run(source, { x, y }, { threads });
        return y;
      }),
    );
    return (await profiledMs(step, repeats)).ms;
  };
  const values = 4 * Math.floor(copyBytes / 16);
  const copyMs = await timed(copyShader, values, values / 4);
  const threads = gpu.adapter.software ? 2 ** 14 : 2 ** 20;
  const flops = threads * 4 * chains * rounds * 2;
  const ms: number[] = [];
  for (const fused of [true, false]) ms.push(await timed(multiplyAddShader(fused), 4 * threads, threads));
  return { gigabytesPerSecond: (8 * values) / copyMs / 1e6, gflops: flops / Math.min(...ms) / 1e6 };
}

const defaultCopyBytes = ({ adapter, limits }: Gpu): number =>
  Math.min(adapter.software ? 2 ** 25 : 2 ** 28, limits.maxStorageBufferBindingSize);

export interface Share {
  readonly gigabytesPerSecond: number;
  readonly gflops: number;
  /** The least time it can take: max(bytes/bandwidth, flops/rate). */
  readonly rooflineMs: number;
  /** rooflineMs / ms. Above 1 where caches hold what the copy had to fetch from memory. */
  readonly share: number;
  readonly bound: 'memory' | 'arithmetic';
}

/** Where a time stands under the roofline. */
export function shareOf(work: { bytes: number; flops: number; ms: number }, roofline: Roofline): Share {
  const { bytes, flops, ms } = work;
  const memoryMs = bytes / roofline.gigabytesPerSecond / 1e6;
  const arithmeticMs = flops / roofline.gflops / 1e6;
  const rooflineMs = Math.max(memoryMs, arithmeticMs);
  return {
    gigabytesPerSecond: bytes / ms / 1e6,
    gflops: flops / ms / 1e6,
    rooflineMs,
    share: rooflineMs / ms,
    bound: memoryMs >= arithmeticMs ? 'memory' : 'arithmetic',
  };
}
