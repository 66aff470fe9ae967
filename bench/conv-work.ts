// Convolutions to compare: which shapes and passes, their random inputs, and wgrad doing them.
import { backward, capture, conv, type Gpu, scope, tensor, uniformStream } from '../engine/index.js';
import { UsageError } from '../train/files/usage-error.js';
import type { Contender } from './harness.js';

export type Pass = 'forward' | 'input gradient' | 'weight gradient';

export interface ConvWork {
  readonly batch: number;
  readonly size: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly k: number;
  readonly pass: Pass;
}

/** Inputs of one convolution, channels last. */
export interface ConvData {
  readonly x: Float32Array;
  readonly weight: Float32Array; // [O, kH, kW, I]
  readonly dy: Float32Array;
}

/** A convolution, ready to run; `result` is channels last, weights [O, kH, kW, I]. */
export interface ConvContender extends Contender {
  result(): Promise<Float32Array>;
  release(): void;
}

export const passes: readonly Pass[] = ['forward', 'input gradient', 'weight gradient'];

export const convTitle = ({ pass, inputs, outputs, size, k, batch }: ConvWork): string =>
  `conv ${k}×${k} ${inputs}→${outputs} @${size}² ×${batch}, ${pass}`;

export const convFlops = ({ batch, size, inputs, outputs, k }: ConvWork): number =>
  2 * batch * size * size * inputs * outputs * k * k;

export const standardShapes = '16-16@64,32-32@32,64-64@16,128-128@8';
export const unetShapes =
  '1-16@64,16-16@64,32-16@64,16-4@64,32-32@32,64-32@32,64-64@16,128-64@16,128-128@8,32-16@32k1,128-64@8k1';

/** Convolutions as INPUTS-OUTPUTS@SIZE, 1×1 with a trailing `k1`, in all three passes. */
export function readConvShapes(text: string, batch: number): ConvWork[] {
  return text.split(',').flatMap((part) => {
    const found = /^([1-9]\d*)-([1-9]\d*)@([1-9]\d*)(?:k(\d+))?$/.exec(part.trim());
    const [inputs, outputs, size, k = 3] = (found ?? []).slice(1).map((n) => (n === undefined ? undefined : Number(n)));
    if (!found || k % 2 === 0) {
      throw new UsageError(
        `bench: --shapes holds '${part}', expected INPUTS-OUTPUTS@SIZE, with kK behind for an odd kernel size K. For instance 16-16@64,32-16@32k1.`,
      );
    }
    return passes.map((pass) => ({ batch, inputs: inputs!, outputs: outputs!, size: size!, k, pass }));
  });
}

export function convData({ batch, size, inputs, outputs, k }: ConvWork): ConvData {
  const uniform = uniformStream(7);
  const fill = (n: number): Float32Array => Float32Array.from({ length: n }, () => 2 * uniform() - 1);
  return {
    x: fill(batch * size * size * inputs),
    weight: fill(outputs * k * k * inputs),
    dy: fill(batch * size * size * outputs),
  };
}

/** wgrad's own convolution. */
export function prepareOwnConv(gpu: Gpu, work: ConvWork, data: ConvData): ConvContender {
  const { batch, size, inputs, outputs, k, pass } = work;
  const x = tensor(gpu, data.x, [batch, size, size, inputs]);
  const weight = tensor(gpu, data.weight, [outputs, k, k, inputs]);
  const dy = tensor(gpu, data.dy, [batch, size, size, outputs]);
  x.requiresGrad = pass === 'input gradient';
  weight.requiresGrad = pass === 'weight gradient';
  const step = scope(gpu, () => {
    if (pass === 'forward') return capture(gpu, () => ({ y: conv(x, weight) }));
    const y = conv(x, weight);
    return capture(gpu, () => ({ y: backward(y, dy).get(pass === 'input gradient' ? x : weight)! }));
  });
  return {
    name: 'wgrad',
    queue: () => void step(),
    done: () => gpu.wait(gpu.device.queue.onSubmittedWorkDone()),
    result: async () => (await step().y.read()) as Float32Array,
    release: () => {},
  };
}
