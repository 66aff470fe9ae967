// Turns a model into a function from slices to labels: one captured step of a fixed batch in eval mode, fed in turns.
import { argmax, capture, type Gpu, max, noGrad, type PrepareOptions, softmax, tensor } from '../../engine/index.js';
import type { UNet } from '../../model/index.js';

/**
 * Labels (argmax) of slices [count, size, size], values in [0, 1]; with `withConfidence` also the maximum class probability
 * of every pixel; of a predictor made with `probabilities` also those of all classes, [count, size, size, classes].
 */
export type Predictor = (
  slices: Float32Array,
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

/** How slices are predicted. */
export interface PredictorOptions {
  /** Slices at a time; default 8. */
  batch?: number;
  /** Class probabilities are means over the slice and its flips: left to right, upside down, both. */
  flips?: boolean;
  /** Gives the probabilities, too; their argmax is the label. Default false. */
  probabilities?: boolean;
}

/** A predictor for slices of size×size pixels; the model's current weights are used at every call. */
export function createPredictor(
  gpu: Gpu,
  model: UNet,
  size: number,
  { batch = 8, flips = false, probabilities: withProbabilities = false }: PredictorOptions = {},
): PreparedPredictor {
  const perSlice = size * size;
  const image = tensor(gpu, 0, [batch, size, size, 1], { label: 'slices' });
  const inTurns = async (slices: Float32Array, work: (first: number, used: number) => Promise<void>): Promise<void> => {
    const padded = new Float32Array(batch * perSlice);
    const count = slices.length / perSlice;
    for (let first = 0; first < count; first += batch) {
      const used = Math.min(batch, count - first) * perSlice;
      padded.fill(0);
      padded.set(slices.subarray(first * perSlice, first * perSlice + used));
      image.write(padded);
      await work(first * perSlice, used);
    }
  };
  if (flips) {
    const step = capture(gpu, () => noGrad(gpu, () => softmax(model(image, { mode: 'eval' }))));
    const predict: Predictor = async (slices) => {
      const sums = new Float32Array(slices.length * model.classes);
      for (const flip of [0, 1, 2, 3] as const) {
        await inTurns(flipped(slices, size, 1, flip), async (first, used) => {
          const read = (await step().read()) as Float32Array;
          const back = flipped(read.subarray(0, used * model.classes), size, model.classes, flip);
          const offset = first * model.classes;
          for (let i = 0; i < back.length; i++) sums[offset + i]! += back[i]!;
        });
      }
      const best = bestOf(sums, model.classes);
      return withProbabilities ? { ...best, probabilities: sums.map((sum) => sum / 4) } : best;
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
  const predict: Predictor = async (slices, withConfidence = false) => {
    const labels = new Uint8Array(slices.length);
    const confidence = withConfidence ? new Float32Array(slices.length) : undefined;
    const probabilities = withProbabilities ? new Float32Array(slices.length * model.classes) : undefined;
    await inTurns(slices, async (first, used) => {
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

/** @internal A copy of pictures [count, size, size, channels]: flip 1 left to right, 2 upside down, 3 both. */
export function flipped(source: Float32Array, size: number, channels: number, flip: 0 | 1 | 2 | 3): Float32Array {
  const result = new Float32Array(source.length);
  const perPixel = flip & 1 ? -channels : channels;
  const perRow = size * channels;
  for (let row = 0, to = 0; row < source.length / perRow; row++) {
    const y = row % size;
    const fromRow = (row - y + (flip & 2 ? size - 1 - y : y)) * perRow;
    let from = fromRow + (flip & 1 ? perRow - channels : 0);
    for (let x = 0; x < size; x++, from += perPixel) {
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

/** Labels and mean probability of sums of four probabilities. */
function bestOf(sums: Float32Array, classes: number): { labels: Uint8Array; confidence: Float32Array } {
  const labels = new Uint8Array(sums.length / classes);
  const confidence = new Float32Array(labels.length);
  for (let i = 0; i < labels.length; i++) {
    let best = 0;
    for (let k = 1; k < classes; k++) if (sums[i * classes + k]! > sums[i * classes + best]!) best = k;
    labels[i] = best;
    confidence[i] = sums[i * classes + best]! / 4;
  }
  return { labels, confidence };
}
