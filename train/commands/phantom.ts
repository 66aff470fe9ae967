// wgrad phantom: a data set of synthetic hearts, for a first run and for tests.
import { readCommandLine } from '../command-line.js';
import { UsageError } from '../config.js';
import { loadHdf5 } from '../data/hdf5.js';
import { phantomLayouts, writePhantoms } from '../data/phantom-dataset.js';

export const help = `
usage: wgrad phantom OUT [--patients N] [--size N] [--seed S] [--layout NAME]

Writes short-axis cardiac MR phantoms with ground truth and their split to the folder OUT. The same flags give the same
bytes, and in every layout the same hearts.

  --patients N    how many patients, 3 to 999 (default 20)
  --size N        pixels along x and y, 16 to 1024 (default 128)
  --seed S        another set of hearts (default 1337)
  --layout NAME   acdc: patientNNN/patientNNN_frameFF.nii.gz (default); nnunet: imagesTr, labelsTr; la: CASE/image.nii.gz;
                  h5: SSL4MIS's slices and volumes; la-h5: UA-MT's CASE/mri_norm2.h5 (both need h5wasm)`;

/** Runs `wgrad phantom OUT`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = readCommandLine(
    'phantom',
    args,
    {
      patients: { type: 'integer', min: 3, max: 999 },
      size: { type: 'integer', min: 16, max: 1024 },
      seed: { type: 'integer', min: 0 },
      layout: { type: 'string' },
    },
    ['OUT'],
  );
  const out = positionals[0]!;
  const layout = phantomLayouts.find((name) => name === (flags.layout ?? 'acdc'));
  if (!layout) {
    throw new UsageError(`phantom: --layout must be one of ${phantomLayouts.join(', ')} — got '${flags.layout}'.`);
  }
  if (layout.endsWith('h5')) await loadHdf5();
  writePhantoms(out, { ...flags, layout });
  console.log(out);
  return 0;
}
