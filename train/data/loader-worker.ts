// The loader's other thread: reads every sample once, at its own size, then makes one batch for each 'more' it is sent, `ahead` at first.
import { parentPort, workerData } from 'node:worker_threads';
import { DataError, some } from '../files/data-error.js';
import { amongVolumes, type NamedFacts } from './among-volumes.js';
import { drawPatch, drawTransform } from './augment.js';
import { loadCase } from './case-volume.js';
import { type Case, openDataset, splitDataset } from './datasets.js';
import { placeOf } from './inspect-volume.js';
import { ignored } from './labels.js';
import type { Batch, LoaderMessage, LoaderOptions } from './loader.js';
import { createNotices } from './notices.js';
import { cutPatch, type StoredSample, storedSample } from './patches.js';
import { createSampler } from './sampler.js';
import { type NativeSample, nameOf, nativeSamples, sampleOnGrid, shapeOf, voxelsOf } from './samples.js';

const options = workerData as LoaderOptions;
const { batch, labeledBatch, seed, augment = true, ahead = 4, classes = 4 } = options;
/** A sample as it is kept. */
type Kept = NativeSample | StoredSample;
const isCut = options.sample === 'patches';
const port = parentPort!;
const send = (message: LoaderMessage, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

async function prepare(): Promise<(iteration: number) => Batch> {
  const start = performance.now();
  if (!(Number.isInteger(batch) && Number.isInteger(labeledBatch) && labeledBatch >= 1 && labeledBatch <= batch)) {
    throw new DataError(
      `loader: a batch needs 1 or more labelled slices and no more than its size — got ${labeledBatch} of ${batch}.`,
    );
  }
  if (!options.patch.every((side) => Number.isInteger(side) && side >= 1))
    throw new DataError(`loader: the sides of a patch must be 1 or more voxels — got ${options.patch}.`);
  const unlabeledBatch = batch - labeledBatch;
  const split = splitDataset(await openDataset(options.dir, options), options);
  const facts: NamedFacts[] = [];
  const warnings: string[] = [];
  const notices = createNotices('train', (line) => warnings.push(line));
  let spacing: readonly number[] | undefined;
  /** The size of a patch, at the first volume's voxels. */
  const patchInMm = (isKnown: boolean): string => {
    const sides = shapeOf(options);
    const mm = sides.map((side, axis) => Math.round(side * (options.downsample ?? 1) * spacing![2 - axis]!));
    return `train: patches of ${sides.join('×')} voxels (z×y×x)${isKnown ? `, ${mm.join('×')} mm` : ''}`;
  };
  const readCase = (c: Case): Kept[] => {
    const loaded = loadCase(c, options);
    spacing ??= loaded.spacing;
    notices.add(loaded.notes);
    facts.push({ id: c.id, ...placeOf(loaded.volume) });
    const samples = nativeSamples(loaded, options);
    return samples.map((sample): Kept => (isCut ? storedSample(sample) : sample));
  };
  const read = (cases: readonly Case[]): Kept[] =>
    cases.flatMap((c) => {
      try {
        return readCase(c);
      } catch (error) {
        if (!(error instanceof RangeError && /allocation failed/.test(error.message))) throw error;
        throw new DataError(
          `loader: ${c.image} does not fit into memory beside the ${facts.length} volumes before it — ${error.message}. Use --downsample 2, fewer patients, or a machine with more memory.`,
        );
      }
    });
  const labeled = read(split.labeled);
  checkLabels(labeled);
  const unlabeled = unlabeledBatch > 0 ? read(split.unlabeled) : [];
  if (unlabeledBatch > 0 && unlabeled.length === 0) {
    throw new DataError(
      `loader: all ${options.labeled} training patients are labelled, so there is nothing unlabelled to learn from. ` +
        'Label fewer patients, or train with the method "supervised".',
    );
  }
  const draw = createSampler({
    seed,
    labeledSamples: labeled.length,
    unlabeledSamples: unlabeled.length,
    labeledBatch,
    unlabeledBatch,
  });
  notices.end();
  const hasSpacing = ![...split.labeled, ...split.unlabeled].some((c) => c.hdf5);
  warnings.push(...amongVolumes(facts, { ...options, hasSpacing }).map((line) => `train: ${line}`));
  if (isCut) warnings.push(patchInMm(hasSpacing), ...smallerThanPatch([...labeled, ...unlabeled]));
  const readMs = performance.now() - start;
  send({
    kind: 'ready',
    info: { labeledSamples: labeled.length, unlabeledSamples: unlabeled.length, readMs, warnings },
  });
  return (iteration) => {
    const drawn = draw(iteration);
    const samples = [...drawn.labeled.map((i) => labeled[i]!), ...drawn.unlabeled.map((i) => unlabeled[i]!)];
    return makeBatch(iteration, samples);
  };
}

/** A warning about samples that the patch does not fit into as they lie, by case. */
function smallerThanPatch(samples: readonly Kept[]): string[] {
  const patch = shapeOf(options);
  const sizes = new Map(samples.map(({ id, shape }) => [id, shape]));
  const small = [...sizes].filter(([, shape]) => shape.some((side, axis) => side < patch[axis]!));
  if (!small.length) return [];
  const named = small.map(([id, shape]) => `${id} ${shape.join('×')}`);
  return [
    `train: ${small.length} of ${sizes.size} volumes ${small.length === 1 ? 'is' : 'are'} smaller than the patch ${patch.join('×')} (z×y×x), and padded with 0: ${some(named)}`,
  ];
}

/** What only the files say: labelled slices have labels, and these reach the highest class. */
function checkLabels(samples: readonly Kept[]): void {
  const bare = samples.find((sample) => !sample.label);
  if (bare)
    throw new DataError(`loader: ${bare.id} belongs to the labelled training patients but has no label file. Add it.`);
  const most = samples.reduce(
    (highest, { label }) =>
      label!.reduce((a, b) => (b === ignored && classes <= ignored ? a : Math.max(a, b)), highest),
    0,
  );
  if (most < classes - 1) {
    throw new DataError(
      `loader: the labels of the ${options.labeled} labelled patients are 0 to ${most}, of ${classes} classes. ` +
        (most > 0
          ? `Use --classes ${most + 1}, or label more patients.`
          : 'There is nothing to learn: check the labels.'),
    );
  }
}

function makeBatch(iteration: number, samples: readonly Kept[]): Batch {
  const voxels = voxelsOf(options);
  const image = new Float32Array(batch * voxels);
  const label = new Uint8Array(batch * voxels);
  for (const [index, sample] of samples.entries()) {
    const range = [index * voxels, (index + 1) * voxels] as const;
    if (isCut) {
      const draw = drawPatch(seed, iteration, index, augment);
      cutPatch(sample as StoredSample, shapeOf(options), draw, image.subarray(...range), label.subarray(...range));
      continue;
    }
    const transform = augment ? drawTransform(seed, iteration, index) : ({ kind: 'identity' } as const);
    const drawn = sampleOnGrid(sample as NativeSample, options, transform);
    image.set(drawn.image, range[0]);
    if (drawn.label) label.set(drawn.label, range[0]);
  }
  return {
    iteration,
    image,
    label,
    hasLabel: samples.map((sample) => sample.label !== undefined),
    cases: samples.map((sample) => nameOf(sample, options)),
  };
}

try {
  const make = await prepare();
  let iteration = options.startIteration ?? 0;
  const sendNext = () => {
    const next = make(iteration++);
    send({ kind: 'batch', batch: next }, [next.image.buffer, next.label.buffer]);
  };
  port.on('message', sendNext);
  for (let i = 0; i < ahead; i++) sendNext();
} catch (error) {
  const isDataError = error instanceof DataError;
  send({ kind: 'error', message: isDataError ? error.message : `loader: ${(error as Error).stack}`, isDataError });
}
