// Strong views: what the student sees of a batch in place of its weak views (the loader's), and the same turns and boxes for whatever is
// said of these. A view is drawn from counters, so it depends on (seed, iteration, index in batch) alone. Ranges are ours, tried on ACDC.
import {
  createRandom,
  type Gpu,
  mixItems,
  noGrad,
  philox4x32,
  type Random,
  slice,
  strongViews,
  type Tensor,
  tensor,
  toUniform,
  type View,
  viewTable,
} from '../../engine/index.js';
import type { Config } from '../settings/settings.js';
import { partsOf } from './methods.js';

const VIEW_STREAM = 0x51e; // keeps these numbers apart from others of the same seed

/** First and end along a side of a box of two thirds of it. */
function boxAlong(side: number, uniform: number): [number, number] {
  const length = Math.max(1, Math.round((2 * side) / 3));
  const first = Math.floor(uniform * (side - length + 1));
  return [first, first + length];
}

/**
 * The views of an iteration's batch, the labelled items first; of those alone for a method without a teacher. Items of a kind that
 * `strong` leaves alone are as they are. The partner is the next item of the same kind, after the last one the first.
 */
export function drawViews(config: Config, iteration: number): View[] {
  const { strong, labeledBatch, batch } = config;
  const items = partsOf(config).teacher ? batch : labeledBatch;
  return Array.from({ length: items }, (_, item) => {
    const isLabeled = item < labeledBatch;
    if (strong === 'none' || (isLabeled && strong === 'unlabeled')) return {};
    const [first, end] = isLabeled ? [0, labeledBatch] : [labeledBatch, items];
    const partner = (item + 1 < end ? item + 1 : first) - item;
    return drawView(config, iteration, item, isLabeled, partner);
  });
}

function drawView(config: Config, iteration: number, item: number, isLabeled: boolean, partner: number): View {
  const { seed, patch, cutmix, strongTurn } = config;
  const numbers = [0, 1, 2, 3].flatMap((block) => philox4x32([item, iteration, block, 0], [seed, VIEW_STREAM]));
  let used = 0;
  const uniform = (): number => toUniform(numbers[used++]!);
  const between = (low: number, high: number): number => low + (high - low) * uniform();
  // Every number is drawn, whether it is used or not: what a setting leaves out does not move the others.
  const [gamma, contrast, brightness] = [Math.exp(between(-0.5, 0.5)), between(0.6, 1.4), between(-0.1, 0.1)];
  const [isBlurred, blur] = [uniform() < 0.5, between(0.3, 1)];
  const [isNoisy, noise] = [uniform() < 0.5, between(0, 0.05)];
  const [height, width] = [patch.at(-2)!, patch.at(-1)!];
  const turn = uniform();
  const [firstPlane, endPlane] = boxAlong(patch.at(-3) ?? 1, uniform());
  const [firstRow, endRow] = boxAlong(height, uniform());
  const [firstColumn, endColumn] = boxAlong(width, uniform());
  const [isStrong, isMixed] = [uniform() < 0.5, uniform() < 0.5];
  return {
    ...((isStrong || !isLabeled) && { gamma, contrast, brightness }),
    ...((isStrong || !isLabeled) && { blur: isBlurred ? blur : 0, noise: isNoisy ? noise : 0 }),
    ...(strongTurn && !isLabeled && { turn: height === width ? Math.floor(8 * turn) : 2 * Math.floor(4 * turn) }),
    ...(cutmix &&
      (isMixed || !isLabeled) && { partner, firstPlane, firstRow, firstColumn, endPlane, endRow, endColumn }),
  };
}

/** What makes the views of a batch on the GPU. */
export interface Views {
  /** What the noise draws from. */
  readonly random: Random;
  /** The strong views of the weak images [items, …patch, 1]. */
  strong(images: Tensor): Tensor;
  /** What was found in the weak images, or their labels, as the strong views show it; of all items, or of the unlabelled ones. No gradient. */
  mix(found: Tensor): Tensor;
  /** Draws the views of an iteration. */
  setIteration(iteration: number): void;
}

/** The views of a configuration; undefined where the student sees weak views only. */
export function createViews(gpu: Gpu, config: Config): Views | undefined {
  if (config.strong === 'none') return undefined;
  const first = drawViews(config, 0);
  const [items, table] = [first.length, viewTable(first)];
  const draws = tensor(gpu, table, [items, table.length / items], { label: 'views' });
  const random = createRandom(gpu, (config.seed + 0x51e) >>> 0); // another key than student's and teacher's
  return {
    random,
    strong: (images) => strongViews(images, draws, random),
    mix(found) {
      const count = found.shape[0]!;
      return noGrad(gpu, () => mixItems(found, count === items ? draws : slice(draws, 0, items - count, count)));
    },
    setIteration(iteration) {
      draws.write(viewTable(drawViews(config, iteration)));
      random.setStep(iteration);
    },
  };
}
