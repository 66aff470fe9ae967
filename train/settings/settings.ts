// Every setting of a training run in one flat object: its default, its flag, its line of help. Unknown keys are errors.
// The paper gives no numbers; the defaults are ours, those of the protocol SSL4MIS's (README).
import { cut } from '../files/data-error.js';
import { UsageError } from '../files/usage-error.js';

export const methods = ['lccs', 'lccs-consistency', 'lccs-separation', 'mt', 'uamt', 'supervised'] as const;
const confidences = ['student', 'teacher', 'mean', 'min'] as const;
const thresholdModes = ['fixed', 'ramp', 'percentile', 'perClass'] as const;
const selections = ['low', 'high', 'all'] as const;
const consistencies = ['mse', 'kl', 'ce'] as const;
const separations = ['pull', 'protoCE', 'distance'] as const;
const separationPixels = ['kept', 'all'] as const;
const prototypeWeightings = ['confidence', 'hard'] as const;
const teacherModes = ['train', 'eval'] as const;
const orients = ['keep', 'canonical'] as const;
const trusts = ['headers', 'voxels'] as const;
const nans = ['least', 'zero', 'refuse'] as const;
const intensities = ['minmax', 'percentile'] as const;
const precisions = ['f32', 'f16'] as const;

type Setting =
  | { kind: 'integer' | 'number'; default: number; min: number; max?: number; help: string }
  | { kind: 'choice'; default: string; choices: readonly string[]; help: string }
  | { kind: 'boolean'; default: boolean; help: string }
  | { kind: 'integerOrNone'; default: number | null; min: number; max?: number; help: string }
  | { kind: 'list'; default: readonly number[]; min: number; max?: number; whole: boolean; help: string };

const integer = (value: number, min: number, help: string): Setting => ({ kind: 'integer', default: value, min, help });
const number = (value: number, min: number, max: number, help: string): Setting => ({
  kind: 'number',
  default: value,
  min,
  max,
  help,
});
const choice = (value: string, choices: readonly string[], help: string): Setting => ({
  kind: 'choice',
  default: value,
  choices,
  help,
});
const boolean = (value: boolean, help: string): Setting => ({ kind: 'boolean', default: value, help });
const most = Number.MAX_VALUE;

/** Key → default, kind, bounds, help. The flag is the key in kebab-case. */
export const settings = {
  method: choice(
    'lccs',
    methods,
    'lccs: low-confidence consistency and class separation, or one of them; mt: mean teacher; uamt: uncertainty-aware mean teacher',
  ),
  labeled: integer(7, 1, 'training patients whose labels are used: the first N of the split'),
  iterations: integer(30000, 1, 'training iterations'),
  size: integer(256, 8, 'slices are resized to N×N pixels'),
  spacing: {
    kind: 'list',
    default: [0, 0],
    min: 0,
    whole: false,
    help: 'pixel size along x, y in mm at which slices are cut or padded to N×N instead; 0,0: resized whole',
  },
  orient: choice(
    'keep',
    orients,
    'axes as the files have them, or canonical: turned as near to RAS as whole axes come',
  ),
  fold: integer(0, 0, 'which fold of splits.json or splits_final.json, where that is a list'),
  classes: integer(4, 2, 'classes, background included'),
  ignoreLabel: {
    kind: 'integerOrNone',
    default: null,
    min: -(2 ** 31),
    help: 'label value of voxels that are neither learned from nor scored, usually 255 or -1',
  },
  trust: choice(
    'headers',
    trusts,
    'headers: a label that lies otherwise than its image is an error; voxels: they correspond all the same',
  ),
  nan: choice('least', nans, 'intensities that are NaN or infinite become the least of the others, or 0, or an error'),
  intensity: choice(
    'minmax',
    intensities,
    'a volume is scaled to 0 … 1 from its least to its greatest value, or between two percentiles and clipped',
  ),
  intensityPercentiles: {
    kind: 'list',
    default: [0.5, 99.5],
    min: 0,
    max: 100,
    whole: false,
    help: 'those two',
  },
  features: { kind: 'list', default: [16, 32, 64, 128, 256], min: 1, whole: true, help: 'UNet channels per level' },
  dropout: {
    kind: 'list',
    default: [0.05, 0.1, 0.2, 0.3, 0.5],
    min: 0,
    max: 0.95,
    whole: false,
    help: 'encoder dropout per level',
  },
  batch: integer(24, 1, 'slices in a batch'),
  labeledBatch: integer(
    12,
    1,
    'labelled slices in a batch (supervised uses only these); half of --batch where not given',
  ),
  lr: number(0.01, 0, most, 'initial learning rate of SGD'),
  momentum: number(0.9, 0, 1, 'SGD momentum'),
  weightDecay: number(1e-4, 0, most, 'SGD weight decay'),
  lrPower: number(0.9, 0, most, 'learning rate · (1 − iteration/iterations)^power'),
  seed: integer(1337, 0, 'fixes weights, batches, augmentation, dropout and noise'),
  augment: boolean(true, 'random rotations and flips'),
  confidence: choice('student', confidences, 'whose maximum class probability decides what is kept'),
  selection: choice('low', selections, 'pixels kept: confidence below the threshold, at least the threshold, or all'),
  threshold: number(0.95, 0, 1, 'pixels of confidence below it are kept (at the end of training, with a ramp)'),
  thresholdMode: choice(
    'fixed',
    thresholdModes,
    'ramp: rises from thresholdStart to threshold; percentile: a share of the batch lies below; perClass: threshold times the mean confidence of the class, relative to the largest',
  ),
  thresholdStart: number(0.75, 0, 1, 'where a ramped threshold starts'),
  thresholdPercentile: number(0.1, 0, 1, 'percentile: share of the unlabelled pixels below the threshold'),
  thresholdMomentum: number(
    0.9,
    0,
    1,
    'percentile, perClass: momentum, at most, of what the batches say; 0: each for itself',
  ),
  consistency: choice('mse', consistencies, 'distance between student and teacher on kept pixels'),
  consistencyWeight: number(0.1, 0, most, 'λ_max, the final weight of the unsupervised loss'),
  rampEvery: integer(150, 1, 'the weight ramps in steps of N iterations'),
  rampFraction: number(1, 0, 1, 'share of the iterations over which the weight ramps up'),
  warmupFraction: number(1 / 30, 0, 1, 'share of the iterations without an unsupervised loss'),
  separation: choice(
    'pull',
    separations,
    'class separation: cosine pull, cross-entropy over cosines, or over distances',
  ),
  separationWeight: number(0.1, 0, most, 'β, weight of class separation within the unsupervised loss'),
  separationPixels: choice('kept', separationPixels, 'class separation of the kept pixels, or of all'),
  temperature: number(0.1, 1e-6, most, 'T of protoCE'),
  projection: boolean(true, 'projection head before class separation'),
  projectionWidth: integer(32, 1, 'features of the projection head'),
  emaDecay: number(0.99, 0, 1, 'decay of the teacher, at most'),
  emaBuffers: boolean(false, "the teacher's running statistics follow the student's, too"),
  teacherMode: choice(
    'train',
    teacherModes,
    'train: batch statistics and dropout; eval: running statistics, no dropout',
  ),
  uncertaintyPasses: integer(8, 1, 'uamt: noisy predictions of the teacher, whose mean has the entropy'),
  prototypeMomentum: number(0.99, 0, 1, 'momentum of the prototypes, at most; 0: those of the batch'),
  prototypeWeighting: choice('confidence', prototypeWeightings, 'what a reliable pixel counts for: q, or 1'),
  prototypeUnlabeledWeight: number(1, 0, most, 'ρ, weight of reliable unlabelled pixels; 0: labelled ones only'),
  prototypeWarmupFraction: number(
    1 / 30,
    0,
    1,
    'share of the iterations in which ρ is 0; warmupFraction where not given',
  ),
  noise: number(0.1, 0, most, "standard deviation of the noise on the teacher's input"),
  noiseClip: number(0.2, 0, most, 'that noise is clipped to ± this'),
  precision: choice('f32', precisions, 'storage of activations and their gradients; sums and weights stay f32'),
  evalEvery: integer(200, 1, 'validate every N iterations; the best checkpoint is kept'),
  saveEvery: integer(200, 1, 'save the state to resume from every N iterations'),
  keepCheckpoints: integer(0, 0, 'checkpoints of earlier saves that are kept beside best and last'),
} as const satisfies Record<string, Setting>;

export type ConfigKey = keyof typeof settings;

/**
 * A run's settings, resolved: every key is there. What each means, its bounds and its default are in `settings` above, and in
 * `wgrad train --help`.
 */
export interface Config {
  method: (typeof methods)[number];
  labeled: number;
  iterations: number;
  size: number;
  spacing: number[];
  orient: (typeof orients)[number];
  fold: number;
  classes: number;
  ignoreLabel: number | null;
  trust: (typeof trusts)[number];
  nan: (typeof nans)[number];
  intensity: (typeof intensities)[number];
  intensityPercentiles: number[];
  features: number[];
  dropout: number[];
  batch: number;
  labeledBatch: number;
  lr: number;
  momentum: number;
  weightDecay: number;
  lrPower: number;
  seed: number;
  augment: boolean;
  confidence: (typeof confidences)[number];
  selection: (typeof selections)[number];
  threshold: number;
  thresholdMode: (typeof thresholdModes)[number];
  thresholdStart: number;
  thresholdPercentile: number;
  thresholdMomentum: number;
  consistency: (typeof consistencies)[number];
  consistencyWeight: number;
  rampEvery: number;
  rampFraction: number;
  warmupFraction: number;
  separation: (typeof separations)[number];
  separationWeight: number;
  separationPixels: (typeof separationPixels)[number];
  temperature: number;
  projection: boolean;
  projectionWidth: number;
  emaDecay: number;
  emaBuffers: boolean;
  teacherMode: (typeof teacherModes)[number];
  uncertaintyPasses: number;
  prototypeMomentum: number;
  prototypeWeighting: (typeof prototypeWeightings)[number];
  prototypeUnlabeledWeight: number;
  prototypeWarmupFraction: number;
  noise: number;
  noiseClip: number;
  precision: (typeof precisions)[number];
  evalEvery: number;
  saveEvery: number;
  keepCheckpoints: number;
}

/** Number of single-character edits between two words (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    }
    row = next;
  }
  return row[b.length]!;
}

/** The known name nearest to a mistyped one; undefined when none is near. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  const [best] = known
    .map((candidate) => ({ candidate, edits: editDistance(name, candidate) }))
    .sort((a, b) => a.edits - b.edits);
  return best && best.edits <= Math.max(2, name.length / 3) ? best.candidate : undefined;
}

export const flagOf = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** What stands for a setting's value in the help. */
const shownValue = (setting: Setting): string => {
  if (setting.kind === 'choice') return setting.choices.join('|');
  return { boolean: 'true|false', list: 'N,N,…', integer: 'N', number: 'N', integerOrNone: 'N|none' }[setting.kind];
};

const shownDefault = (setting: Setting): string =>
  setting.kind === 'number' ? `${Number(setting.default.toPrecision(3))}` : `${setting.default ?? 'none'}`;

/** The flags of all settings, for a command's table; a boolean setting's flag takes `true` or `false`. */
export const configFlags = Object.fromEntries(
  Object.entries(settings as Record<string, Setting>).map(([key, setting]) => [
    flagOf(key),
    {
      type: 'string' as const,
      value: shownValue(setting),
      help: `${setting.help} (${shownDefault(setting)})`,
      under: 'Settings (default)',
    },
  ]),
);

/** A setting's value from JSON or from a flag's text. */
function parse(key: string, setting: Setting, value: unknown): unknown {
  const refuse = (expected: string): never => {
    throw new UsageError(`config: ${key} must be ${expected} — got ${cut(JSON.stringify(value))}.`);
  };
  const text = typeof value === 'string' ? value.trim() : undefined;
  const bounded = (raw: unknown, whole: boolean, min: number, max = most): number => {
    const n = typeof raw === 'string' && raw.trim() !== '' ? Number(raw) : raw;
    const fine =
      typeof n === 'number' && (whole ? Number.isSafeInteger(n) : Number.isFinite(n)) && n >= min && n <= max;
    const range = max === most ? `at least ${min}` : `from ${min} to ${max}`;
    return fine ? n : refuse(`${whole ? 'a whole number' : 'a number'} ${range}`);
  };
  switch (setting.kind) {
    case 'integer':
      return bounded(value, true, setting.min, setting.max);
    case 'number':
      return bounded(value, false, setting.min, setting.max);
    case 'integerOrNone':
      return value === null || text === 'none' ? null : bounded(value, true, setting.min, setting.max);
    case 'choice':
      return setting.choices.includes(text ?? '') ? text : refuse(`one of ${setting.choices.join(', ')}`);
    case 'boolean':
      if (value === true || text === 'true') return true;
      return value === false || text === 'false' ? false : refuse('true or false');
    case 'list': {
      const items: unknown[] = Array.isArray(value)
        ? value
        : text !== undefined
          ? text.split(',')
          : typeof value === 'number'
            ? [value]
            : refuse('a list of numbers');
      if (!items.length) refuse('a list of at least one number');
      return items.map((item) => bounded(item, setting.whole, setting.min, setting.max));
    }
  }
}

const keyOf = new Map(Object.keys(settings).flatMap((key) => [[key, key] as const, [flagOf(key), key] as const]));

/** The key of a setting by its key or flag; throws a UsageError with the nearest known for another name. */
export function settingKey(name: string): ConfigKey {
  const key = keyOf.get(name);
  if (key) return key as ConfigKey;
  const near = nearestName(name, [...keyOf.keys()]);
  throw new UsageError(
    `config: unknown setting '${cut(name)}'. ${near ? `Did you mean '${near}'?` : 'wgrad train --help lists them.'}`,
  );
}

/**
 * The whole configuration: defaults, then `layers` in order (readSettings, readProtocol), then `overrides`; keys as in a file, or flags
 * in kebab-case. Throws a UsageError for an unknown key (with the nearest known), a wrong type or range, or settings that do not
 * fit.
 */
export function resolveConfig(
  overrides: Record<string, unknown> = {},
  ...layers: (Readonly<Record<string, unknown>> | undefined)[]
): Config {
  const table = settings as Record<string, Setting>;
  const config: Record<string, unknown> = Object.fromEntries(
    Object.entries(table).map(([key, { default: value }]) => [key, Array.isArray(value) ? [...value] : value]),
  );
  const given = new Set<string>();
  for (const layer of [...layers, overrides]) {
    for (const [name, value] of Object.entries(layer ?? {})) {
      if (value === undefined) continue;
      const key = settingKey(name);
      config[key] = parse(key, table[key]!, value);
      given.add(key);
    }
  }
  if (!given.has('labeledBatch')) config.labeledBatch = Math.max(1, Math.floor((config.batch as number) / 2));
  if (!given.has('prototypeWarmupFraction')) config.prototypeWarmupFraction = config.warmupFraction;
  return checkTogether(config as unknown as Config);
}

function checkTogether(config: Config): Config {
  const { size, features, batch, labeledBatch, method } = config;
  const multiple = 2 ** (features.length - 1);
  if (features.length < 2) throw new UsageError('config: features needs at least two levels, for instance 16,32.');
  if (size % multiple) {
    const near = Math.max(multiple, Math.round(size / multiple) * multiple);
    throw new UsageError(
      `config: size ${size} must be a multiple of ${multiple} for ${features.length} levels. Use ${near}.`,
    );
  }
  if (config.spacing.length !== 2 || config.spacing.some((mm) => mm > 0 !== config.spacing[0]! > 0)) {
    throw new UsageError(
      `config: spacing must be two numbers of mm, both above 0 or both 0 — got ${config.spacing.join(',')}. For instance 1.5,1.5.`,
    );
  }
  const [low, high] = config.intensityPercentiles as [number, number];
  if (config.intensityPercentiles.length !== 2 || !(low < high)) {
    throw new UsageError(
      `config: intensityPercentiles must be two rising numbers of % — got ${config.intensityPercentiles.join(',')}. For instance 0.5,99.5.`,
    );
  }
  if (config.ignoreLabel !== null && config.classes > 255) {
    throw new UsageError(
      `config: with an ignoreLabel there are at most 255 classes — got ${config.classes}. Leave one of both out.`,
    );
  }
  if (labeledBatch > batch || (method !== 'supervised' && labeledBatch === batch)) {
    throw new UsageError(
      `config: labeledBatch ${labeledBatch} leaves no unlabelled slices in a batch of ${batch}. ${method} needs at least one.`,
    );
  }
  if (config.teacherMode === 'eval' && method !== 'supervised') {
    if (method === 'uamt') {
      throw new UsageError(
        "config: teacherMode eval has no dropout, by which uamt's passes differ. Use teacherMode train.",
      );
    }
    if (!config.emaBuffers) {
      throw new UsageError(
        'config: teacherMode eval uses running statistics that nobody updates. Let them follow the student: emaBuffers true.',
      );
    }
  }
  return config;
}
