// Every command of `wgrad`: its name, a line about it, and its file, which loads when the command is called.
import type { Described } from '../settings/command-line.js';

/** What a command's file exports. `run` resolves with the exit code; usage errors and failures are thrown. */
export interface Command {
  /** Its table, which gives its help and its reader; a command with parts has only the help of all. */
  readonly command: Pick<Described, 'help'>;
  /** The tables of its parts, by name. */
  readonly parts?: Readonly<Record<string, Pick<Described, 'help'>>>;
  run(args: string[]): Promise<number>;
}

export const commands: Readonly<Record<string, { readonly about: string; load(): Promise<Command> }>> = {
  info: { about: 'show the GPU, its driver, features and limits', load: () => import('./info.js') },
  driver: { about: 'get SwiftShader, a driver for machines without a GPU', load: () => import('./driver.js') },
  phantom: { about: 'write a synthetic ACDC-like data set with ground truth', load: () => import('./phantom.js') },
  train: { about: 'train a segmenter', load: () => import('./train.js') },
  evaluate: { about: 'score a trained model on a data set', load: () => import('./evaluate.js') },
  predict: { about: 'segment volumes', load: () => import('./predict.js') },
  export: { about: 'write a trained model as ONNX', load: () => import('./export.js') },
  inspect: {
    about: 'check a data set or a file, and report what looks suspicious',
    load: () => import('./inspect.js'),
  },
  report: { about: 'show runs on one HTML page: curves, slices, scores', load: () => import('./report.js') },
  sweep: { about: 'run many trainings from one file and compare them', load: () => import('./sweep.js') },
  bench: { about: 'measure kernels and the training step', load: () => import('./bench.js') },
  demo: { about: 'train two methods on phantom data and compare them (npm start)', load: () => import('./demo.js') },
};
