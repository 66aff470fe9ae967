// wgrad phantom: a data set of synthetic hearts, for a first run and for tests.
import { loadHdf5 } from '../data/hdf5.js';
import { phantomLayouts, writePhantoms } from '../data/phantom-dataset.js';
import { describeCommand } from '../settings/command-line.js';

export const command = describeCommand({
  name: 'phantom',
  about: `
Writes synthetic short-axis cardiac MR volumes with ground truth and a split to the folder OUT; with --volumes left atria in
volumes of about cubic voxels. The same flags give the same bytes, and every layout holds the same hearts.`,
  positionals: ['OUT'],
  flags: {
    patients: { type: 'integer', min: 3, max: 999, help: 'number of patients, 3 to 999 (default 20)' },
    size: { type: 'integer', min: 16, max: 1024, help: 'pixels along x and y, 16 to 1024 (default 128)' },
    volumes: {
      type: 'boolean',
      help: "left atria, one volume a patient, in LA's layout: SIZE × 0.75 SIZE × 0.46 SIZE voxels, more or less, of 119 mm / SIZE",
    },
    seed: { type: 'integer', value: 'S', min: 0, help: 'seed of the hearts (default 1337)' },
    layout: {
      type: 'string',
      value: 'NAME',
      choices: phantomLayouts,
      help: "acdc (default): patientNNN/patientNNN_frameFF.nii.gz; nnunet: imagesTr, labelsTr; la: CASE/image.nii.gz; h5: SSL4MIS's slices and volumes; la-h5: UA-MT's CASE/mri_norm2.h5 (both need h5wasm)",
    },
  },
});

/** Runs `wgrad phantom OUT`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = command.read(args);
  const out = positionals[0]!;
  const { layout } = flags;
  if (layout?.endsWith('h5')) await loadHdf5();
  writePhantoms(out, flags);
  console.log(out);
  return 0;
}
