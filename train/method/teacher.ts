// The teacher: a second network that sees noisy images and follows the student by a moving average. It runs in train mode (batch
// statistics, dropout active) unless `teacherMode` says eval; none of it has a gradient.
import {
  cast,
  concat,
  createRandom,
  ema,
  type Gpu,
  gaussianNoise,
  noGrad,
  pack,
  type Random,
  reshape,
  slice,
  type Tensor,
} from '../../engine/index.js';
import { meanEntropy } from '../../engine/method.js';
import type { Segmenter } from '../../model/index.js';
import type { Config } from '../settings/settings.js';
import { partsOf } from './methods.js';
import { createNetwork } from './network.js';
import { statisticsOf } from './statistics.js';
import type { Views } from './views.js';

export interface Teacher {
  readonly model: Segmenter;
  /** What noise and dropout draw from. */
  readonly random: Random;
  /**
   * Logits and last features of the noisy unlabelled items; where pixels are kept by confidence, of the clean labelled ones before them
   * too. With strong views it sees the weak ones, and what is used of its answer is mixed as the student's images are.
   */
  predict(images: Tensor): { logits: Tensor; features: Tensor };
  /** Entropy of the mean of several noisy predictions of the unlabelled items, f32 [items, …patch]; mixed likewise. */
  uncertainty(images: Tensor): Tensor;
  /** Records the moving average of the running statistics, if that is wanted. */
  averageBuffers(student: Segmenter, decay: Tensor, unless: { guard: Tensor; unscale?: Tensor }): void;
  /** The same, whose passes leave the running statistics alone. */
  aside(): Teacher;
}

const buffersOf = ({ state, parameters }: Segmenter): Tensor[] => {
  const trained = new Set(parameters);
  return [...state.values()].filter((t) => !trained.has(t));
};

/** The teacher of `student`, with weights of its own; of what the student sees as `views`, where it sees strong ones. */
export function createTeacher(gpu: Gpu, config: Config, student: Segmenter, views?: Views): Teacher {
  const { labeledBatch: labeled, batch, precision, teacherMode: mode } = config;
  const model = createNetwork(gpu, config);
  const random = createRandom(gpu, (config.seed + 0x7ea) >>> 0); // another key: teacher and student draw different numbers
  const { keeps, separation } = partsOf(config);
  const clean = keeps === 'confidence';
  if (config.emaBuffers) {
    pack(buffersOf(student), 'student.buffers'); // so that their average is one launch
    pack(buffersOf(model), 'teacher.buffers');
  }
  const noisy = (images: Tensor): Tensor =>
    gaussianNoise(slice(images, 0, labeled, batch - labeled), {
      std: config.noise,
      clip: config.noiseClip,
      random,
    });
  const tracking = (track: readonly number[] | undefined): Teacher => {
    const forward = (images: Tensor) => {
      const groups = clean ? statisticsOf(config, batch) : {}; // else there are unlabelled items only
      return model.forward(cast(images, precision), { mode, random, ...groups, ...(track && { track }) });
    };
    return {
      model,
      random,
      predict(images) {
        const { logits, features } = noGrad(gpu, () =>
          forward(clean ? concat([slice(images, 0, 0, labeled), noisy(images)], 0) : noisy(images)),
        );
        if (!views) return { logits, features };
        return { logits: views.mix(logits), features: separation ? views.mix(features) : features };
      },
      uncertainty(images) {
        const entropy = meanEntropy(gpu, config.uncertaintyPasses, () => forward(noisy(images)).logits);
        return views ? reshape(views.mix(reshape(entropy, [...entropy.shape, 1])), entropy.shape) : entropy;
      },
      averageBuffers(from, decay, unless) {
        if (config.emaBuffers) ema(buffersOf(model), buffersOf(from), decay, unless);
      },
      aside: () => tracking([]),
    };
  };
  return tracking(undefined);
}
