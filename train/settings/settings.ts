// Every setting of a training run, one row each: its default, what it may be, its line of help. Types, flags, help and errors all come
// from this table. The paper gives no numbers; the defaults are ours, those of the protocol SSL4MIS's (train/README.md).
import * as v from 'valibot';
import { nearest } from '../../engine/custom.js';
import { cut } from '../files/data-error.js';
import { checked, numberIn, numberWithin, oneOf, reading } from '../files/schema.js';
import { UsageError } from '../files/usage-error.js';
import { checkTogether, isWithoutSpacing } from './settings-together.js';

/** One setting. */
interface Setting<T> {
  readonly default: T;
  /** What stands for its value in the help. */
  readonly shown: string;
  readonly help: string;
  /** Its value from JSON or from a flag's text; `refuse` throws what was expected. */
  read(value: unknown, refuse: (expected: string) => never): T;
}

function setting<T>(value: T, shown: string, schema: v.GenericSchema<unknown, T>, help: string): Setting<T> {
  const read: Setting<T>['read'] = (given, refuse) => {
    const found = checked(schema, typeof given === 'string' ? given.trim() : given);
    if (!found.mismatches) return found.value;
    const [{ key, expected }] = found.mismatches;
    return refuse(key === '' ? expected : `a list, each ${expected}`);
  };
  return { default: value, shown, help, read };
}

const most = Number.MAX_VALUE;

const integer = (value: number, min: number, help: string, max = most) =>
  setting(value, 'N', reading(numberIn, numberWithin({ min, max, whole: true })), help);

const integerOrNone = (value: number | null, min: number, help: string) => {
  const read = (given: unknown) => (given === 'none' ? null : numberIn(given));
  return setting(value, 'N|none', reading(read, v.nullable(numberWithin({ min, whole: true }))), help);
};

const number = (value: number, min: number, max: number, help: string) =>
  setting(value, 'N', reading(numberIn, numberWithin({ min, max })), help);

const boolean = (value: boolean, help: string) => {
  const words: Readonly<Record<string, boolean>> = { true: true, false: false };
  const read = (given: unknown) => (typeof given === 'string' ? words[given] : given);
  return setting(value, 'true|false', reading(read, v.boolean('true or false')), help);
};

/** One of some words; `formerly` are spellings of earlier versions, which still read. */
const choice = <const C extends string>(
  value: NoInfer<C>,
  choices: readonly C[],
  help: string,
  formerly: Readonly<Record<string, NoInfer<C>>> = {},
) => {
  const read = (given: unknown) =>
    typeof given === 'string' && Object.hasOwn(formerly, given) ? formerly[given] : given;
  return setting<C>(value, choices.join('|'), reading(read, oneOf(choices)), help);
};

/** A list of numbers; its text has commas, and a single number is a list of one. */
const list = (value: number[], each: { min: number; max?: number; whole?: boolean }, help: string) => {
  const read = (given: unknown) =>
    typeof given === 'string' ? given.split(',') : typeof given === 'number' ? [given] : given;
  const schema = v.pipe(
    v.array(reading(numberIn, numberWithin(each)), 'a list of numbers'),
    v.nonEmpty('a list of at least one number'),
  );
  return setting(value, 'N,N,…', reading(read, schema), help);
};

/**
 * The methods, as `--method` takes them.
 * @example
 * console.log(methods.includes('lccs')); // true
 */
export const methods = ['lccs', 'lccs-consistency', 'lccs-separation', 'mt', 'uamt', 'bcp', 'supervised'] as const;

/** Key → setting. The flag is the key in kebab-case. */
export const settings = {
  method: choice(
    'lccs',
    methods,
    'lccs: low-confidence consistency and class separation; lccs-consistency, lccs-separation: one of the two; mt: mean teacher; uamt: uncertainty-aware mean teacher; bcp: bidirectional copy-paste; supervised: labelled slices only',
  ),
  labeled: integer(7, 1, 'training patients whose labels are used: the first N of the split'),
  iterations: integer(30000, 1, 'training iterations'),
  patch: list(
    [256, 256],
    { min: 1, whole: true },
    'sides of a sample in voxels: height,width of a slice, or depth,height,width of a volume (z,y,x)',
  ),
  sample: choice(
    'whole',
    ['whole', 'patches'],
    'whole: a slice or volume is fitted to --patch; patches: --patch is cut out of it at its own voxels, at random in training, as overlapping windows in prediction; patches unless given where --patch is depth,height,width and --spacing is zeros',
  ),
  downsample: integer(
    1,
    1,
    'patches: 1 keeps the voxels, 2 takes the mean of every 2×2×2 of them (2×2 of slices); predictions go back by nearest neighbour',
    2,
  ),
  stride: list(
    [0],
    { min: 0, whole: true },
    'patches: voxels between the windows whose probabilities are averaged, along each side of --patch; 0: half of the side',
  ),
  spacing: list(
    [0, 0],
    { min: 0 },
    'voxel size along x,y (,z) in mm: samples are resampled to it, then cropped or padded to --patch; with zeros whole samples are resized',
  ),
  orient: choice(
    'keep',
    ['keep', 'canonical'],
    'keep: axes as the files store them; canonical: axes permuted and flipped to the nearest RAS orientation, without interpolation',
  ),
  fold: integer(0, 0, 'fold to use where splits.json or splits_final.json is a list of folds'),
  classes: integer(4, 2, 'number of classes, background included'),
  ignoreLabel: integerOrNone(
    null,
    -(2 ** 31),
    'label value that is left out of training and scoring, usually 255 or -1',
  ),
  trust: choice(
    'headers',
    ['headers', 'voxels'],
    'headers: a label whose header disagrees with its image is an error; voxels: their voxels correspond whatever the headers say',
  ),
  nan: choice(
    'least',
    ['least', 'zero', 'refuse'],
    'NaN and infinite intensities become the smallest finite one (least) or 0 (zero), or are an error (refuse)',
  ),
  intensity: choice(
    'minmax',
    ['minmax', 'percentile', 'zscore', 'stored'],
    'how intensities are scaled, by volume: to 0 … 1 from the minimum to the maximum, or between two percentiles, clipped; to mean 0 and standard deviation 1; or as they are stored',
  ),
  intensityPercentiles: list([0.5, 99.5], { min: 0, max: 100 }, 'the percentiles of --intensity percentile'),
  network: choice(
    'unet',
    ['unet', 'vnet'],
    'unet: the UNet of SSL4MIS; vnet: the V-Net of UA-MT; both segment slices or volumes',
  ),
  features: list([16, 32, 64, 128, 256], { min: 1, whole: true }, 'channels per level'),
  dropout: list(
    [0.05, 0.1, 0.2, 0.3, 0.5],
    { min: 0, max: 0.95 },
    'unet: encoder dropout rate per level; vnet: the last one, of whole channels after the deepest block and the last one',
  ),
  batch: integer(24, 1, 'slices per batch'),
  labeledBatch: integer(12, 1, 'labelled slices per batch, half of --batch unless given; supervised uses only these'),
  lr: number(0.01, 0, most, 'initial learning rate of SGD'),
  momentum: number(0.9, 0, 1, 'SGD momentum'),
  weightDecay: number(1e-4, 0, most, 'SGD weight decay'),
  lrSchedule: choice(
    'poly',
    ['poly', 'step'],
    'how the learning rate falls: by a power of what is left of the iterations (poly), or by a factor every so often (step)',
  ),
  lrPower: number(0.9, 0, most, 'poly: learning rate · (1 − iteration/iterations)^N'),
  lrStepFraction: number(
    5 / 12,
    1e-6,
    1,
    'step: share of the iterations after which the learning rate falls, again and again',
  ),
  lrStepFactor: number(0.1, 0, 1, 'step: what it is multiplied by'),
  seed: integer(1337, 0, 'seed of weights, batches, augmentation, dropout and noise'),
  augment: boolean(true, 'random rotations and flips'),
  strong: choice(
    'none',
    ['none', 'unlabeled', 'both'],
    'strong views for the student: of the unlabelled items (changed intensities, CutMix; the teacher sees the weak views, and what it says is mixed alike), or of both kinds (labelled items and their labels half as often)',
  ),
  cutmix: boolean(true, 'strong views: a box of two thirds of each side shows the next item of the same kind'),
  strongTurn: boolean(
    false,
    'strong views of unlabelled items are turned and flipped, and what the teacher says with them',
  ),
  statistics: choice(
    'joint',
    ['joint', 'apart'],
    'batch statistics of norms, in student and teacher: of labelled and unlabelled items together (joint), or of each kind by itself (apart)',
  ),
  runningStatistics: choice(
    'both',
    ['both', 'labeled', 'unlabeled'],
    'statistics apart: which items the running statistics follow; both: labelled ones, then unlabelled ones',
  ),
  confidence: choice(
    'student',
    ['student', 'teacher', 'mean', 'min'],
    'whose maximum class probability decides which pixels are kept',
  ),
  selection: choice(
    'low',
    ['low', 'high', 'all'],
    'pixels that are kept: confidence below the threshold (low), at or above it (high), or all',
  ),
  threshold: number(0.95, 0, 1, 'confidence threshold; a ramp ends here'),
  thresholdMode: choice(
    'fixed',
    ['fixed', 'ramp', 'percentile', 'per-class'],
    'ramp: rises from --threshold-start to --threshold; percentile: a fixed share of each batch lies below it; per-class: threshold times the mean confidence of each class, relative to the most confident class',
    { perClass: 'per-class' },
  ),
  thresholdStart: number(0.75, 0, 1, 'where a ramped threshold starts'),
  thresholdPercentile: number(0.1, 0, 1, 'percentile: share of the unlabelled pixels below the threshold'),
  thresholdMomentum: number(
    0.9,
    0,
    1,
    'percentile, per-class: upper bound on the momentum of the running estimate; 0 uses each batch alone',
  ),
  consistency: choice(
    'mse',
    ['mse', 'kl', 'ce', 'ce-dice'],
    "distance between student and teacher on kept pixels: of their probabilities (mse, kl), or to the teacher's class (ce; ce-dice: half cross-entropy, half Dice)",
  ),
  confidentWeight: number(
    0,
    0,
    most,
    "weight, within the consistency, of the cross-entropy against the teacher's class on the unlabelled pixels that are not kept",
  ),
  consistencyWeight: number(0.1, 0, most, 'λ_max, the final weight of the unsupervised loss'),
  diceClasses: choice(
    'all',
    ['all', 'foreground'],
    'classes that the supervised Dice loss is over: all, or all but the background',
  ),
  rampEvery: integer(150, 1, 'iterations between two steps of the weight ramp; fewer where --ramp-steps asks for that'),
  rampSteps: integer(200, 1, 'steps that the weight ramp takes at least, however few iterations there are'),
  rampFraction: number(1, 0, 1, 'share of the iterations over which the weight ramps up'),
  warmupFraction: number(1 / 30, 0, 1, 'share of the iterations before the unsupervised loss starts'),
  pretrainFraction: number(
    1 / 3,
    0,
    1,
    'bcp: share of the iterations that come before the teacher, with labelled slices pasted into each other',
  ),
  pseudoWeight: number(0.5, 0, most, "bcp: weight of the loss where the teacher's classes are the labels"),
  separation: choice(
    'pull',
    ['pull', 'proto-ce', 'distance'],
    'class separation: cosine pull, cross-entropy over cosines, or cross-entropy over distances',
    { protoCE: 'proto-ce' },
  ),
  separationWeight: number(0.1, 0, most, 'β, weight of class separation within the unsupervised loss'),
  separationPixels: choice('kept', ['kept', 'all'], 'pixels that class separation uses'),
  temperature: number(0.1, 1e-6, most, 'temperature T of --separation proto-ce'),
  projection: boolean(true, 'projection head before class separation'),
  projectionWidth: integer(32, 1, 'channels of the projection head'),
  emaDecay: number(0.99, 0, 1, "upper bound on the teacher's EMA decay"),
  emaBuffers: boolean(false, "whether the teacher's running statistics follow the student's, too"),
  teacherMode: choice(
    'train',
    ['train', 'eval'],
    'mode of the teacher: batch statistics and dropout (train), or running statistics and no dropout (eval)',
  ),
  uncertaintyPasses: integer(
    8,
    1,
    'uamt: number of noisy teacher predictions that are averaged to estimate uncertainty',
  ),
  prototypeMomentum: number(0.99, 0, 1, 'upper bound on the momentum of the prototypes; 0 uses each batch alone'),
  prototypeWeighting: choice(
    'confidence',
    ['confidence', 'hard'],
    "weight of a reliable pixel in its prototype: the teacher's confidence, or 1 (hard)",
  ),
  prototypeUnlabeledWeight: number(
    1,
    0,
    most,
    'ρ, weight of reliable unlabelled pixels in the prototypes; 0 uses labelled pixels only',
  ),
  prototypeWarmupFraction: number(
    1 / 30,
    0,
    1,
    'share of the iterations in which ρ is 0; that of --warmup-fraction unless given',
  ),
  noise: number(0.1, 0, most, "standard deviation of the noise on the teacher's input"),
  noiseClip: number(0.2, 0, most, 'that noise is clipped to ±N'),
  precision: choice('f32', ['f32', 'f16'], 'storage of activations and their gradients; sums and weights stay f32'),
  gradientsEvery: integer(
    0,
    0,
    'iterations between two logs of how large the gradient of each term of the loss is, and where it points; 0: never',
  ),
  evalEvery: integer(200, 1, 'iterations between two validations'),
  select: choice(
    'best',
    ['best', 'last'],
    'the checkpoint that counts: the best one in validation, or the last one, for which nobody has to be in validation',
  ),
  saveEvery: integer(200, 1, 'iterations between two saves of the state that --resume continues from'),
  keepCheckpoints: integer(0, 0, 'earlier checkpoints that are kept beside best and last'),
} as const;

type Settings = typeof settings;
/** The name of a setting, as a file has it. */
export type ConfigKey = keyof Settings;

/**
 * A run's settings, resolved: every key is there. What each means, its bounds and its default are in `settings` above, and in
 * `wgrad train --help`.
 */
export type Config = { [K in ConfigKey]: Settings[K] extends Setting<infer T> ? T : never };

/** The same table, for code that takes any row. */
const rows = Object.entries<Setting<unknown>>(settings);

export const flagOf = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

const shownDefault = (value: unknown): string =>
  typeof value === 'number' && !Number.isInteger(value) ? `${Number(value.toPrecision(3))}` : `${value ?? 'none'}`;

/** A short form of `patch`, in files and as a flag. */
const size = {
  setting: integer(256, 8, 'short form of --patch N,N'),
  patchOf: (side: number): number[] => [side, side],
};

/** The flags of all settings, for a command's table; a boolean setting's flag takes `true` or `false`. */
export const configFlags = Object.fromEntries(
  rows
    .flatMap(([key, row]) =>
      key === 'patch' ? [[key, row] as const, ['size', size.setting] as const] : [[key, row] as const],
    )
    .map(([key, { default: value, shown, help }]) => [
      flagOf(key),
      { type: 'string' as const, value: shown, help: `${help} (${shownDefault(value)})`, under: 'Settings (default)' },
    ]),
);

const keyOf = new Map(
  [...Object.keys(settings), 'size'].flatMap((key) => [[key, key] as const, [flagOf(key), key] as const]),
);

/** The key of a setting, or `size`, by its key or flag; throws a UsageError with the nearest known for another name. */
export function settingKey(name: string): ConfigKey | 'size' {
  const key = keyOf.get(name);
  if (key) return key as ConfigKey | 'size';
  const near = nearest(name, [...keyOf.keys()]);
  throw new UsageError(
    `config: unknown setting '${cut(name)}'. ${near ? `Did you mean '${near}'?` : 'See wgrad train --help.'}`,
  );
}

/**
 * The whole configuration: defaults, then `layers` in order (readSettings, readProtocol), then `overrides`. Keys are those of a file or
 * flags in kebab-case. Throws a UsageError for an unknown key (with the nearest known), a wrong type or range, or settings that do not
 * fit together.
 * @example
 * console.log(resolveConfig({ 'labeled-batch': 2, batch: 6 }).labeledBatch); // 2
 */
export function resolveConfig(
  overrides: Record<string, unknown> = {},
  ...layers: (Readonly<Record<string, unknown>> | undefined)[]
): Config {
  const config: Record<string, unknown> = Object.fromEntries(
    rows.map(([key, { default: value }]) => [key, Array.isArray(value) ? [...value] : value]),
  );
  const given = new Set<string>();
  for (const layer of [...layers, overrides]) {
    for (const [name, value] of Object.entries(layer ?? {})) {
      if (value === undefined) continue;
      const refuse = (expected: string): never => {
        throw new UsageError(`config: ${name} must be ${expected} — got ${cut(JSON.stringify(value))}.`);
      };
      const key = settingKey(name);
      if (key === 'size') config.patch = size.patchOf(size.setting.read(value, refuse));
      else config[key] = settings[key].read(value, refuse);
      given.add(key);
    }
  }
  if (!given.has('labeledBatch')) config.labeledBatch = Math.max(1, Math.floor((config.batch as number) / 2));
  if (!given.has('sample') && isVolume(config as Config)) config.sample = 'patches';
  if (!given.has('prototypeWarmupFraction')) config.prototypeWarmupFraction = config.warmupFraction;
  return checkTogether(config as Config);
}

const isVolume = (config: Config): boolean => config.patch.length === 3 && isWithoutSpacing(config);

/**
 * The configuration that a run or a checkpoint has stored, which may be of a version that had fewer settings.
 * @example
 * console.log(resolveSaved({ method: 'mt' }).method); // mt
 */
export const resolveSaved = (stored: Readonly<Record<string, unknown>>): Config =>
  resolveConfig({}, { sample: 'whole' }, stored);
