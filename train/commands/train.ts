// wgrad train: one run, from a data folder to a run folder.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openDevice } from '../../engine/node.js';
import { readCommandLine } from '../command-line.js';
import { type Config, configFlags, configHelp, resolveConfig, UsageError } from '../config.js';
import { cardiacClasses } from '../data/datasets.js';
import { interruptible } from '../interrupt.js';
import { clock } from '../progress.js';
import { protocolFile, protocolNames } from '../protocol.js';
import { runFiles } from '../run-folder.js';
import { dryRun, train } from '../training.js';

export const help = `
usage: wgrad train --data DIR --out RUN [settings]

Trains a segmenter on DIR and writes everything about it to the new folder RUN.

  --data DIR          data set in any layout that wgrad inspect knows, with or without splits.json
  --out RUN           run folder: new or empty
  --config FILE       settings as JSON, keys as in RUN/config.json; flags go before it
  --protocol NAME     settings of a published protocol (${protocolNames().join(', ')}); --config and flags go before it
  --resume            continue RUN where its state ends, with RUN's own settings, to the same bits as if it had never stopped
  --init-weights FILE weights to start from: safetensors with PyTorch's names (SSL4MIS's UNet), heads may be absent
  --dry-run           train and write nothing; print parameters, launches and bytes as JSON
  --adapter NAME      GPU or driver to use: swiftshader, lavapipe, or a part of a GPU's name
  --json              print the result as one JSON document

Settings (default):
${configHelp()}`;

/** Runs `wgrad train`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = readCommandLine('train', args, {
    data: { type: 'string' },
    out: { type: 'string' },
    config: { type: 'string' },
    protocol: { type: 'string' },
    resume: { type: 'boolean' },
    'init-weights': { type: 'string' },
    'dry-run': { type: 'boolean' },
    adapter: { type: 'string' },
    json: { type: 'boolean' },
    ...configFlags,
  } as const);
  const {
    data,
    out,
    config: file,
    protocol,
    resume = false,
    'init-weights': initWeights,
    'dry-run': dry = false,
    adapter,
    json = false,
    ...settings
  } = flags;
  if (!dry && (!data || !out)) throw new UsageError('train: --data and --out are needed. See wgrad train --help.');
  const own = out && join(out, runFiles.config);
  const ownOrNone = resume && own && existsSync(own) ? own : undefined;
  const config: Config = resolveConfig(settings, protocol && protocolFile(protocol), file ?? ownOrNone);
  if (ownOrNone) refuseChanges(resolveConfig({}, ownOrNone), config);

  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    if (dry) {
      console.log(JSON.stringify(dryRun(gpu, config), null, 2));
      return 0;
    }
    const { stop, done } = interruptible();
    const result = await train({ gpu, config, data: data!, out: out!, resume, initWeights, stop }).finally(done);
    if (json) {
      console.log(JSON.stringify(result, null, 2));
    } else {
      const { best, iterations, seconds, waitMs } = result;
      const waited = `waited ${((0.1 * waitMs) / seconds).toFixed(1)} % of the time for data`;
      console.log(`${config.method}: ${iterations} iterations in ${clock(seconds)}, ${waited}, run folder ${out}`);
      if (best) {
        const byClass = Object.entries(best.scores.mean).map(
          ([k, { Dice }]) => `${cardiacClasses[Number(k)] ?? k} ${Dice?.toFixed(4) ?? '–'}`,
        );
        console.log(
          `best validation Dice ${best.scores.foreground_mean.Dice?.toFixed(4)} at ${best.iteration} (${byClass.join(', ')})`,
        );
      }
      if (result.interrupted)
        console.log(`interrupted and saved; continue with: wgrad train --data ${data} --out ${out} --resume`);
    }
    return result.interrupted ? 130 : 0;
  } finally {
    gpu.close();
  }
}

/** Settings that a resumed run may change: they do not touch what it computes. */
const harmless = new Set(['saveEvery', 'keepCheckpoints']);

function refuseChanges(own: Config, asked: Config): void {
  const changed = Object.entries(own).filter(([key, value]) => {
    const now = (asked as unknown as Record<string, unknown>)[key];
    return !harmless.has(key) && JSON.stringify(now) !== JSON.stringify(value);
  });
  if (!changed.length) return;
  const said = changed.map(
    ([key, value]) => `${key} was ${value} and is ${(asked as unknown as Record<string, unknown>)[key]}`,
  );
  throw new UsageError(
    `train: --resume goes on with the run's own settings, but ${said.join(', ')}. Leave them out, or start a new run with --init-weights.`,
  );
}
