// The loader's other thread: reads every slice once, then makes one batch for each 'more' it is sent, `ahead` at first.
import { parentPort, workerData } from 'node:worker_threads';
import { applyTransform, drawTransform } from './augment.js';
import { DataError } from './data-error.js';
import { type Case, openDataset, splitDataset } from './datasets.js';
import type { Batch, LoaderMessage, LoaderOptions } from './loader.js';
import { createSampler } from './sampler.js';
import { loadCase, type Slice, slicesOf } from './slices.js';

const options = workerData as LoaderOptions;
const { size, batch, labeledBatch, seed, augment = true, ahead = 4, classes = 4 } = options;
const port = parentPort!;
const send = (message: LoaderMessage, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);

function prepare(): (iteration: number) => Batch {
  const start = performance.now();
  if (!(Number.isInteger(batch) && Number.isInteger(labeledBatch) && labeledBatch >= 1 && labeledBatch <= batch)) {
    throw new DataError(
      `loader: a batch needs 1 or more labelled slices and no more than its size — got ${labeledBatch} of ${batch}.`,
    );
  }
  if (!Number.isInteger(size) || size < 1)
    throw new DataError(`loader: the size must be 1 or more pixels — got ${size}.`);
  const unlabeledBatch = batch - labeledBatch;
  const split = splitDataset(openDataset(options.dir, { splitSeed: options.splitSeed }), { labeled: options.labeled });
  const read = (cases: readonly Case[]) => cases.flatMap((c) => slicesOf(loadCase(c, { classes }), size));
  const labeled = read(split.labeled);
  const unlabeled = unlabeledBatch > 0 ? read(split.unlabeled) : [];
  if (unlabeledBatch > 0 && unlabeled.length === 0) {
    throw new DataError(
      `loader: all ${options.labeled} training patients are labelled, so there is nothing unlabelled to learn from. ` +
        'Label fewer patients, or train with the method "supervised".',
    );
  }
  const sample = createSampler({
    seed,
    labeledSlices: labeled.length,
    unlabeledSlices: unlabeled.length,
    labeledBatch,
    unlabeledBatch,
  });
  const readMs = performance.now() - start;
  send({ kind: 'ready', info: { labeledSlices: labeled.length, unlabeledSlices: unlabeled.length, readMs } });
  return (iteration) => {
    const drawn = sample(iteration);
    const slices = [...drawn.labeled.map((i) => labeled[i]!), ...drawn.unlabeled.map((i) => unlabeled[i]!)];
    return makeBatch(iteration, slices);
  };
}

function makeBatch(iteration: number, slices: readonly Slice[]): Batch {
  const pixels = size * size;
  const image = new Float32Array(batch * pixels);
  const label = new Uint8Array(batch * pixels);
  for (const [index, slice] of slices.entries()) {
    const transform = augment ? drawTransform(seed, iteration, index) : ({ kind: 'identity' } as const);
    image.set(applyTransform(slice.image, size, transform), index * pixels);
    if (slice.label) label.set(applyTransform(slice.label, size, transform), index * pixels);
  }
  return {
    iteration,
    image,
    label,
    hasLabel: slices.map((slice) => slice.label !== undefined),
    cases: slices.map((slice) => `${slice.id} z=${slice.z}`),
  };
}

try {
  const make = prepare();
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
