// The whole training step to compare, of the UNet with a mean teacher or of the V-Net with labels alone: its settings, initial weights
// and batch, and wgrad doing it. Dropout and noise are 0, because every engine draws other random numbers; all else is as in training.

import { sizeOf } from '../engine/custom.js';
import { type Gpu, scope, uniformStream } from '../engine/index.js';
import { UsageError } from '../train/files/usage-error.js';
import * as ramps from '../train/method/ramps.js';
import { createTrainer, type Trainer } from '../train/method/trainer.js';
import { layered } from '../train/settings/config-file.js';
import { type Config, resolveConfig } from '../train/settings/settings.js';
import { placeOf } from './conv-work.js';
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
  readonly images: Float32Array; // [batch, ...patch, 1], the labelled ones first
  readonly labels: Uint8Array; // [batch, ...patch]
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

/** What the command line says of the UNet's step. */
interface UNetSettings {
  readonly method: 'lccs' | 'mt';
  readonly size: number;
  readonly features: readonly number[];
  readonly batch: number;
  readonly threshold: number;
}

/** Of the V-Net's, whose items are all labelled. */
interface VNetSettings {
  readonly protocol: 'la-small';
  readonly method: 'supervised';
  readonly patch: readonly number[];
  readonly features: readonly number[];
  readonly batch: number;
  readonly labeledBatch: number;
}

export type StepSettings = UNetSettings | VNetSettings;

/** What of the command line chooses a step. */
export interface StepFlags {
  readonly network?: unknown;
  readonly method?: unknown;
  readonly size?: unknown;
  readonly patch?: unknown;
  readonly features?: unknown;
  readonly batch?: unknown;
  readonly threshold?: unknown;
}

const configOf = (settings: object): Config => resolveConfig(layered({ ...settings, dropout: '0', noise: 0 }));

/** Fills in defaults that a CPU finishes; throws a UsageError for settings that do not fit. */
export function readStepSettings(given: StepFlags): StepSettings {
  return given.network === 'vnet' ? readVNetSettings(given) : readUNetSettings(given);
}

function readVNetSettings({ features = '8,16,32', batch = 4, ...given }: StepFlags): VNetSettings {
  const { patch = '16,32,32', method, size, threshold } = given;
  for (const [flag, value] of Object.entries({ method, size, threshold })) {
    if (value !== undefined)
      throw new UsageError(`bench: --${flag} is of the UNet's step. Leave it out, or use --network unet.`);
  }
  const fixed = { protocol: 'la-small', method: 'supervised' } as const;
  const config = configOf({ ...fixed, patch, features, batch, labeledBatch: batch });
  return { ...fixed, patch: config.patch, features: config.features, batch: config.batch, labeledBatch: config.batch };
}

function readUNetSettings({ features = '8,16,32', batch = 4, ...given }: StepFlags): UNetSettings {
  const { method = 'lccs', size = 32, threshold, patch } = given;
  if (patch !== undefined)
    throw new UsageError("bench: --patch is of the V-Net's step. Use --size, or --network vnet.");
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

export const stepTitle = ({ config: { network, method, patch, features, batch } }: StepWork): string => {
  const what = network === 'vnet' ? `${method} V-Net` : method;
  return `step ${what} ${features.join('-')} @${placeOf(patch)} ×${batch}`;
};

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

/** What some steps made: their losses, and the state after them (`StepContender.state`). */
export interface StepRun {
  readonly losses: readonly number[];
  readonly state: ReadonlyMap<string, Float32Array>;
}

/** Steps whose losses and weights must agree before anything is timed. */
export const checkedSteps = 3;

/** The checked steps of a contender that has not run yet, from an iteration on. */
export async function runSteps(contender: StepContender, first: number): Promise<StepRun> {
  const losses: number[] = [];
  for (let i = 0; i < checkedSteps; i++) losses.push(await contender.advance(first + i));
  return { losses, state: await contender.state() };
}

/** The checked steps of wgrad `count` times, each from images of its own that differ by up to four units in the last place. */
export async function runAlike(gpu: Gpu, { config, images, labels, initial }: StepWork, count = 3): Promise<StepRun[]> {
  const runs: StepRun[] = [];
  for (let i = 0; i < count; i++) {
    const uniform = uniformStream(12, i);
    const run = await scope(gpu, async () => {
      const trainer = createTrainer(gpu, config);
      trainer.setBatch(
        images.map((v) => v * (1 + (2 * uniform() - 1) * 2 ** -22)),
        labels,
      );
      return runSteps(ownStep(trainer, [...initial.keys()]), middleOf(config));
    });
    runs.push(run);
  }
  return runs;
}

export interface StepTolerance {
  readonly losses: number;
  readonly changes: number;
}

/** How far two engines are apart after the same steps. */
export interface StepDifference {
  /** Largest difference of a loss, relative. */
  readonly losses: number;
  /** Largest difference of a tensor's change since the start that f32 does not explain, relative to the largest change in that tensor. */
  readonly changes: number;
  /** Of which tensor. */
  readonly worst: string;
}

// Losses are means over thousands of pixels of numbers rounded to 6e-8; on 2 to 5 levels they were apart by up to 4e-7. Changes
// are sums of as many gradients of both signs in other orders, through norms that divide by small deviations; up to 4e-6 was
// found where no pixel decides otherwise (compareSteps). What is forgotten shows far above that: without weight decay (1e-4) the
// biases before a norm are off by 1.
const tolerance = { losses: 1e-5, changes: 1e-3 };

/**
 * How far apart two engines may be after the same steps where nothing else explains it. tfjs adds up a weight's gradient pixel by pixel,
 * so its rounding grows with the root of their number N: 5e-5 of a change at N = 4096, 9e-5 at 16 384, 1.3e-4 at 65 536 (two levels,
 * lavapipe; wgrad, which sums in trees, stays at 2e-5), 2.7e-3 at 1.6 million on an H200. 64 √N units allow for twice that.
 */
export function stepTolerance({ batch, patch }: Pick<Config, 'batch' | 'patch'>): StepTolerance {
  const pixels = batch * sizeOf(patch);
  return { ...tolerance, changes: Math.max(tolerance.changes, 64 * Math.sqrt(pixels) * 2 ** -24) };
}

/** Two engines, three updates, three roundings in each (of decay·t + (1 − decay)·s), relative to the value: half a unit, 2⁻²⁴. */
const roundings = 2 * 3 * 3 * 2 ** -24;

/** Tensors in which decisions of pixels weigh alike: weights, biases or norms of student or teacher. */
function groupOf(name: string, initial: ReadonlyMap<string, Weights>): string {
  const [role, ...path] = name.split('.');
  const rankOf = (last: string): number => initial.get([...path.slice(0, -1), last].join('.'))?.shape.length ?? 0;
  return rankOf('weight') === 1 ? `${role} norms` : `${role} ${path.at(-1)}`;
}

/** What is known of one tensor of two engines. */
interface Compared {
  readonly name: string;
  readonly group: string;
  /** Largest difference, NaN where a value is none or missing. */
  readonly apart: number;
  /** Largest change since the start. */
  readonly change: number;
  /** What rounding the weights themselves explains. */
  readonly rounding: number;
  /** How far runs of one engine are apart that start alike. */
  readonly spread: number;
}

const largest = (values: ArrayLike<number>, of: (value: number, i: number) => number): number => {
  let most = 0;
  for (let i = 0; i < values.length; i++) {
    const here = of(values[i]!, i);
    if (!(here <= most)) most = here;
    if (Number.isNaN(most)) break;
  }
  return most;
};

/**
 * Compares losses and, tensor by tensor, what the steps changed. What f32 explains does not count:
 * - Roundings of the weights themselves. The teacher, and biases that a norm cancels, move by little more than that.
 * - Decisions. A pixel that is nearly the largest of its pool, or an activation that is nearly 0, goes one way or the other with the
 *   last place of what comes before, and moves a gradient by far more than a rounding (a float64 step in PyTorch is as far from
 *   PyTorch in f32: bench/pytorch/step.py). `alike` are runs of our own from images that differ in their last places (runAlike): a
 *   difference up to three times theirs is explained, of this tensor or, relative to the change, of any in its group.
 */
export function compareSteps(
  ours: StepRun,
  theirs: StepRun,
  initial: ReadonlyMap<string, Weights>,
  alike: readonly StepRun[] = [],
): StepDifference {
  const losses = Math.max(...ours.losses.map((loss, i) => Math.abs(loss - theirs.losses[i]!) / Math.abs(loss)));
  const tensors = [...ours.state].map(([name, values]): Compared => {
    const before = initial.get(name.replace(/^(student|teacher)\./, ''))?.values;
    const from = (others?: Float32Array): number =>
      others?.length === values.length ? largest(values, (v, i) => Math.abs(v - others[i]!)) : Number.NaN;
    return {
      name,
      group: groupOf(name, initial),
      apart: from(theirs.state.get(name)),
      change: largest(values, (v, i) => Math.abs(v - (before?.[i] ?? 0))),
      rounding: roundings * largest(values, Math.abs),
      spread: Math.max(0, ...alike.map(({ state }) => from(state.get(name)))),
    };
  });
  const shares = new Map<string, number>();
  for (const { group, spread, rounding, change } of tensors) {
    const share = spread > rounding ? Math.min(1, spread / change) : 0;
    shares.set(group, Math.max(shares.get(group) ?? 0, share));
  }
  let changes = 0;
  let worst = '';
  for (const { name, group, apart, change, rounding, spread } of tensors) {
    const explained = Math.max(rounding, 3 * spread, 3 * shares.get(group)! * change);
    const relative = apart <= explained ? 0 : apart >= 0 ? apart / change : Number.POSITIVE_INFINITY;
    if (!(relative <= changes)) [changes, worst] = [relative, name];
  }
  return { losses, changes, worst };
}
