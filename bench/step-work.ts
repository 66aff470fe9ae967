// The whole mean-teacher training step to compare: its settings, initial weights and batch, and wgrad doing it. Dropout and
// noise are 0, because every engine draws other random numbers; all else is as in training.
import { type Gpu, sizeOf, uniformStream } from '../engine/index.js';
import { UsageError } from '../train/files/usage-error.js';
import * as ramps from '../train/method/ramps.js';
import { createTrainer, type Trainer } from '../train/method/trainer.js';
import { type Config, resolveConfig } from '../train/settings/settings.js';
import type { Contender } from './harness.js';

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

/** What the command line says of the step. */
export interface StepSettings {
  readonly method: 'lccs' | 'mt';
  readonly size: number;
  readonly features: readonly number[];
  readonly batch: number;
  readonly threshold: number;
}

const configOf = (settings: object): Config => resolveConfig({ ...settings, dropout: '0', noise: 0 });

/** Fills in defaults that a CPU finishes; throws a UsageError for settings that do not fit. */
export function readStepSettings(given: { [K in keyof StepSettings]?: unknown }): StepSettings {
  const { method = 'lccs', size = 32, features = '8,16,32', batch = 4, threshold } = given;
  const config = configOf({ method, size, features, batch, threshold });
  if (config.method !== 'lccs' && config.method !== 'mt') {
    const why = config.method === 'supervised' ? 'has no teacher' : 'is not one that the peers compute';
    throw new UsageError(`bench: --method ${config.method} ${why}. Use lccs or mt.`);
  }
  return {
    method: config.method,
    size: config.patch[0]!,
    features: config.features,
    batch: config.batch,
    threshold: config.threshold,
  };
}

export const stepTitle = ({ config: { method, patch, features, batch } }: StepWork): string =>
  `step ${method} ${features.join('-')} @${patch[0]}² ×${batch}`;

/** The iteration that is run and timed: in the middle of training, where every term of the loss counts. */
export const middleOf = ({ iterations }: Config): number => Math.floor(iterations / 2);

/** wgrad's step, and the work as the peers get it. */
export async function prepareOwnStep(
  gpu: Gpu,
  settings: StepSettings,
): Promise<{ work: StepWork; own: StepContender }> {
  const config = configOf(settings);
  const uniform = uniformStream(11);
  const images = Float32Array.from({ length: config.batch * sizeOf(config.patch) }, uniform);
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
    lr: ramps.learningRate(config, iteration),
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
    done: () => gpu.wait(gpu.device.queue.onSubmittedWorkDone()),
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
  /** Largest difference of a tensor's change since the start, relative to the largest change in that tensor. */
  readonly changes: number;
  /** Of which tensor. */
  readonly worst: string;
}

// Losses are means over thousands of pixels of numbers rounded to 6e-8; on 2 to 5 levels they were apart by up to 4e-7. Changes
// are sums of as many gradients of both signs in other orders, through norms that divide by small deviations; up to 4e-6 was
// found, and real images are less kind than noise. What is forgotten shows far above that: without weight decay (1e-4) the
// biases before a norm are off by 1.
export const stepTolerance = { losses: 1e-5, changes: 1e-3 } as const;

/** Two engines, three updates, three roundings in each (of decay·t + (1 − decay)·s), relative to the value: half a unit, 2⁻²⁴. */
const roundings = 2 * 3 * 3 * 2 ** -24;

/**
 * Compares losses and, tensor by tensor, what the steps changed. Differences that rounding the weights themselves explains do not
 * count: the teacher, and biases that a norm cancels, move by little more than that.
 */
export function compareSteps(
  ours: { losses: readonly number[]; state: ReadonlyMap<string, Float32Array> },
  theirs: { losses: readonly number[]; state: ReadonlyMap<string, Float32Array> },
  initial: ReadonlyMap<string, Weights>,
): StepDifference {
  const losses = Math.max(...ours.losses.map((loss, i) => Math.abs(loss - theirs.losses[i]!) / Math.abs(loss)));
  let changes = 0;
  let worst = '';
  for (const [name, values] of ours.state) {
    const others = theirs.state.get(name);
    const before = initial.get(name.replace(/^(student|teacher)\./, ''))?.values;
    let [apart, change, largest] = others?.length === values.length ? [0, 0, 0] : [Number.POSITIVE_INFINITY, 1, 0];
    values.forEach((value, i) => {
      apart = Math.max(apart, Math.abs(value - (others?.[i] ?? Number.NaN)));
      change = Math.max(change, Math.abs(value - (before?.[i] ?? 0)));
      largest = Math.max(largest, Math.abs(value));
    });
    const relative = apart <= largest * roundings ? 0 : apart >= 0 ? apart / change : Number.POSITIVE_INFINITY;
    if (!(relative <= changes)) [changes, worst] = [relative, name];
  }
  return { losses, changes, worst };
}
