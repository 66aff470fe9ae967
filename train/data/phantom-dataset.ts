// A folder of phantoms with ground truth, laid out as one of the data sets that are read: the same hearts in each.
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { DataError, whyNot } from '../files/data-error.js';
import { makeFolder } from '../files/new-folder.js';
import { UsageError } from '../files/usage-error.js';
import { cardiacClasses } from './class-names.js';
import { writeHdf5 } from './hdf5.js';
import { minMaxScaled } from './intensity.js';
import type { Parts } from './layouts.js';
import { writeNifti } from './nifti-file.js';
import { toPicture } from './orientation.js';
import { createPhantom, type Phantom, type PhantomFrame } from './phantom.js';
import { createAtrium } from './phantom-atrium.js';
import { splitPatients } from './split.js';

/** How phantoms can be laid out: as ACDC, nnU-Net, LA folders, SSL4MIS's HDF5 files, UA-MT's. */
export const phantomLayouts = ['acdc', 'nnunet', 'la', 'h5', 'la-h5'] as const;
export type PhantomLayout = (typeof phantomLayouts)[number];

export interface PhantomOptions {
  /** At least 3, so that training, validation and test have one each; default 20. */
  readonly patients?: number;
  /** Pixels along x and y; default 128. */
  readonly size?: number;
  readonly seed?: number;
  /** Default acdc. The HDF5 ones need loadHdf5 before. */
  readonly layout?: PhantomLayout;
  /** Left atria in volumes, in LA's layout, in place of hearts in slices: one volume a patient. */
  readonly volumes?: boolean;
}

/** One frame of one phantom, about to be written. */
interface Written {
  readonly id: string;
  readonly patient: string;
  readonly part: keyof Parts;
  readonly phantom: Phantom;
  readonly frame: PhantomFrame;
}

/** Writes one volume; and, after all of them, what belongs to the folder as a whole. */
interface Writer {
  volume(out: string, written: Written): void;
  rest(out: string, split: Parts, ids: ReadonlyMap<string, readonly string[]>): void;
}

/**
 * Writes phantoms and their split (70/10/20 % of the patients). The same options give the same bytes, in every layout the same
 * hearts and the same split. Throws DataError for a folder that holds anything already or cannot be written.
 */
export function writePhantoms(
  outDir: string,
  { volumes = false, patients = 20, size = 128, seed = 1337, layout = volumes ? 'la' : 'acdc' }: PhantomOptions = {},
): void {
  if (volumes && layout !== 'la') {
    throw new UsageError(`phantom: volumes are written in LA's layout — got ${layout}. Leave one of the two out.`);
  }
  if (!Number.isInteger(patients) || patients < 3 || patients > 999) {
    throw new DataError(`phantom: the number of patients must be 3 to 999 — got ${patients}.`);
  }
  if (!Number.isInteger(size) || size < 16 || size > 1024) {
    throw new DataError(`phantom: the size must be 16 to 1024 pixels — got ${size}.`);
  }
  const write = (work: () => void) => {
    try {
      work();
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code
        ? new DataError(`phantom: cannot write ${outDir} — ${whyNot(error)}.`)
        : error;
    }
  };
  write(() => {
    makeFolder(resolve(outDir));
    if (readdirSync(outDir).length > 0) {
      throw new DataError(`phantom: ${outDir} is not empty. Choose another folder, or delete this one first.`);
    }
  });
  const names = Array.from({ length: patients }, (_, i) => `patient${String(i + 1).padStart(3, '0')}`);
  const split = splitPatients(names, seed);
  const parts = Object.entries(split) as [keyof Parts, readonly string[]][];
  const partOf = new Map(parts.flatMap(([part, list]) => list.map((name) => [name, part] as const)));
  const ids = new Map<string, string[]>();
  const writer = writers[layout];
  for (const [index, patient] of names.entries()) {
    if (volumes) {
      const { image, label, shape, spacing } = createAtrium({ size, seed, index });
      const dir = join(outDir, patient);
      write(() => {
        mkdirSync(dir);
        writeNifti(join(dir, 'image.nii.gz'), { data: image, shape, spacing, dtype: 'uint8' });
        writeNifti(join(dir, 'label.nii.gz'), { data: label, shape, spacing, dtype: 'uint8' });
      });
      continue;
    }
    const phantom = createPhantom({ size, seed, index });
    write(() => {
      for (const frame of [phantom.diastole, phantom.systole]) {
        const id = `${patient}_frame${String(frame.frame).padStart(2, '0')}`;
        ids.set(patient, [...(ids.get(patient) ?? []), id]);
        writer.volume(outDir, { id, patient, part: partOf.get(patient)!, phantom, frame });
      }
    });
  }
  write(() => writer.rest(outDir, split, ids)); // last, so that a folder with a split is a complete one
}

function writeVolume({ phantom: { shape, spacing }, frame }: Written, image: string, label: string): void {
  writeNifti(image, { data: frame.image, shape, spacing, dtype: 'int16' });
  writeNifti(label, { data: frame.label, shape, spacing, dtype: 'uint8' });
}

const folder = (...path: string[]): string => {
  const dir = join(...path);
  mkdirSync(dir, { recursive: true });
  return dir;
};

const writeSplits = (out: string, split: Parts) =>
  writeFileSync(join(out, 'splits.json'), `${JSON.stringify(split, null, 1)}\n`);

const writeLists = (out: string, lists: Readonly<Record<string, readonly string[]>>) => {
  for (const [name, lines] of Object.entries(lists)) {
    writeFileSync(join(out, `${name}.list`), lines.map((line) => `${line}\n`).join(''));
  }
};

const writers: Record<PhantomLayout, Writer> = {
  acdc: {
    volume(out, written) {
      const { patient, id, phantom } = written;
      const stem = join(folder(out, patient), id);
      writeVolume(written, `${stem}.nii.gz`, `${stem}_gt.nii.gz`);
      const info = { ED: phantom.diastole.frame, ES: phantom.systole.frame, Group: phantom.group, NbFrame: 30 };
      const lines = Object.entries(info).map(([key, value]) => `${key}: ${value}\n`);
      writeFileSync(join(out, patient, 'Info.cfg'), lines.join(''));
    },
    rest: writeSplits,
  },
  nnunet: {
    volume(out, written) {
      const end = written.part === 'test' ? 'Ts' : 'Tr';
      const [images, labels] = [folder(out, `images${end}`), folder(out, `labels${end}`)];
      writeVolume(written, join(images, `${written.id}_0000.nii.gz`), join(labels, `${written.id}.nii.gz`));
    },
    rest(out, { train, val }, ids) {
      const cases = (patients: readonly string[]) => patients.flatMap((patient) => ids.get(patient)!);
      const labels = Object.fromEntries(cardiacClasses.map((name, k) => [name, k]));
      const numTraining = cases([...train, ...val]).length;
      const info = { channel_names: { 0: 'cine MRI' }, labels, numTraining, file_ending: '.nii.gz' };
      writeFileSync(join(out, 'dataset.json'), `${JSON.stringify(info, null, 1)}\n`);
      const folds = [{ train: cases(train), val: cases(val) }];
      writeFileSync(join(out, 'splits_final.json'), `${JSON.stringify(folds, null, 1)}\n`);
    },
  },
  la: {
    volume(out, written) {
      const dir = folder(out, written.id);
      writeVolume(written, join(dir, 'image.nii.gz'), join(dir, 'label.nii.gz'));
    },
    rest: writeSplits,
  },
  h5: {
    volume(out, { id, part, phantom, frame }) {
      const [width, height, depth] = phantom.shape;
      const image = minMaxScaled(Float32Array.from(frame.image));
      if (part !== 'train') {
        const shape = [depth, height, width];
        const data = { image: { shape, data: image }, label: { shape, data: frame.label } };
        writeHdf5(join(folder(out, 'data'), `${id}.h5`), data);
        return;
      }
      const dir = folder(out, 'data', 'slices');
      const shape = [height, width];
      for (let z = 0; z < depth; z++) {
        const range = [z * height * width, (z + 1) * height * width] as const;
        writeHdf5(join(dir, `${id}_slice_${z}.h5`), {
          image: { shape, data: image.slice(...range) },
          label: { shape, data: frame.label.slice(...range) },
        });
      }
    },
    rest(out, { train, val, test }, ids) {
      const slices = readdirSync(join(out, 'data', 'slices')).map((name) => name.slice(0, -'.h5'.length));
      const cases = (patients: readonly string[]) => patients.flatMap((patient) => ids.get(patient)!);
      const number = (name: string) => Number(/\d+$/.exec(name)![0]);
      const samplesOf = (id: string) =>
        slices.filter((name) => name.startsWith(`${id}_slice_`)).sort((a, b) => number(a) - number(b));
      writeLists(out, { train_slices: cases(train).flatMap(samplesOf), val: cases(val), test: cases(test) });
    },
  },
  'la-h5': {
    volume(out, { id, phantom, frame }) {
      const [width, height, depth] = phantom.shape;
      const values = Float32Array.from(frame.image);
      const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
      const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / values.length);
      const zScored = values.map((v) => (v - mean) / deviation);
      // As NumPy has [x, y, z] in memory: z fastest.
      const order = { axes: [2, 1, 0], flipped: [false, false, false] } as const;
      const shape = [width, height, depth];
      writeHdf5(join(folder(out, id), 'mri_norm2.h5'), {
        image: { shape, data: toPicture(zScored, phantom.shape, order) },
        label: { shape, data: toPicture(frame.label, phantom.shape, order) },
      });
    },
    rest(out, { train, val, test }, ids) {
      const cases = (patients: readonly string[]) => patients.flatMap((patient) => ids.get(patient)!);
      writeLists(out, { train: cases([...train, ...val]), test: cases(test) });
    },
  },
};
