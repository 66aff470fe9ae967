// wgrad predict: label volumes for image volumes, on the image's own grid and affine.
import { basename, join } from 'node:path';
import { openDevice } from '../../engine/node.js';
import { readCommandLine } from '../command-line.js';
import { UsageError } from '../config.js';
import { loadCase, writeLabels } from '../data/slices.js';
import { predictCase } from '../evaluate.js';
import { newFolder } from '../new-folder.js';
import { createPredictor } from '../predictor.js';
import { loadModel } from '../trained-model.js';

export const help = `
usage: wgrad predict --run RUN | --weights FILE  --out DIR INPUT.nii[.gz] …

Writes a label volume (uint8 NIfTI, grid and affine of the input) for each input to the new folder DIR.

  --run RUN           a run folder: its best checkpoint
  --weights FILE      a checkpoint
  --out DIR           new or empty folder
  --flips             mean of the probabilities over the flips of each slice
  --largest-component of each class only the largest component (26-connected)
  --adapter NAME      GPU or driver to use`;

/** Runs `wgrad predict`. */
export async function run(args: string[]): Promise<number> {
  const known = {
    run: { type: 'string' },
    weights: { type: 'string' },
    out: { type: 'string' },
    flips: { type: 'boolean' },
    'largest-component': { type: 'boolean' },
    adapter: { type: 'string' },
  } as const;
  const { flags, positionals } = readCommandLine('predict', args, known, ['INPUT…']);
  const { out, adapter } = flags;
  if (!out) throw new UsageError('predict: --out is needed. See wgrad predict --help.');
  const outputs = positionals.map((input) => join(out, `${basename(input).replace(/\.nii(\.gz)?$/, '')}.nii.gz`));
  const twice = outputs.find((name, i) => outputs.indexOf(name) !== i);
  if (twice)
    throw new UsageError(`predict: two inputs would both become ${twice}. Predict them into different folders.`);
  newFolder('predict', out);

  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    const { model, config } = loadModel(gpu, flags);
    const predictor = createPredictor(gpu, model, config.size, { flips: flags.flips ?? false });
    for (const [i, image] of positionals.entries()) {
      const volume = loadCase({ id: basename(image), patient: '', frame: undefined, image, label: undefined }, config);
      const labels = await predictCase(predictor, volume, config, {
        largestComponent: flags['largest-component'] ?? false,
      });
      writeLabels(outputs[i]!, volume, labels);
      console.log(outputs[i]);
    }
    return 0;
  } finally {
    gpu.close();
  }
}
