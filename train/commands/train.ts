// wgrad train: one run, from a data folder to a run folder.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { verifyDevice } from '../../engine/debug.js';
import { openDevice } from '../../engine/node.js';
import { namesOfClasses } from '../data/class-names.js';
import { UsageError } from '../files/usage-error.js';
import { runFiles } from '../run/run-folder.js';
import { describeCommand } from '../settings/command-line.js';
import { protocolFlag, readProtocol, readSettings } from '../settings/config-file.js';
import { type Config, configFlags, resolveConfig, resolveSaved } from '../settings/settings.js';
import { interruptible } from '../training/interrupt.js';
import { clock } from '../training/progress.js';
import { dryRun, train } from '../training/training.js';

export const command = describeCommand({
  name: 'train',
  about: 'Trains a segmenter on the data set DIR and writes everything about the run to the new folder RUN.',
  flags: {
    data: {
      type: 'string',
      value: 'DIR',
      help: 'data set in any layout that wgrad inspect knows, with or without splits.json (required unless --dry-run)',
    },
    out: { type: 'string', value: 'RUN', help: 'run folder, new or empty (required unless --dry-run)' },
    config: {
      type: 'string',
      value: 'FILE',
      help: 'JSON file of settings, with keys as in RUN/config.json; flags override it',
    },
    protocol: protocolFlag,
    resume: {
      type: 'boolean',
      help: 'continue RUN from its last save with its own settings; the result is bit-identical to an uninterrupted run',
    },
    'changed-data': {
      type: 'boolean',
      help: 'let --resume continue although files in DIR have changed; the result is then not bit-identical',
    },
    'init-weights': {
      type: 'string',
      value: 'FILE',
      help: "weights to start from: safetensors with PyTorch's names (SSL4MIS's UNet); projection heads are optional",
    },
    'dry-run': { type: 'boolean', help: 'train and write nothing; print parameters, launches and bytes as JSON' },
    adapter: {
      type: 'string',
      value: 'NAME',
      help: "GPU or driver to use: swiftshader, lavapipe, or part of a GPU's name",
    },
    json: { type: 'boolean', help: 'print the result as one JSON document' },
    ...configFlags,
  },
});

/** Runs `wgrad train`. */
export async function run(args: string[]): Promise<number> {
  const { flags } = command.read(args);
  const {
    data,
    out,
    config: file,
    protocol,
    resume,
    'changed-data': changedData,
    'init-weights': initWeights,
    'dry-run': dry,
    adapter,
    json,
    ...settings
  } = flags;
  if (!dry && (!data || !out)) throw new UsageError('train: --data and --out are required. See wgrad train --help.');
  const own = out && join(out, runFiles.config);
  const ownOrNone = resume && own && existsSync(own) ? own : undefined;
  const saved = ownOrNone ? resolveSaved(readSettings(ownOrNone)) : undefined;
  const config = resolveConfig(settings, protocol ? readProtocol(protocol) : {}, file ? readSettings(file) : saved);
  if (saved) refuseChanges(saved, config);

  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    if (dry) {
      console.log(JSON.stringify(dryRun(gpu, config), null, 2));
      return 0;
    }
    await verifyDevice(gpu);
    const { stop, done } = interruptible();
    const result = await train({ gpu, config, data: data!, out: out!, resume, changedData, initWeights, stop }).finally(
      done,
    );
    if (json) {
      console.log(JSON.stringify(result, null, 2));
    } else {
      const { best, iterations, seconds, waitMs } = result;
      const waited = `waited ${((0.1 * waitMs) / seconds).toFixed(1)} % of the time for data`;
      console.log(`${config.method}: ${iterations} iterations in ${clock(seconds)}, ${waited}, run folder ${out}`);
      if (best) {
        const names = namesOfClasses(config.classes);
        const byClass = Object.entries(best.scores.mean).map(
          ([k, { Dice }]) => `${names[Number(k)]} ${Dice?.toFixed(4) ?? '–'}`,
        );
        console.log(
          `${config.select} validation Dice ${best.scores.foreground_mean.Dice?.toFixed(4)} at ${best.iteration} (${byClass.join(', ')})`,
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

/** Settings that a resumed run may change, because they do not affect what it computes. */
const harmless = new Set(['saveEvery', 'keepCheckpoints']);

function refuseChanges(own: Config, asked: Config): void {
  const changed = Object.entries(own).filter(([key, value]) => {
    const now = (asked as unknown as Record<string, unknown>)[key];
    return !harmless.has(key) && JSON.stringify(now) !== JSON.stringify(value);
  });
  if (!changed.length) return;
  const said = changed.map(
    ([key, value]) => `${key} was ${value} and is now ${(asked as unknown as Record<string, unknown>)[key]}`,
  );
  throw new UsageError(
    `train: --resume keeps the run's own settings, but ${said.join(', ')}. Leave them out, or start a new run with --init-weights.`,
  );
}
