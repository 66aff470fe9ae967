// Cross-entropy of logits and labels in one pass; labels that are not a class are ignored and left out of the mean.
import { rowWalk } from '../../shaders/class-rows.js';
import { partialThreads } from '../../shaders/classes.js';
import {
  crossEntropyBackward,
  crossEntropyForward,
  crossEntropyValue,
  type LabeledSizes,
} from '../../shaders/cross-entropy.js';
import { slopesOfMany, smoothedRows, sumsOfMany } from '../../shaders/cross-entropy-of-many.js';
import { checkOptions, showValue } from '../arguments.js';
import { noGrad, record } from '../autograd.js';
import { ShapeError } from '../shape.js';
import { run } from '../stream.js';
import { empty, Tensor } from '../tensor.js';
import { statisticsOfMany } from './class-statistics.js';
import { expectTensors } from './float-type.js';
import { type LabelOptions, labeledSizes, namedClasses } from './labeled-pixels.js';
import { sum } from './reduce.js';

/** Options of `crossEntropy`. */
export interface CrossEntropyOptions extends LabelOptions {
  /** Weight of each class, f32 [K], not negative; all are 1 if not given. The mean is then weighted. No gradient goes to them. */
  weights?: Tensor | undefined;
  /** The part ε in [0, 1] of a label that is spread over all classes (Szegedy et al., CVPR 2016); default 0. */
  labelSmoothing?: number | undefined;
}

/**
 * Mean of −log softmax(logits)[label] over the pixels whose label is a class: logits f32 or f16 [..., K] of any number K ≥ 2 of
 * classes, labels u8, u32 or i32 [...] → f32 []. A label outside 0 … K − 1, or equal to `ignoreIndex` (default 255), is ignored: its
 * pixel is not in the mean and has no gradient. Where all are ignored the loss is 0 (NaN if the logits have a NaN) and so is the
 * gradient. `weights` [K] and `labelSmoothing` (default 0) are PyTorch's: see shaders/cross-entropy-of-many.ts. Throws a ShapeError
 * for other shapes and types.
 * @example
 * const labels = tensor(gpu, [0, 1], [2], { dtype: 'u8' });
 * console.log(await crossEntropy(tensor(gpu, 0, [2, 3]), labels).item()); // 1.099
 */
export function crossEntropy(logits: Tensor, labels: Tensor, options: CrossEntropyOptions = {}): Tensor {
  expectTensors('crossEntropy', logits, labels);
  checkOptions('crossEntropy', options, ['ignoreIndex', 'weights', 'labelSmoothing'], hints);
  const { gpu } = logits;
  const sizes = labeledSizes('crossEntropy', logits, labels, options);
  const kernels = kernelsOf(logits, sizes, options);
  const threads = partialThreads(sizes.pixels);
  const partials = empty(gpu, [threads, 3], 'f32', 'crossEntropy.partials');
  run(kernels.forward.source, { logits, labels, ...kernels.forward.args, partials }, { threads });
  const sums = noGrad(gpu, () => sum(partials, 0));
  const loss = empty(gpu, [], 'f32', 'crossEntropy');
  run(crossEntropyValue(), { sums, loss }, { threads: 1 });

  return record('crossEntropy', loss, [logits], (dloss) => {
    const dlogits = empty(gpu, logits.shape, logits.dtype, 'dlogits');
    const { source, args, threads: elements } = kernels.backward;
    run(source, { logits, labels, ...args, sums, dloss, dlogits }, { threads: elements });
    return [dlogits];
  });
}

const hints = {
  weight: "Write 'weights'.",
  ignore: "Write 'ignoreIndex'.",
  label_smoothing: "Write 'labelSmoothing'.",
  smoothing: "Write 'labelSmoothing'.",
};

interface Kernels {
  readonly forward: { source: string; args: Record<string, Tensor> };
  readonly backward: { source: string; args: Record<string, Tensor>; threads: number };
}

/** The kernels of the sums and of the gradient, and what they read beside logits and labels. */
function kernelsOf(logits: Tensor, sizes: LabeledSizes, options: CrossEntropyOptions): Kernels {
  const { weights, labelSmoothing: smoothing = 0 } = options;
  if (typeof smoothing !== 'number' || !(smoothing >= 0 && smoothing <= 1)) {
    throw new ShapeError(`crossEntropy: labelSmoothing is ${showValue(smoothing)} — expected a number in [0, 1].`);
  }
  const elements = sizes.pixels * rowWalk(sizes).count;
  if (weights === undefined && smoothing === 0 && sizes.classes <= namedClasses) {
    return {
      forward: { source: crossEntropyForward(sizes), args: {} },
      backward: { source: crossEntropyBackward(sizes), args: {}, threads: sizes.pixels },
    };
  }
  const weighted = weights !== undefined;
  if (weighted && !(weights instanceof Tensor && weights.dtype === 'f32' && weights.size === sizes.classes)) {
    throw new ShapeError(
      `crossEntropy: weights is ${showValue(weights)} — expected a tensor f32 [${sizes.classes}], one number for each class.`,
    );
  }
  const all = { ...sizes, weighted, smoothing };
  const statistics = statisticsOfMany(logits, sizes);
  const own: Record<string, Tensor> = weighted ? { weights } : {};
  const args: Record<string, Tensor> = { statistics, ...own };
  if (smoothing === 0) {
    return {
      forward: { source: sumsOfMany(all), args },
      backward: { source: slopesOfMany(all), args, threads: elements },
    };
  }
  const rows = empty(logits.gpu, [sizes.pixels], 'f32', 'crossEntropy.rows');
  run(smoothedRows(all), { logits, statistics, rows, ...own }, { threads: rowWalk(sizes).threads });
  const whole: Record<string, Tensor> = weighted ? { all: noGrad(logits.gpu, () => sum(weights)) } : {};
  return {
    forward: { source: sumsOfMany(all), args: { ...args, rows } },
    backward: { source: slopesOfMany(all), args: { ...args, ...whole }, threads: elements },
  };
}
