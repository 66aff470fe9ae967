// A run so small that it can be trained many times, as a process of its own, and what of it must repeat to the byte.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const command = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
const adapter = process.env.WGRAD_ADAPTER ? ['--adapter', process.env.WGRAD_ADAPTER] : [];
const settings = [
  ...['--method', 'lccs', '--size', '16', '--features', '4,8', '--dropout', '0.1', '--batch', '2', '--labeled', '1'],
  ...['--iterations', '40', '--eval-every', '10', '--save-every', '2', '--keep-checkpoints', '2'],
  ...['--warmup-fraction', '0.1'],
];

/** Node's arguments that train 40 iterations on `data`, or continue the run in `out`. */
export const argsOf = (data: string, out: string, resume: boolean): string[] => [
  ...[command, 'train', '--data', data, '--out', out, ...adapter],
  ...(resume ? ['--resume'] : settings),
];

/** Trains to the end, or continues. */
export const trainIn = (data: string, out: string, resume: boolean) =>
  spawnSync(process.execPath, argsOf(data, out, resume), { encoding: 'utf8' });

/** What must be equal: weights, state, log, scores; neither times nor pictures of them. */
export const compared = [
  ...['checkpoint-last.safetensors', 'checkpoint-best.safetensors', join('state', 'last.safetensors'), 'log.jsonl'],
  ...['summary.json', 'checkpoint-000038.safetensors', 'checkpoint-000040.safetensors', 'config.json'],
];
