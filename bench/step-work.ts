// The whole mean-teacher training step to compare: its settings, initial weights and batch, and wgrad doing it. Dropout and
// noise are 0, because every engine draws other random numbers; all else is as in training.
import { type Gpu, uniformStream } from '../engine/index.js';
import { type Config, resolveConfig, UsageError } from '../train/config.js';
import * as ramps from '../train/ramps.js';
import { createTrainer, type Trainer } from '../train/trainer.js';
import { type Contender, disagreement } from './harness.js';

/** A named tensor in wgrad's layout. */
export interface Weights {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Numbers that change from step to step. */
export interface StepNumbers {
  readonly lr: number;
  /** λ, weight of the unsupervised loss. */
  readonly consistencyWeight: number;
  /** τ, below which a pixel is of low confidence. */
  readonly threshold: number;
  readonly emaDecay: number;
  /** ρ, weight of unlabelled pixels in the prototypes. */
  readonly unlabeledWeight: number;
}

export interface StepWork {
  readonly config: Config;
  readonly images: Float32Array; // [batch, size, size, 1], the labelled ones first
  readonly labels: Uint8Array; // [batch, size, size]
  /** Trainable tensors by name (without `student.`), equal in student and teacher. */
  readonly initial: ReadonlyMap<string, Weights>;
  numbers(iteration: number): StepNumbers;
}

export interface StepContender extends Contender {
  /** Runs the step of an iteration; resolves with its loss. */
  advance(iteration: number): Promise<number>;
  /** `student.NAME`, `teacher.NAME` and `prototypes.vectors`, in wgrad's layout. */
  state(): Promise<Map<string, Float32Array>>;
  /** The loss of the last queued step. */
  loss(): Promise<number>;
  release(): void;
}

export interface StepSettings {
  readonly method?: string | undefined;
  readonly size?: number | undefined;
  readonly features?: string | undefined;
  readonly batch?: number | undefined;
  readonly threshold?: number | undefined;
}

/** The iteration that is run and timed: in the middle of training, where every term of the loss counts. */
export const middleOf = ({ iterations }: Config): number => Math.floor(iterations / 2);

/** wgrad's step, and the work as the peers get it. */
export async function prepareOwnStep(
  gpu: Gpu,
  settings: StepSettings,
): Promise<{ work: StepWork; own: StepContender }> {
  const { method = 'lccs', size = 32, features = '8,16,32', batch = 4, threshold } = settings;
  const config = resolveConfig({
    ...{ method, size, features, batch, threshold },
    ...{ dropout: '0', noise: 0 },
  });
  if (config.method === 'supervised') {
    throw new UsageError('bench: --method supervised has no teacher. Use lccs or mt.');
  }
  const uniform = uniformStream(11);
  const images = Float32Array.from({ length: config.batch * config.size * config.size }, uniform);
  // Labels depend on the image, so that there is something to learn.
  const labels = Uint8Array.from(images, (v) => Math.min(config.classes - 1, Math.floor(v * config.classes)));
  const trainer = createTrainer(gpu, config);
  trainer.setBatch(images, labels);
  const initial = new Map<string, Weights>();
  for (const [name, t] of trainer.state) {
    if (!name.startsWith('student.') || !t.requiresGrad) continue;
    initial.set(name.slice('student.'.length), { shape: t.shape, values: (await t.read()) as Float32Array });
  }
  const numbers = (iteration: number): StepNumbers => ({
    lr: ramps.polyLearningRate(config, iteration),
    consistencyWeight: ramps.consistencyWeight(config, iteration),
    threshold: ramps.threshold(config, iteration),
    emaDecay: ramps.emaDecay(config, iteration),
    unlabeledWeight: ramps.prototypeUnlabeledWeight(config, iteration),
  });
  return { work: { config, images, labels, initial, numbers }, own: ownStep(trainer, [...initial.keys()]) };
}

function ownStep(trainer: Trainer, names: readonly string[]): StepContender {
  const { gpu, step, state } = trainer;
  const loss = async (): Promise<number> => ((await step().loss.read()) as Float32Array)[0]!;
  return {
    name: 'wgrad',
    queue: () => void step(),
    done: () => gpu.device.queue.onSubmittedWorkDone(),
    loss,
    advance: (iteration) => {
      trainer.setIteration(iteration);
      return loss();
    },
    async state() {
      const values = new Map<string, Float32Array>();
      for (const [name, t] of state) {
        const compared = name === 'prototypes.vectors' || names.includes(name.replace(/^(student|teacher)\./, ''));
        if (compared) values.set(name, (await t.read()) as Float32Array);
      }
      return values;
    },
    release: () => {},
  };
}

/** How far two engines are apart after the same steps. */
export interface StepDifference {
  /** Largest difference of a loss, relative. */
  readonly losses: number;
  /** Largest difference of a tensor's values, relative to the largest value of that tensor. */
  readonly values: number;
  readonly worst: string;
}

export function compareSteps(
  ours: { losses: readonly number[]; state: ReadonlyMap<string, Float32Array> },
  theirs: { losses: readonly number[]; state: ReadonlyMap<string, Float32Array> },
): StepDifference {
  const losses = Math.max(...ours.losses.map((loss, i) => Math.abs(loss - theirs.losses[i]!) / Math.abs(loss)));
  let values = 0;
  let worst = '';
  for (const [name, expected] of ours.state) {
    const got = theirs.state.get(name);
    const apart = got ? disagreement(expected, got) : Number.POSITIVE_INFINITY;
    if (!(apart <= values)) [values, worst] = [apart, name];
  }
  return { losses, values, worst };
}
