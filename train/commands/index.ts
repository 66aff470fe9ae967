// Every command of `wgrad`: its name, a line about it, and its file, which is loaded when it is called.
import type { Described } from '../settings/command-line.js';

/** What a command's file exports. `run` resolves with the exit code; usage errors and failures are thrown. */
export interface Command {
  /** Its table, of which its help and its reader are made; for a command with parts only the help of all. */
  readonly command: Pick<Described, 'help'>;
  /** The tables of its parts, by what names them. */
  readonly parts?: Readonly<Record<string, Pick<Described, 'help'>>>;
  run(args: string[]): Promise<number>;
}

export const commands: Readonly<Record<string, { readonly about: string; load(): Promise<Command> }>> = {
  info: { about: 'the GPU, its driver, features and limits', load: () => import('./info.js') },
  phantom: { about: 'write an ACDC-like data set with ground truth', load: () => import('./phantom.js') },
  train: { about: 'train a segmenter', load: () => import('./train.js') },
  evaluate: { about: 'score a trained model on a data set', load: () => import('./evaluate.js') },
  predict: { about: 'segment volumes', load: () => import('./predict.js') },
  export: { about: 'a trained model as ONNX', load: () => import('./export.js') },
  inspect: { about: 'look at a data set or a file, and at what is suspicious', load: () => import('./inspect.js') },
  report: { about: 'runs as one HTML page: curves, slices, scores', load: () => import('./report.js') },
  sweep: { about: 'many trainings from one file, compared', load: () => import('./sweep.js') },
  bench: { about: 'measure kernels and the training step', load: () => import('./bench.js') },
  demo: { about: 'phantom data, two methods compared, a picture (npm start)', load: () => import('./demo.js') },
};
