// wgrad predict: label volumes for image volumes, on the image's own grid and affine.
import { basename, join } from 'node:path';
import { verifyDevice } from '../../engine/index.js';
import { openDevice } from '../../engine/node.js';
import { describeCommand } from '../command-line.js';
import { UsageError } from '../config.js';
import { imagesOf, stemOf } from '../data/case-files.js';
import { DataError } from '../data/data-error.js';
import { loadCase, writeLabels } from '../data/slices.js';
import { predictCase } from '../evaluation/evaluate.js';
import { newFolder } from '../new-folder.js';
import { createNotices } from '../notices.js';
import { createPredictor } from '../predictor.js';
import { sayCompiling } from '../progress.js';
import { imageFlags, readingOf } from '../reading-flags.js';
import { loadModel, modelFlags, predictionFlags } from '../trained-model.js';

export const command = describeCommand({
  name: 'predict',
  about: `
Writes a label volume for each input to the new folder DIR: uint8 NIfTI with the classes 0, 1, 2, …, on the input's own grid,
geometry copied bit for bit. An input is a .nii or .nii.gz file, or a folder: every volume in it but labels (NAME_gt, _label,
_seg …) and films. nnU-Net's NAME_0000.nii.gz becomes NAME.nii.gz. What cannot be read is said, and the others are predicted
all the same.`,
  positionals: ['INPUT…'],
  flags: {
    ...modelFlags,
    out: { type: 'string', value: 'DIR', needed: true, help: 'new or empty folder' },
    ...predictionFlags,
    ...imageFlags,
    adapter: { type: 'string', value: 'NAME', help: 'GPU or driver to use' },
  },
});

/** Runs `wgrad predict`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = command.read(args);
  const { out, adapter } = flags;
  const given = positionals.map((path) => {
    try {
      return imagesOf(path);
    } catch (error) {
      throw error instanceof DataError ? new UsageError(error.message) : error;
    }
  });
  for (const note of given.flatMap(({ notes }) => notes)) console.error(`predict: ${note}`);
  const inputs = given.flatMap(({ images }) => images);
  const outputs = inputs.map((input) =>
    join(out, `${(stemOf(input) ?? basename(input)).replace(/_0000$/, '')}.nii.gz`),
  );
  const twice = outputs.findIndex((name, i) => outputs.indexOf(name) !== i);
  if (twice >= 0) {
    const [name, second] = [outputs[twice]!, inputs[twice]!];
    throw new UsageError(
      `predict: two inputs would both become ${name}: ${inputs[outputs.indexOf(name)]} and ${second}. Predict them into different folders.`,
    );
  }
  newFolder('predict', out);

  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    await verifyDevice(gpu);
    const { model, config: own } = loadModel(gpu, { ...flags, role: flags.model });
    const config = { ...own, ...readingOf(flags) };
    const notices = createNotices('predict');
    const predictor = createPredictor(gpu, model, config.size, { flips: flags.flips });
    await sayCompiling(predictor.prepare);
    let failed = 0;
    for (const [i, image] of inputs.entries()) {
      try {
        const volume = loadCase(
          { id: basename(image), patient: '', frame: undefined, image, label: undefined },
          config,
        );
        notices.add(volume.notes);
        const labels = await predictCase(predictor, volume, config, {
          largestComponent: flags['largest-component'],
        });
        writeLabels(outputs[i]!, volume, labels);
        console.log(outputs[i]);
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        console.error(error.message);
        failed++;
      }
    }
    notices.end();
    if (failed && inputs.length > 1)
      console.error(`predict: ${failed} of ${inputs.length} volumes were not predicted.`);
    return failed ? 1 : 0;
  } finally {
    gpu.close();
  }
}
