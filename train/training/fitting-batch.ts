// The largest batch that a GPU can bind, for a configuration that is too large for it: steps of smaller batches are recorded, not run.
import { type Gpu, type GpuError, scope } from '../../engine/index.js';
import { partsOf } from '../method/methods.js';
import { createTrainer } from '../method/trainer.js';
import type { Config } from '../settings/settings.js';

/** A batch, and how much of it is labelled. */
export type Batching = Pick<Config, 'batch' | 'labeledBatch'>;

/** The batch of `items`, labelled and unlabelled in the configuration's shares, at least one of each. */
function batchOf(config: Config, items: number): Batching {
  if (!partsOf(config).teacher) return { batch: items, labeledBatch: items };
  const share = Math.round((items * config.labeledBatch) / config.batch);
  return { batch: items, labeledBatch: Math.min(items - 1, Math.max(1, share)) };
}

const fits = (gpu: Gpu, config: Config): boolean => scope(gpu, () => !createTrainer(gpu, config).step.info.tooLarge);

/** The largest smaller batch that fits; undefined where none does. */
export function fittingBatch(gpu: Gpu, config: Config): Batching | undefined {
  const isTwofold = partsOf(config).teacher;
  let [least, most] = [isTwofold ? 1 : 0, isTwofold ? config.batch : config.labeledBatch]; // the last known to fit, the first known not to
  while (most - least > 1) {
    const middle = Math.floor((least + most) / 2);
    if (fits(gpu, { ...config, ...batchOf(config, middle) })) least = middle;
    else most = middle;
  }
  return least > (isTwofold ? 1 : 0) ? batchOf(config, least) : undefined;
}

/** What to say of a configuration that is too large. */
export function unfit(gpu: Gpu, config: Config, problem: GpuError, smaller: Batching | undefined): string {
  const labels = smaller && partsOf(config).teacher ? ` --labeled-batch ${smaller.labeledBatch}` : '';
  const flag = partsOf(config).teacher ? '--batch' : '--labeled-batch';
  const isHalf =
    config.precision === 'f32' && gpu.features.has('shader-f16') && fits(gpu, { ...config, precision: 'f16' });
  const half = isHalf ? `, or --precision f16, in which a batch of ${config.batch} fits` : '';
  const advice = smaller
    ? `A batch of ${smaller.batch} fits: use ${flag} ${smaller.batch}${labels}${half}.`
    : `No smaller batch fits: use a smaller --patch or fewer --features${half}.`;
  return `train: this GPU cannot run this configuration — ${problem.message} ${advice}`;
}
