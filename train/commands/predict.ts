// wgrad predict: label volumes for image volumes, on the image's own grid and affine.
import { realpathSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { verifyDevice } from '../../engine/debug.js';
import { openDevice } from '../../engine/node.js';
import { hdf5End, imagesOf, stemOf } from '../data/case-files.js';
import { type CaseVolume, loadCase, writeLabels, writeProbabilities } from '../data/case-volume.js';
import { type Case, someCases } from '../data/datasets.js';
import { loadHdf5 } from '../data/hdf5.js';
import { mostVoxels } from '../data/nifti.js';
import { createNotices } from '../data/notices.js';
import { predictCase, predictProbabilities } from '../evaluation/evaluate.js';
import { keptPrediction, madeOf, type PredictionFiles } from '../evaluation/kept-predictions.js';
import { createPredictor } from '../evaluation/predictor.js';
import { DataError } from '../files/data-error.js';
import { checkNew, folderAt, newFolder } from '../files/new-folder.js';
import { UsageError } from '../files/usage-error.js';
import { imagesOf as filesOf, fingerprint, openEveryCase, openPart, partFlags } from '../run/run-split.js';
import { makeModel, modelFlags, predictionFlags, readWeights, windowsOf } from '../run/trained-model.js';
import { type CommandLine, describeCommand } from '../settings/command-line.js';
import { sayCompiling } from '../training/progress.js';
import { imageFlags, readingOf } from './reading-flags.js';

const known = {
  ...modelFlags,
  out: {
    type: 'string',
    value: 'DIR',
    needed: true,
    help: 'new or empty folder; with --continue, the folder to complete',
  },
  data: {
    type: 'string',
    value: 'DIR',
    help: 'data set to segment instead of INPUTs, in any layout that wgrad inspect knows; each case becomes CASE.nii.gz',
  },
  split: {
    type: 'string',
    choices: ['train', 'val', 'test', 'all'],
    help: 'part of --data to segment (default test); all: every case, even those in no part',
  },
  ...partFlags,
  continue: {
    type: 'boolean',
    help: "skip outputs in --out that are whole (readable, on their image's grid), and predict unreadable ones again",
  },
  'save-probabilities': {
    type: 'boolean',
    help: "also write NAME_probabilities.nii.gz: float32 [x, y, z, class]; a voxel's values sum to 1, and the largest is its label's",
  },
  ...predictionFlags,
  ...imageFlags,
  adapter: { type: 'string', value: 'NAME', help: 'GPU or driver to use' },
} as const;

export const command = describeCommand({
  name: 'predict',
  about: `
Writes a label volume for each input to the folder --out: uint8 NIfTI with the classes 0, 1, 2, …, on the input's own grid, with
its geometry copied byte for byte. An input is a .nii, .nii.gz or .h5 file (dataset 'image', z first; x first in UA-MT's
mri_norm2.h5), or a folder: then every NIfTI volume in it except labels (NAME_gt, _label, _seg …) and films. nnU-Net's
NAME_0000.nii.gz becomes NAME.nii.gz. Use --data for inputs that share a name (LA's are all image.nii.gz). Unreadable inputs are
reported and skipped. The names of the written files go to stdout.`,
  positionals: ['[INPUT…]'],
  flags: known,
  notes: `
Each output's header (descrip) holds a digest of the image, the weights and the settings it was made from; --continue never
overwrites an output made from others. Probabilities are the model's own: --largest-component changes only labels. Everything
outside the network's grid is background.`,
});

type GivenFlags = CommandLine<typeof known>['flags'];

/** UA-MT's files begin with x, all others with z. */
const axesIn = (image: string): 'xyz' | 'zyx' => (basename(image) === 'mri_norm2.h5' ? 'xyz' : 'zyx');

/** The images of files and folders. */
function casesAt(paths: readonly string[]): Case[] {
  const given = paths.map((path) => {
    try {
      return imagesOf(path);
    } catch (error) {
      throw error instanceof DataError ? new UsageError(error.message) : error;
    }
  });
  for (const note of given.flatMap(({ notes }) => notes)) console.error(`predict: ${note}`);
  const zFirst = given.flatMap(({ images }) => images).find((image) => hdf5End.test(image) && axesIn(image) === 'zyx');
  if (zFirst)
    console.error(
      `predict: ${zFirst} is read with z first; of .h5 files, only one named mri_norm2.h5 is read with x first`,
    );
  return given
    .flatMap(({ images }) => images)
    .map((image) => {
      const id = (stemOf(image) ?? basename(image)).replace(/_0000$/, '');
      const hdf5 = hdf5End.test(image) && { hdf5: { axes: axesIn(image) } };
      return { id, patient: id, frame: undefined, image, label: undefined, ...hdf5 };
    });
}

/** The cases of a part of a data set. */
async function casesIn(data: string, flags: GivenFlags): Promise<readonly Case[]> {
  const { split: part = 'test', 'split-of': splitOf, fold, run, weights } = flags;
  if (part === 'all') {
    if (splitOf || fold)
      throw new UsageError('predict: --split-of and --fold do not apply to --split all. Leave them out.');
    return openEveryCase(data);
  }
  const { dataset, cases } = await openPart('predict', data, run ?? dirname(weights!), { part, splitOf, fold });
  return someCases(dataset, part, cases);
}

/** The files of each case in `out`. Throws a UsageError where two would be one, even on a disk that ignores letter case. */
function outputsOf(cases: readonly Case[], out: string, withProbabilities: boolean): PredictionFiles[] {
  const owners = new Map<string, string>();
  const own = (name: string, image: string): string => {
    const path = join(out, name);
    const other = owners.get(path.normalize().toLowerCase());
    if (other !== undefined) {
      throw new UsageError(
        `predict: two inputs would both become ${path}: ${other} and ${image}. Predict them into different folders, or use --data, which names outputs by case.`,
      );
    }
    owners.set(path.normalize().toLowerCase(), image);
    return path;
  };
  return cases.map(({ id, image }) => ({
    labels: own(`${id}.nii.gz`, image),
    probabilities: withProbabilities ? own(`${id}_probabilities.nii.gz`, image) : undefined,
  }));
}

/** Throws a UsageError where `out` is a folder that a case's image or label lies in. */
function checkApart(out: string, cases: readonly Case[]): void {
  const real = (path: string): string | undefined => {
    try {
      return realpathSync(path);
    } catch {
      return undefined; // it is not there
    }
  };
  const folder = real(out);
  if (folder === undefined) return;
  const files = cases.flatMap((c) => [...filesOf(c), ...(c.label === undefined ? [] : [c.label])]);
  const inside = files.find((file) => real(dirname(file)) === folder);
  if (inside !== undefined) {
    throw new UsageError(`predict: --out ${out} is the folder of ${inside}. Name another folder.`);
  }
}

/** Runs `wgrad predict`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = command.read(args);
  const { out, adapter, data, model: role, flips } = flags;
  const settings = { largestComponent: flags['largest-component'] };
  const withProbabilities = flags['save-probabilities'];
  if (data !== undefined && positionals.length) {
    throw new UsageError('predict: INPUTs and --data cannot be combined. Give one of them.');
  }
  if (data === undefined) {
    if (!positionals.length)
      throw new UsageError('predict: INPUT is missing. Give files, folders, or a data set with --data DIR.');
    const part = (['split', 'split-of'] as const).find((name) => flags[name] !== undefined);
    if (part ?? flags.fold) {
      throw new UsageError(`predict: --${part ?? 'fold'} needs a data set. Give one with --data DIR, or leave it out.`);
    }
  }
  const goOn = flags.continue;
  const named = data === undefined ? casesAt(positionals) : undefined;
  if (named) outputsOf(named, out, withProbabilities); // before weights are read
  const hint = ', or complete it with --continue';
  if (!goOn) checkNew('predict', out, hint);
  const weights = readWeights({ ...flags, role });
  const cases = named ?? (await casesIn(data!, flags));
  const outputs = outputsOf(cases, out, withProbabilities);
  checkApart(out, cases);
  if (cases.some((c) => c.hdf5)) await loadHdf5();

  const gpu = await openDevice(adapter ? { adapter } : {});
  try {
    await verifyDevice(gpu);
    const { model, config: own } = makeModel(gpu, weights);
    if (goOn) folderAt('predict', out);
    else newFolder('predict', out, hint);
    const windows = windowsOf('predict', flags, own);
    const config = { ...own, ...readingOf(flags), ...windows };
    const notices = createNotices('predict');
    const predictor = createPredictor(gpu, model, config.patch, {
      ...{ flips, probabilities: withProbabilities },
      ...windows,
    });
    await sayCompiling(predictor.prepare);
    const weightsDigest = fingerprint(weights.path).sha256;

    /** Writes the prediction of a case, unless it is there. */
    const predict = async (c: Case, files: PredictionFiles): Promise<'written' | 'skipped'> => {
      const volume = loadCase({ ...c, label: undefined }, config);
      notices.add(volume.notes);
      if (withProbabilities) checkSize(volume, config.classes);
      const images = filesOf(c).map((file) => fingerprint(file).sha256);
      const made = madeOf(
        images,
        weightsDigest,
        role,
        flips,
        settings.largestComponent,
        config.nan ?? 'least',
        ...Object.values(windows),
      );
      if (goOn && isKept(files, volume, config.classes, made)) return 'skipped';
      if (files.probabilities === undefined) {
        writeLabels(files.labels, volume, await predictCase(predictor, volume, config, settings), made);
        return 'written';
      }
      const { labels, probabilities } = await predictProbabilities(predictor, volume, config, settings);
      writeProbabilities(files.probabilities, volume, probabilities, made);
      writeLabels(files.labels, volume, labels, made);
      return 'written';
    };

    let [failed, skipped] = [0, 0];
    for (const [i, c] of cases.entries()) {
      try {
        if ((await predict(c, outputs[i]!)) === 'skipped') skipped++;
        else console.log(outputs[i]!.labels);
      } catch (error) {
        if (!(error instanceof DataError)) throw error;
        console.error(error.message);
        failed++;
      }
    }
    notices.end();
    if (goOn) console.error(`predict: ${skipped} of ${cases.length} volumes were skipped: ${out} already holds them.`);
    if (failed && cases.length > 1) console.error(`predict: ${failed} of ${cases.length} volumes were not predicted.`);
    return failed ? 1 : 0;
  } finally {
    gpu.close();
  }
}

/** Throws a DataError where probabilities would be larger than any volume that can be read back. */
function checkSize({ volume, case: c }: CaseVolume, classes: number): void {
  if (volume.data.length * classes <= mostVoxels) return;
  throw new DataError(
    `predict: ${c.image} has too many voxels for probabilities — got [${volume.shape}] and ${classes} classes, expected at most ${mostVoxels} numbers. Leave --save-probabilities out, or crop the image.`,
  );
}

/** Whether a prediction exists and is whole. Reports one that is predicted again; throws a DataError for one that must not be overwritten. */
function isKept(files: PredictionFiles, volume: CaseVolume, classes: number, made: string): boolean {
  const kept = keptPrediction(files, volume, classes, made);
  const { labels } = files;
  if (kept === 'other' || kept === 'foreign') {
    const what =
      kept === 'other'
        ? 'was made from another image, or with other weights or settings'
        : 'was not written by wgrad, and does not fit';
    throw new DataError(
      `predict: ${labels} exists for ${volume.case.image}, but ${what}. It is left as it is. Name another folder, or remove it.`,
    );
  }
  if (kept === 'unreadable' || kept === 'unfit') {
    const what = kept === 'unreadable' ? 'cannot be read' : "does not fit its image's grid or the classes";
    console.error(`predict: ${labels} ${what}, and is predicted again`);
  }
  return kept === 'whole';
}
