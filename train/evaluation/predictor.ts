// Turns a model into a function from patches to labels and probabilities: one captured step of a fixed batch in eval mode, fed in
// turns. What is larger than a patch is put together in windows.ts.
import {
  argmax,
  capture,
  type Gpu,
  max,
  noGrad,
  type PrepareOptions,
  sizeOf,
  softmax,
  tensor,
} from '../../engine/index.js';
import type { Segmenter } from '../../model/index.js';

/**
 * Labels (argmax) of patches [count, …patch], values in [0, 1]; with `withConfidence` also the maximum class probability
 * of every voxel; of a predictor made with `probabilities` also those of all classes, [count, …patch, classes].
 */
export type Predictor = (
  patches: Float32Array,
  withConfidence?: boolean,
) => Promise<{
  labels: Uint8Array;
  confidence: Float32Array | undefined;
  probabilities?: Float32Array | undefined;
}>;

/** A predictor that can be made ready before it is first called. */
export interface PreparedPredictor extends Predictor {
  /** Compiles its kernels; nothing runs. */
  prepare(options?: PrepareOptions): Promise<unknown>;
}

/** How patches are predicted. */
export interface PredictorOptions {
  /** Patches at a time; default 8. */
  batch?: number;
  /** Class probabilities are means over the patch and its flips, along each axis and along several. */
  flips?: boolean;
  /** Gives the probabilities, too; their argmax is the label. Default false. */
  probabilities?: boolean;
}

/** A predictor for patches of these sides, [height, width] or [depth, height, width]; the model's current weights are used at every call. */
export function createPredictor(
  gpu: Gpu,
  model: Segmenter,
  patch: readonly number[],
  { batch = 8, flips = false, probabilities: withProbabilities = false }: PredictorOptions = {},
): PreparedPredictor {
  const voxels = sizeOf(patch);
  const image = tensor(gpu, 0, [batch, ...patch, 1], { label: 'patches' });
  const inTurns = async (
    patches: Float32Array,
    work: (first: number, used: number) => Promise<void>,
  ): Promise<void> => {
    const padded = new Float32Array(batch * voxels);
    const count = patches.length / voxels;
    for (let first = 0; first < count; first += batch) {
      const used = Math.min(batch, count - first) * voxels;
      padded.fill(0);
      padded.set(patches.subarray(first * voxels, first * voxels + used));
      image.write(padded);
      await work(first * voxels, used);
    }
  };
  if (flips) {
    const all = Array.from({ length: 2 ** patch.length }, (_, flip) => flip);
    const step = capture(gpu, () => noGrad(gpu, () => softmax(model(image, { mode: 'eval' }))));
    const predict: Predictor = async (patches) => {
      const sums = new Float32Array(patches.length * model.classes);
      for (const flip of all) {
        await inTurns(flipped(patches, patch, 1, flip), async (first, used) => {
          const read = (await step().read()) as Float32Array;
          const back = flipped(read.subarray(0, used * model.classes), patch, model.classes, flip);
          const offset = first * model.classes;
          for (let i = 0; i < back.length; i++) sums[offset + i]! += back[i]!;
        });
      }
      const best = bestOf(sums, model.classes, all.length);
      return withProbabilities ? { ...best, probabilities: sums.map((sum) => sum / all.length) } : best;
    };
    return Object.assign(predict, { prepare: step.prepare });
  }
  const step = capture(gpu, () =>
    noGrad(gpu, () => {
      const logits = model(image, { mode: 'eval' });
      const labels = argmax(logits);
      const probabilities = softmax(logits);
      return {
        labels,
        confidence: max(probabilities, -1),
        ...(withProbabilities && { probabilities }),
      };
    }),
  );
  const predict: Predictor = async (patches, withConfidence = false) => {
    const labels = new Uint8Array(patches.length);
    const confidence = withConfidence ? new Float32Array(patches.length) : undefined;
    const probabilities = withProbabilities ? new Float32Array(patches.length * model.classes) : undefined;
    await inTurns(patches, async (first, used) => {
      const result = step();
      labels.set((await result.labels.read()).subarray(0, used), first);
      confidence?.set((await result.confidence.read()).subarray(0, used), first);
      probabilities?.set((await result.probabilities!.read()).subarray(0, used * model.classes), first * model.classes);
    });
    if (!probabilities) return { labels, confidence };
    settleTies(probabilities, labels);
    return { labels, confidence, probabilities };
  };
  return Object.assign(predict, { prepare: step.prepare });
}

/** @internal A copy of patches [count, …patch, channels], mirrored along the axes whose bit `flip` has: 1 the last, 2 the one before, 4. */
export function flipped(source: Float32Array, patch: readonly number[], channels: number, flip: number): Float32Array {
  const result = new Float32Array(source.length);
  const [depth, height, width] = [patch.at(-3) ?? 1, patch.at(-2)!, patch.at(-1)!];
  const perRow = width * channels;
  const mirrored = (at: number, size: number, bit: number) => (flip & bit ? size - 1 - at : at);
  const step = flip & 1 ? -channels : channels;
  for (let row = 0, to = 0; row < source.length / perRow; row++) {
    const y = row % height;
    const z = Math.floor(row / height) % depth;
    const plane = Math.floor(row / height) - z + mirrored(z, depth, 4);
    let from = (plane * height + mirrored(y, height, 2)) * perRow + (flip & 1 ? perRow - channels : 0);
    for (let x = 0; x < width; x++, from += step) {
      for (let c = 0; c < channels; c++) result[to++] = source[from + c]!;
    }
  }
  return result;
}

/**
 * Makes the label of every pixel the first class of the greatest probability. Labels are of the logits: two that differ little may round
 * to one probability, and then the earlier class loses the last bit of its own.
 */
function settleTies(probabilities: Float32Array, labels: Uint8Array): void {
  const classes = probabilities.length / labels.length;
  for (const [i, label] of labels.entries()) {
    const most = probabilities[i * classes + label]!;
    for (let k = 0; k < classes; k++) {
      const at = i * classes + k;
      if (k < label && probabilities[at]! >= most) probabilities[at] = most * (1 - 2 ** -24);
      else if (k > label && probabilities[at]! > most) probabilities[at] = most;
    }
  }
}

/** Labels and mean probability of sums of `count` probabilities. */
export function bestOf(
  sums: Float32Array,
  classes: number,
  count: number,
): { labels: Uint8Array; confidence: Float32Array } {
  const labels = new Uint8Array(sums.length / classes);
  const confidence = new Float32Array(labels.length);
  for (let i = 0; i < labels.length; i++) {
    let best = 0;
    for (let k = 1; k < classes; k++) if (sums[i * classes + k]! > sums[i * classes + best]!) best = k;
    labels[i] = best;
    confidence[i] = sums[i * classes + best]! / count;
  }
  return { labels, confidence };
}
