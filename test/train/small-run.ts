// A run so small that it can be trained many times, in this process or in one of its own, and what of it must repeat to the byte.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Config, resolveConfig } from '../../train/settings/settings.js';

const command = fileURLToPath(new URL('../../train/cli.js', import.meta.url));
const adapter = process.env.WGRAD_ADAPTER ? ['--adapter', process.env.WGRAD_ADAPTER] : [];
const settings = {
  ...{ method: 'supervised', size: 16, features: [4, 8], dropout: [0.1], batch: 2, labeled: 1, warmupFraction: 0.1 },
  ...{ iterations: 2, evalEvery: 2, saveEvery: 1, keepCheckpoints: 1 },
};

/** Its configuration. */
export const configOf = (more: Record<string, unknown> = {}): Config => resolveConfig({ ...settings, ...more });

/** Node's arguments that train it on `data`, or continue the run in `out`. */
export const argsOf = (data: string, out: string, more: Record<string, unknown> | 'resume'): string[] => [
  ...[command, 'train', '--data', data, '--out', out, ...adapter],
  ...(more === 'resume'
    ? ['--resume']
    : Object.entries({ ...settings, ...more }).flatMap(([key, value]) => [
        `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
        String(value),
      ])),
];

/** What must be equal: weights, state, log, scores, settings; neither times nor pictures of them. */
export const compared = (iterations: number): string[] => [
  ...['checkpoint-last.safetensors', 'checkpoint-best.safetensors', join('state', 'last.safetensors'), 'log.jsonl'],
  ...['summary.json', `checkpoint-${String(iterations).padStart(6, '0')}.safetensors`, 'config.json'],
];
