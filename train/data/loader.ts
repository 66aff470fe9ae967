// Batches for training, made in a worker thread: samples are read and checked once, then each batch is drawn, augmented
// and transferred a few iterations ahead, so the GPU never waits for them. What a batch holds depends on (seed,
// iteration) alone, so `startIteration` is all that a resumed run needs.
import { Worker } from 'node:worker_threads';
import { DataError } from '../files/data-error.js';
import type { Reading } from './case-volume.js';
import type { SplitOptions } from './datasets.js';

/** What is loaded, how it is read, and what batches are made of it. */
export interface LoaderOptions extends Reading, SplitOptions {
  /** Data folder (openDataset). */
  readonly dir: string;
  /** Training patients with labels. */
  readonly labeled: number;
  /** Sides of a sample, as in the configuration: [height, width] or [depth, height, width]. */
  readonly patch: readonly number[];
  /** Of the grid, as in the configuration; default: samples are resized whole. */
  readonly spacing?: readonly number[];
  /** Of the grid, as in the configuration; default 'whole'. */
  readonly sample?: 'whole' | 'patches';
  /** Of the grid, as in the configuration; default 1. */
  readonly downsample?: number;
  /** As in the configuration: with 'last' the split may have no validation patients. */
  readonly select?: 'best' | 'last';
  /** Samples in a batch: `labeledBatch` labelled ones first, the rest unlabelled. Equal numbers: supervised training. */
  readonly batch: number;
  readonly labeledBatch: number;
  /** Of the order and the augmentation. The split has a seed of its own: another run must not move test patients. */
  readonly seed: number;
  /** Default true. */
  readonly augment?: boolean;
  /** The first batch; default 0. */
  readonly startIteration?: number;
  /** Batches made ahead; default 4. */
  readonly ahead?: number;
}

export interface Batch {
  readonly iteration: number;
  /** [batch, …patch, 1], as `intensity` scales it. */
  readonly image: Float32Array<ArrayBuffer>;
  /** [batch, …patch], 255 where a voxel is to be ignored; also of unlabelled items where the ground truth is known: for the log only. */
  readonly label: Uint8Array<ArrayBuffer>;
  /** Per item, whether `label` is known. */
  readonly hasLabel: boolean[];
  /** Per item, case and slice (patient001_frame01 z=4). */
  readonly cases: string[];
}

/** What the worker read. */
export interface LoaderInfo {
  readonly labeledSamples: number;
  readonly unlabeledSamples: number;
  /** Time to read and check all files. */
  readonly readMs: number;
  /** What a user should be told of them, a line each. */
  readonly warnings: readonly string[];
}

export interface Loader {
  /** The next iteration's batch; rejects with DataError (or what the worker died of), also on every later call. */
  next(): Promise<Batch>;
  /** Resolves when all files are read and checked. */
  ready(): Promise<LoaderInfo>;
  /** Stops the worker; pending calls reject. */
  close(): Promise<void>;
  /** Time that `next` waited for the worker, after the first batch. */
  readonly stats: { readonly waitMs: number; readonly batches: number };
}

/** What the worker sends. */
export type LoaderMessage =
  | { readonly kind: 'ready'; readonly info: LoaderInfo }
  | { readonly kind: 'batch'; readonly batch: Batch }
  | { readonly kind: 'error'; readonly message: string; readonly isDataError: boolean };

interface Waiting {
  resolve(value: never): void;
  reject(error: Error): void;
}

/** Starts the worker; errors of the data arrive at `next` and `ready`. An unclosed loader does not keep a process alive. */
export function createLoader(options: LoaderOptions): Loader {
  const worker = new Worker(new URL('./loader-worker.js', import.meta.url), {
    workerData: options,
    execArgv: [], // flags such as --eval are not for the worker
  });
  worker.unref();
  const made: Batch[] = [];
  const waiting: Waiting[] = []; // calls of next
  const waitingReady: Waiting[] = [];
  const stats = { waitMs: 0, batches: 0 };
  let info: LoaderInfo | undefined;
  let failure: Error | undefined;

  // While somebody waits, for a batch or for the end, the worker keeps the process alive; otherwise it must not.
  let isClosing = false;
  const hold = () => {
    if (isClosing || waiting.length + waitingReady.length > 0) worker.ref();
    else worker.unref();
  };
  const fail = (error: Error) => {
    failure ??= error;
    for (const call of [...waiting.splice(0), ...waitingReady.splice(0)]) call.reject(failure);
    hold();
  };
  worker.on('message', (message: LoaderMessage) => {
    if (isClosing) return; // what was under way when it was closed
    if (message.kind === 'error')
      fail(message.isDataError ? new DataError(message.message) : new Error(message.message));
    else if (message.kind === 'ready') {
      info = message.info;
      for (const call of waitingReady.splice(0)) call.resolve(info as never);
    } else {
      const call = waiting.shift();
      if (call) call.resolve(message.batch as never);
      else made.push(message.batch);
    }
    hold();
  });
  worker.on('error', (error) => fail(new Error(`loader: the worker failed — ${error.message}`, { cause: error })));
  worker.on('exit', (code) => fail(new Error(`loader: the worker ended with code ${code}.`)));

  const wait = <T>(queue: Waiting[]): Promise<T> =>
    new Promise<T>((resolve, reject) => {
      queue.push({ resolve, reject });
      hold();
    });
  return {
    stats,
    async next() {
      let batch = made.shift();
      if (!batch) {
        if (failure) throw failure;
        const start = performance.now();
        batch = await wait<Batch>(waiting);
        if (stats.batches > 0) stats.waitMs += performance.now() - start;
      }
      stats.batches++;
      worker.postMessage('more');
      return batch;
    },
    async ready() {
      if (info) return info;
      if (failure) throw failure;
      return wait<LoaderInfo>(waitingReady);
    },
    async close() {
      isClosing = true;
      fail(new Error('loader: closed.'));
      made.length = 0;
      await worker.terminate();
    },
  };
}
