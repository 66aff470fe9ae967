// A trained model, from a run folder or from a checkpoint, which carries its configuration.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Gpu, GpuError, ShapeError } from '../../engine/index.js';
import type { NamedArray, Segmenter } from '../../model/index.js';
import { windowStride } from '../evaluation/evaluate.js';
import { UsageError } from '../files/usage-error.js';
import { createNetwork, networkSettings } from '../method/network.js';
import type { Flags } from '../settings/command-line.js';
import { type Config, resolveSaved } from '../settings/settings.js';
import { assign, CheckpointError, checkFinite, ownNames, readSafetensors } from './checkpoint.js';
import { runFiles } from './run-folder.js';

/** Flags of commands that take a trained model. */
export const modelFlags = {
  run: { type: 'string', value: 'RUN', needed: 'one', help: 'run folder, whose best checkpoint is used' },
  weights: { type: 'string', value: 'FILE', needed: 'one', help: 'checkpoint file' },
  model: {
    type: 'string',
    choices: ['student', 'teacher'],
    default: 'student',
    help: "the student, or the teacher in the run's last state (checkpoints hold none)",
  },
} as const satisfies Flags;

/** Flags of commands that predict: how the model's probabilities become labels. */
export const predictionFlags = {
  flips: { type: 'boolean', help: 'average the probabilities over all flips of each slice' },
  'largest-component': {
    type: 'boolean',
    help: 'keep only the largest connected component of each class (26-connected)',
  },
  stride: {
    type: 'string',
    value: 'N,N,…',
    help: "predict overlapping patches N voxels apart along each side and average their probabilities, in place of the model's own --stride; needs a model of patches or with --spacing",
  },
  'window-weights': {
    type: 'string',
    choices: ['uniform', 'gaussian'],
    help: "what a patch's places count for in that average: all the same (default), or a Gaussian with sigma an eighth of each side",
  },
} as const satisfies Flags;

/** How overlapping patches are predicted: as a command's flags say, else as the model's settings do; nothing where a sample is one patch. Throws a UsageError as strideOf does. */
export function windowsOf(
  command: string,
  flags: { stride?: string | undefined; 'window-weights'?: 'uniform' | 'gaussian' | undefined },
  config: Pick<Config, 'patch' | 'spacing'> & Partial<Pick<Config, 'sample' | 'stride'>>,
): { stride?: readonly number[]; weights?: 'uniform' | 'gaussian' } {
  const { stride: text, 'window-weights': weights } = flags;
  const stride = strideOf(command, text, config) ?? windowStride(config);
  if (!stride && weights !== undefined) {
    throw new UsageError(
      `${command}: --window-weights weighs overlapping patches, but there are none. Give --stride, too, or leave it out.`,
    );
  }
  return { ...(stride && { stride }), ...(weights === 'gaussian' && { weights }) };
}

/** The stride that `--stride` gives for a model, a number a side; throws a UsageError for one that its patches cannot have. */
export function strideOf(
  command: string,
  text: string | undefined,
  { patch, spacing, sample }: Pick<Config, 'patch' | 'spacing'> & Partial<Pick<Config, 'sample'>>,
): number[] | undefined {
  if (text === undefined) return undefined;
  if (sample !== 'patches' && spacing.every((mm) => mm === 0)) {
    throw new UsageError(
      `${command}: this model resizes whole slices to one patch of ${patch}, so there is nothing to stride over. Leave --stride out.`,
    );
  }
  const given = text.split(',').map((word) => (word.trim() ? Number(word) : Number.NaN));
  const stride = given.length === 1 ? patch.map(() => given[0]!) : given;
  const fits = (n: number, axis: number) => Number.isInteger(n) && n >= 1 && n <= patch[axis]!;
  if (stride.length !== patch.length || !stride.every(fits)) {
    throw new UsageError(
      `${command}: --stride must be 1 or ${patch.length} whole numbers from 1 to the patch's sides, ${patch} — got '${text}'. Use for instance ${patch.map((side) => Math.ceil(side / 2))}.`,
    );
  }
  return stride;
}

/** The place of a model, a run folder or a checkpoint file, and whose weights are meant. */
export interface ModelSource {
  /** Run folder. */
  run?: string;
  /** Checkpoint file. */
  weights?: string;
  /** Default: the student. */
  role?: 'student' | 'teacher';
}

/** A model's weights as its file has them: PyTorch's names and layout. */
export interface TrainedWeights {
  readonly path: string;
  readonly arrays: ReadonlyMap<string, NamedArray>;
  readonly config: Config;
}

/**
 * The student's weights from a run's best checkpoint (the last one if nothing was validated) or from a checkpoint file, or the teacher's
 * from a run's last state, the only place that holds them.
 */
export function readWeights({ run, weights, role = 'student' }: ModelSource): TrainedWeights {
  if (Boolean(run) === Boolean(weights)) throw new UsageError('model: give either --run RUN or --weights FILE.');
  if (role === 'teacher' && !run) {
    throw new UsageError('model: only a run folder holds a teacher. Give --run RUN.');
  }
  const path = weights ?? [runFiles.best, runFiles.last].map((name) => join(run!, name)).find(existsSync);
  if (!path) throw new UsageError(whyNoCheckpoint(run!));
  const { metadata, arrays: read } = readSafetensors(path);
  if (metadata.iteration === '0') {
    throw new CheckpointError(`checkpoint: ${path} is of iteration 0, before any training. Train the run first.`);
  }
  const arrays = ownNames(read);
  const config = inFile(path, () =>
    resolveSaved(metadata.config ? (JSON.parse(metadata.config) as Record<string, unknown>) : settingsOf(path, arrays)),
  );
  const found = role === 'teacher' ? { ...teacherOf(run!), config } : { path, arrays, config };
  checkFinite(found.path, found.arrays);
  return found;
}

function whyNoCheckpoint(run: string): string {
  if (!existsSync(run)) return `model: there is no folder '${run}'. Name one that wgrad train wrote.`;
  if (!existsSync(join(run, runFiles.config)))
    return `model: '${run}' is not a run folder: it has no ${runFiles.config}. Name one that wgrad train wrote.`;
  return `model: the run '${run}' has saved 0 trained iterations, so there is no model. Start wgrad train again with --out ${run}.`;
}

/** Runs `work`; its errors about a file's settings or shapes become an error that names the file. */
function inFile<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof CheckpointError || error instanceof GpuError) throw error;
    throw new CheckpointError(
      `checkpoint: ${path} holds no model that this version can build — ${(error as Error).message}`,
      { cause: error },
    );
  }
}

/** A model with these weights, on a device. A CheckpointError lists tensors that are missing, unknown or of another shape. */
export function loadModel(gpu: Gpu, from: ModelSource): { model: Segmenter; config: Config } {
  return makeModel(gpu, readWeights(from));
}

/** As loadModel, from weights that were already read. */
export function makeModel(gpu: Gpu, { path, arrays, config }: TrainedWeights): { model: Segmenter; config: Config } {
  const model = inFile(path, () => createNetwork(gpu, config));
  assign(path, arrays, model.state);
  return { model, config };
}

function teacherOf(run: string): Pick<TrainedWeights, 'path' | 'arrays'> {
  const path = join(run, runFiles.state);
  const { arrays: read, metadata } = readSafetensors(path);
  if (metadata.iteration === '0') throw new UsageError(whyNoCheckpoint(run));
  const arrays = new Map(
    [...read]
      .filter(([name]) => /^teacher\.(encoder|decoder|block_\w+|out_conv)\./.test(name)) // its projection head is no part of the model
      .map(([name, array]) => [name.slice('teacher.'.length), array]),
  );
  if (!arrays.size)
    throw new CheckpointError(`checkpoint: ${path} holds no teacher: its method trains none. Use --model student.`);
  return { path, arrays };
}

/** Settings of what other software saved, from the names and shapes of its weights; those that they do not tell are defaults. */
function settingsOf(path: string, arrays: ReadonlyMap<string, NamedArray>): Record<string, unknown> {
  try {
    return networkSettings(arrays);
  } catch (error) {
    if (!(error instanceof ShapeError)) throw error;
    throw new CheckpointError(
      `checkpoint: ${path} carries no configuration, and its tensors are not named like SSL4MIS's UNet (encoder.in_conv.conv_conv.0.weight …) or UA-MT's V-Net (block_one.conv.0.weight …).`,
    );
  }
}
