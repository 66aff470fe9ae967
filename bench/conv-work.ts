// Convolutions to compare: which shapes and passes, their random inputs, and wgrad doing them.
import { backward, capture, conv, type Gpu, scope, tensor, uniformStream } from '../engine/index.js';
import { UsageError } from '../train/files/usage-error.js';
import type { Contender } from './harness.js';

export type Pass = 'forward' | 'input gradient' | 'weight gradient';

export interface ConvWork {
  readonly batch: number;
  /** Height and width of an image, or depth, height and width of a volume. */
  readonly sides: readonly number[];
  readonly inputs: number;
  readonly outputs: number;
  readonly k: number;
  readonly pass: Pass;
}

/** Inputs of one convolution, channels last. */
export interface ConvData {
  readonly x: Float32Array;
  readonly weight: Float32Array; // [O, …kernel, I]
  readonly dy: Float32Array;
}

/** A convolution, ready to run; `result` is channels last, weights [O, …kernel, I]. */
export interface ConvContender extends Contender {
  result(): Promise<Float32Array>;
  release(): void;
}

export const passes: readonly Pass[] = ['forward', 'input gradient', 'weight gradient'];

/** Sides as a title has them: 32², 16×32×32. */
export const placeOf = (sides: readonly number[]): string =>
  sides.length === 2 && sides[0] === sides[1] ? `${sides[0]}²` : sides.join('×');

export const convTitle = ({ pass, inputs, outputs, sides, k, batch }: ConvWork): string =>
  `conv ${sides.map(() => k).join('×')} ${inputs}→${outputs} @${placeOf(sides)} ×${batch}, ${pass}`;

/** The kernel's sides. */
export const kernelOf = ({ sides, k }: Pick<ConvWork, 'sides' | 'k'>): number[] => sides.map(() => k);

const product = (numbers: readonly number[]): number => numbers.reduce((a, b) => a * b, 1);

export const convFlops = (work: ConvWork): number =>
  2 * work.batch * product(work.sides) * work.inputs * work.outputs * product(kernelOf(work));

export const standardShapes = '16-16@64,32-32@32,64-64@16,128-128@8';
/** Lists by name. */
export const namedShapes: Readonly<Record<string, string>> = {
  unet: '1-16@64,16-16@64,32-16@64,16-4@64,32-32@32,64-32@32,64-64@16,128-64@16,128-128@8,32-16@32k1,128-64@8k1',
  vnet: '16-16@16x32x32,32-32@8x16x16,64-64@10x14x14,128-128@5x7x7',
};

/** Convolutions as INPUTS-OUTPUTS@SIDE or @D×H×W with x between, kernels of one pixel with a trailing `k1`, in all three passes. */
export function readConvShapes(text: string, batch: number): ConvWork[] {
  return text.split(',').flatMap((part) => {
    const found = /^([1-9]\d*)-([1-9]\d*)@([1-9]\d*(?:x[1-9]\d*x[1-9]\d*)?)(?:k(\d+))?$/.exec(part.trim());
    const [inputs, outputs, where = '', k = 3] = found ? [+found[1]!, +found[2]!, found[3], +(found[4] ?? 3)] : [];
    if (!found || k % 2 === 0) {
      throw new UsageError(
        `bench: --shapes holds '${part}', expected INPUTS-OUTPUTS@SIDE or INPUTS-OUTPUTS@DEPTHxHEIGHTxWIDTH, with kK behind for an odd kernel size K. For instance 16-16@64,32-16@32k1,8-8@16x32x32.`,
      );
    }
    const given = where.split('x').map(Number);
    const sides = given.length === 1 ? [given[0]!, given[0]!] : given;
    return passes.map((pass) => ({ batch, inputs: inputs!, outputs: outputs!, sides, k, pass }));
  });
}

export function convData(work: ConvWork): ConvData {
  const { batch, sides, inputs, outputs } = work;
  const uniform = uniformStream(7);
  const fill = (n: number): Float32Array => Float32Array.from({ length: n }, () => 2 * uniform() - 1);
  return {
    x: fill(batch * product(sides) * inputs),
    weight: fill(outputs * product(kernelOf(work)) * inputs),
    dy: fill(batch * product(sides) * outputs),
  };
}

/** wgrad's own convolution. */
export function prepareOwnConv(gpu: Gpu, work: ConvWork, data: ConvData): ConvContender {
  const { batch, sides, inputs, outputs, pass } = work;
  const x = tensor(gpu, data.x, [batch, ...sides, inputs]);
  const weight = tensor(gpu, data.weight, [outputs, ...kernelOf(work), inputs]);
  const dy = tensor(gpu, data.dy, [batch, ...sides, outputs]);
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
