// Which settings fit together: what one of them needs of another, each with what to do.
import { UsageError } from '../files/usage-error.js';

/** The settings that need each other. */
interface Together {
  readonly method: string;
  readonly patch: readonly number[];
  readonly sample: 'whole' | 'patches';
  readonly downsample: number;
  readonly stride: readonly number[];
  readonly spacing: readonly number[];
  readonly intensityPercentiles: readonly number[];
  readonly classes: number;
  readonly ignoreLabel: number | null;
  readonly features: readonly number[];
  readonly batch: number;
  readonly labeledBatch: number;
  readonly strong: string;
  readonly teacherMode: string;
  readonly emaBuffers: boolean;
}

/** Whether samples keep their own pixels, or are resized, whatever their size in mm. */
export const isWithoutSpacing = ({ spacing }: Pick<Together, 'spacing'>): boolean => spacing.every((mm) => mm === 0);

/** What patches need, and what only they can have. */
function checkPatches(config: Together): void {
  const { patch, stride, downsample, sample } = config;
  if (sample === 'patches' && !isWithoutSpacing(config)) {
    throw new UsageError(
      `config: sample patches keeps the voxels as they are — got spacing ${config.spacing}. Use sample whole, or leave spacing out.`,
    );
  }
  if (sample === 'whole' && (downsample !== 1 || stride.some((n) => n > 0))) {
    throw new UsageError(
      `config: downsample and stride are of sample patches — got downsample ${downsample}, stride ${stride} and sample whole. Use sample patches, or leave them out.`,
    );
  }
  const isZero = stride.every((n) => n === 0);
  if (!isZero && (stride.length !== patch.length || stride.some((n, axis) => n < 1 || n > patch[axis]!))) {
    throw new UsageError(
      `config: stride must be ${patch.length} whole numbers from 1 to the patch's sides, ${patch}, or 0 — got ${stride}. Use for instance ${patch.map((side) => Math.ceil(side / 2))}.`,
    );
  }
}

/** The configuration, if its settings fit together; throws a UsageError for those that do not. */
export function checkTogether<C extends Together>(config: C): C {
  const { patch, features, batch, labeledBatch, method } = config;
  const multiple = 2 ** (features.length - 1);
  if (features.length < 2) {
    throw new UsageError(`config: features must have at least two levels — got ${features}. Use for instance 16,32.`);
  }
  if (patch.length !== 2 && patch.length !== 3) {
    throw new UsageError(
      `config: patch must have two sides (height,width) or three (depth,height,width) — got ${patch}. Use for instance 256,256.`,
    );
  }
  if (patch.some((side) => side % multiple)) {
    const near = patch.map((side) => Math.max(multiple, Math.round(side / multiple) * multiple));
    throw new UsageError(
      `config: the sides of patch must be multiples of ${multiple} for ${features.length} levels — got ${patch}. Use ${near}.`,
    );
  }
  const { spacing, intensityPercentiles: percentiles } = config;
  checkPatches(config);
  if (!isWithoutSpacing(config) && (spacing.length !== patch.length || spacing.includes(0))) {
    const example = patch.map(() => 1.5);
    throw new UsageError(
      `config: spacing must be ${patch.length} numbers of mm above 0, or zeros — got ${spacing}. Use for instance ${example}.`,
    );
  }
  if (percentiles.length !== 2 || !(percentiles[0]! < percentiles[1]!)) {
    throw new UsageError(
      `config: intensityPercentiles must be two rising percentages — got ${percentiles}. Use for instance 0.5,99.5.`,
    );
  }
  if ((config.ignoreLabel !== null || method === 'bcp') && config.classes > 255) {
    const what = method === 'bcp' ? 'method bcp' : 'an ignoreLabel';
    throw new UsageError(
      `config: with ${what}, classes must be at most 255 — got ${config.classes}. Leave one of the two out.`,
    );
  }
  if (labeledBatch > batch) {
    throw new UsageError(
      `config: labeledBatch must be at most batch, ${batch} — got ${labeledBatch}. Make it smaller.`,
    );
  }
  if (labeledBatch === batch && method !== 'supervised') {
    throw new UsageError(
      `config: labeledBatch ${labeledBatch} leaves no unlabelled slices in a batch of ${batch}, but ${method} needs at least one. Make it smaller.`,
    );
  }
  if (config.strong === 'unlabeled' && method === 'supervised') {
    throw new UsageError(
      'config: strong unlabeled changes nothing for supervised, which sees labelled items only. Use strong both, or none.',
    );
  }
  if (config.teacherMode === 'eval' && method === 'uamt') {
    throw new UsageError(
      "config: teacherMode eval has no dropout, but uamt's passes differ by their dropout. Use teacherMode train.",
    );
  }
  if (config.teacherMode === 'eval' && method !== 'supervised' && !config.emaBuffers) {
    throw new UsageError(
      'config: teacherMode eval uses running statistics, which emaBuffers false never updates. Use emaBuffers true.',
    );
  }
  return config;
}
