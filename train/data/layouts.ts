// How public data sets are laid out, each recognised by looking at folder and file names. A layout lists its cases and
// the split that comes with it; which of the cases are for training is decided in datasets.ts.
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { cut, DataError, whyNot } from './data-error.js';
import { linesOf, textIn } from './text-file.js';

/** One volume of one patient. */
export interface Case {
  /** patient001_frame01 */
  readonly id: string;
  /** patient001; the case's name where nothing says that two cases are of one patient. */
  readonly patient: string;
  /** "01", where the name has one. */
  readonly frame: string | undefined;
  /** Path of the image. */
  readonly image: string;
  /** Path of the ground truth, where there is one; of an HDF5 file, that file. */
  readonly label: string | undefined;
  /** Values of the ground truth by class, where they are not 0, 1, 2, … */
  readonly labelValues?: readonly number[];
  /** Value of voxels to ignore, where the data set says one. */
  readonly ignoreValue?: number;
  /** The file that says what label values mean, where there is one. */
  readonly labelTable?: string;
  /** Of an HDF5 file: its axes, the slowest first; and the files of a volume that is stored slice by slice. */
  readonly hdf5?: { readonly axes: 'zyx' | 'xyz'; readonly slices?: readonly string[] };
}

/** Patients of each part; `train` in the order that `labeled` counts in. */
export interface Parts {
  readonly train: readonly string[];
  readonly val: readonly string[];
  readonly test: readonly string[];
}

/** What a layout found in a folder. */
export interface Listing {
  /** Sorted by patient, then frame. */
  readonly cases: readonly Case[];
  /** The split that the layout brings, and where it is from; parts that it leaves open are undefined. */
  readonly split?: { readonly from: string; readonly parts: Partial<Parts> };
  /** Names by label value, where the layout says them. */
  readonly classNames?: readonly string[];
  /** What a user should know: what is mapped, what is left out. */
  readonly notes?: readonly string[];
  /** What looks wrong: files that belong to no case. */
  readonly warnings?: readonly string[];
}

export interface Layout {
  readonly name: string;
  /** What it is recognised by. */
  readonly looksFor: string;
  /** The cases of a folder; undefined where it is not laid out so. Throws DataError for one that is, but wrongly. */
  list(dir: string): Listing | undefined;
}

const filesIn = (dir: string): string[] => {
  try {
    return readdirSync(dir).sort();
  } catch {
    return []; // a file, or nothing
  }
};
const niftiEnd = /\.nii(\.gz)?$/;

/** The first of some names that a folder has, as a path. */
const firstOf = (dir: string, files: readonly string[], names: readonly string[]): string | undefined => {
  const name = names.find((candidate) => files.includes(candidate));
  return name && join(dir, name);
};

/** patient001_frame01 → patient and frame; any other name is a patient of its own. */
function patientOf(id: string): { patient: string; frame: string | undefined } {
  const found = /^(.+?)_frame(\d+)$/.exec(id);
  return found ? { patient: found[1]!, frame: found[2]! } : { patient: id, frame: undefined };
}

const byName = (a: Case, b: Case): number => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
const unique = <T>(items: readonly T[]): T[] => [...new Set(items)];

// ---- ACDC

function acdcCases(dir: string): Case[] {
  return filesIn(dir)
    .filter((name) => /^patient\d+$/.test(name))
    .flatMap((patient) => {
      const folder = join(dir, patient);
      const files = filesIn(folder);
      return files.flatMap((file) => {
        const id = file.replace(niftiEnd, '');
        const { patient: owner, frame } = patientOf(id);
        if (!niftiEnd.test(file) || owner !== patient || frame === undefined) return []; // Info.cfg, the 4-D film, labels
        const label = firstOf(folder, files, [`${id}_gt.nii.gz`, `${id}_gt.nii`]);
        return [{ id, patient, frame, image: join(folder, file), label }];
      });
    });
}

const acdc: Layout = {
  name: 'ACDC',
  looksFor: 'patientNNN/patientNNN_frameFF.nii.gz (also below training/ and testing/)',
  list(dir) {
    const here = acdcCases(dir);
    if (here.length) return { cases: here };
    const [training, testing] = ['training', 'testing'].map((part) => acdcCases(join(dir, part))) as [Case[], Case[]];
    if (training.length + testing.length === 0) {
      return existsSync(join(dir, 'database')) ? acdc.list(join(dir, 'database')) : undefined;
    }
    const cases = [...training, ...testing].sort(byName);
    if (!testing.length) return { cases };
    const test = unique(testing.map((c) => c.patient));
    const twice = training.find((c) => test.includes(c.patient));
    if (twice) throw new DataError(`dataset: ${twice.patient} is in training/ and in testing/ of ${dir}. Keep one.`);
    return { cases, split: { from: 'testing/', parts: { test } } };
  },
};

// ---- nnU-Net

interface NnunetInfo {
  readonly file: string;
  readonly end: string;
  readonly labelValues: readonly number[];
  readonly classNames: readonly string[];
}

function readNnunetInfo(dir: string): NnunetInfo | undefined {
  const file = join(dir, 'dataset.json');
  if (!existsSync(file)) return undefined;
  const refuse = (what: string): never => {
    throw new DataError(`dataset: ${file}: ${what}`);
  };
  const info = readJson(file) as Record<string, unknown>;
  const table = (key: string) => {
    const value = info?.[key];
    if (value === undefined) return undefined;
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
    return refuse(`"${key}" must be an object — got ${JSON.stringify(value)}.`);
  };
  const channels = table('channel_names') ?? table('modality');
  const count = channels ? Object.keys(channels).length : 1;
  if (count !== 1)
    refuse(
      `it has ${count} channels (${Object.values(channels!).join(', ')}); images of one are read. Keep one of them.`,
    );
  const labels =
    table('labels') ?? refuse('"labels" is missing. Expected for instance {"background": 0, "atrium": 1}.');
  // Version 2 has name → value, version 1 value → name.
  const named = Object.entries(labels).map(([key, value]): [string, unknown] =>
    typeof value === 'string' && /^\d+$/.test(key) ? [value, Number(key)] : [key, value],
  );
  for (const [name, value] of named) {
    if (name === 'ignore') refuse('an "ignore" label is not supported. Make it background, or leave those cases out.');
    if (!Number.isInteger(value) || (value as number) < 0 || (value as number) > 255) {
      refuse(`label "${name}" must be one whole number from 0 to 255 — got ${JSON.stringify(value)}.`);
    }
  }
  const sorted = (named as [string, number][]).sort((a, b) => a[1] - b[1]);
  if (sorted[0]?.[1] !== 0) refuse('no label has the value 0. Background must be 0.');
  const twice = sorted.find(([, value], i) => sorted[i - 1]?.[1] === value);
  if (twice) refuse(`two labels have the value ${twice[1]}. Give each its own.`);
  return {
    file,
    end: typeof info.file_ending === 'string' ? info.file_ending : '.nii.gz',
    labelValues: sorted.map(([, value]) => value),
    classNames: sorted.map(([name]) => name),
  };
}

function nnunetCases(images: string, labels: string | undefined, info: NnunetInfo | undefined): Case[] {
  const labelFiles = labels ? filesIn(labels) : [];
  return filesIn(images).flatMap((file) => {
    const found = /^(.+)_(\d{4})(\.nii(?:\.gz)?)$/.exec(file);
    if (!found) return [];
    const [, id, channel] = found as unknown as [string, string, string];
    if (channel !== '0000') {
      throw new DataError(
        `dataset: ${join(images, file)} is a second channel; images of one are read. Keep NAME_0000 only.`,
      );
    }
    const label = labels && firstOf(labels, labelFiles, [`${id}.nii.gz`, `${id}.nii`]);
    const isMapped = info?.labelValues.some((value, k) => value !== k);
    const mapping = { ...(isMapped && { labelValues: info!.labelValues }), ...(info && { labelTable: info.file }) };
    return [{ id, ...patientOf(id), image: join(images, file), label, ...mapping }];
  });
}

/** Fold 0 of nnU-Net's splits, by patient. */
function readFold(file: string, cases: readonly Case[]): Partial<Parts> {
  const refuse = (what: string): never => {
    throw new DataError(`split: ${file}: ${what}`);
  };
  const folds = readJson(file);
  const fold = (Array.isArray(folds) ? folds[0] : undefined) as Record<string, unknown> | undefined;
  const names = (part: string): string[] => {
    const list = fold?.[part];
    if (Array.isArray(list) && list.every((name) => typeof name === 'string')) return list;
    return refuse(`fold 0 has no list "${part}". Expected [{"train": [NAME, …], "val": [NAME, …]}, …].`);
  };
  const owners = new Map(cases.map((c) => [c.id, c.patient]));
  const patients = (part: string) =>
    unique(
      names(part).map((name) => owners.get(name) ?? refuse(`it names ${name}, which has no image. Remove it there.`)),
    );
  const [train, val] = [patients('train'), patients('val')];
  const twice = train.find((patient) => val.includes(patient));
  if (twice) refuse(`fold 0 has cases of ${twice} in "train" and in "val". Keep a patient together.`);
  return { train, val };
}

const nnunet: Layout = {
  name: 'nnU-Net',
  looksFor: 'imagesTr/NAME_0000.nii.gz with labelsTr/NAME.nii.gz and dataset.json',
  list(dir) {
    const images = join(dir, 'imagesTr');
    if (!existsSync(images)) return undefined;
    const info = readNnunetInfo(dir);
    if (info && !niftiEnd.test(info.end)) {
      throw new DataError(`dataset: ${dir} holds ${info.end} files; .nii and .nii.gz are read. Convert them.`);
    }
    const training = nnunetCases(images, join(dir, 'labelsTr'), info);
    if (!training.length) throw new DataError(`dataset: ${images} holds no NAME_0000.nii.gz. Put the images there.`);
    const labelsTs = join(dir, 'labelsTs');
    const testing = nnunetCases(join(dir, 'imagesTs'), existsSync(labelsTs) ? labelsTs : undefined, info);
    const test = unique(testing.map((c) => c.patient));
    const twice = training.find((c) => test.includes(c.patient));
    if (twice) throw new DataError(`dataset: ${twice.patient} is in imagesTr and in imagesTs of ${dir}. Keep one.`);
    const fold = join(dir, 'splits_final.json');
    const known = existsSync(fold) ? readFold(fold, training) : {};
    const from = [...(known.train ? ['splits_final.json, fold 0'] : []), ...(test.length ? ['imagesTs'] : [])].join(
      ' and ',
    );
    const values = info?.labelValues ?? [];
    const mapped = values.some((value, k) => value !== k);
    return {
      cases: [...training, ...testing].sort(byName),
      ...(from ? { split: { from, parts: { ...known, ...(test.length ? { test } : {}) } } } : {}),
      ...(info ? { classNames: info.classNames } : {}),
      notes: mapped ? [`label values ${values.join(', ')} are classes ${values.map((_, k) => k).join(', ')}`] : [],
    };
  },
};

// ---- LA

const la: Layout = {
  name: 'LA',
  looksFor: 'CASE/image.nii.gz with CASE/label.nii.gz',
  list(dir) {
    const cases = filesIn(dir).flatMap((id): Case[] => {
      const folder = join(dir, id);
      const files = filesIn(folder);
      const image = firstOf(folder, files, ['image.nii.gz', 'image.nii']);
      if (!image) return [];
      return [{ id, ...patientOf(id), image, label: firstOf(folder, files, ['label.nii.gz', 'label.nii']) }];
    });
    return cases.length ? { cases, split: listSplit([dir], cases) } : undefined;
  },
};

// ---- HDF5: SSL4MIS's ACDC and UA-MT's LA

const ssl4mis: Layout = {
  name: 'SSL4MIS HDF5',
  looksFor: 'data/slices/*.h5 and data/*.h5 with train_slices.list, val.list, test.list',
  list(dir) {
    const found = [dir, join(dir, 'data')].find((folder) =>
      [folder, join(folder, 'slices')].some((place) => filesIn(place).some((name) => /_frame\d+.*\.h5$/.test(name))),
    );
    if (!found) return undefined;
    const volumes = filesIn(found).filter((name) => name.endsWith('.h5'));
    const slices = new Map<string, { path: string; z: number }[]>();
    for (const name of filesIn(join(found, 'slices'))) {
      const parts = /^(.+)_slice_(\d+)\.h5$/.exec(name);
      if (!parts) continue;
      const [, id, z] = parts as unknown as [string, string, string];
      slices.set(id, [...(slices.get(id) ?? []), { path: join(found, 'slices', name), z: Number(z) }]);
    }
    const ids = unique([...volumes.map((name) => name.slice(0, -'.h5'.length)), ...slices.keys()]).sort();
    const cases = ids.map((id): Case => {
      const volume = `${id}.h5`;
      // A volume where there is one; else its slices, which hold the same numbers.
      const files = volumes.includes(volume)
        ? undefined
        : slices
            .get(id)!
            .sort((a, b) => a.z - b.z)
            .map(({ path }) => path);
      const path = files?.[0] ?? join(found, volume);
      return {
        id,
        ...patientOf(id),
        image: path,
        label: path,
        hdf5: { axes: 'zyx', ...(files ? { slices: files } : {}) },
      };
    });
    return {
      cases,
      split: listSplit([dir, dirname(found)], cases),
      notes: ['HDF5 files have no spacing: mm are voxels'],
    };
  },
};

const uamt: Layout = {
  name: 'UA-MT HDF5',
  looksFor: 'CASE/mri_norm2.h5 with train.list and test.list',
  list(dir) {
    const casesIn = (folder: string) =>
      filesIn(folder).flatMap((id): Case[] => {
        const path = join(folder, id, 'mri_norm2.h5');
        return existsSync(path) ? [{ id, ...patientOf(id), image: path, label: path, hdf5: { axes: 'xyz' } }] : [];
      });
    // The cases, or the folder around theirs, where the lists are.
    const folder = [dir, ...filesIn(dir).map((name) => join(dir, name))].find((place) => casesIn(place).length);
    if (!folder) return undefined;
    const cases = casesIn(folder);
    return {
      cases,
      split: listSplit([folder, dirname(folder)], cases),
      notes: ['HDF5 files have no spacing: mm are voxels'],
    };
  },
};

/** The split of train(_slices).list, val.list and test.list in the first of some folders that has the first. */
function listSplit(folders: readonly string[], cases: readonly Case[]): Listing['split'] {
  const dir = folders.find((folder) =>
    ['train_slices.list', 'train.list'].some((name) => existsSync(join(folder, name))),
  );
  if (!dir) return undefined;
  const owners = new Map(cases.flatMap((c) => [[c.id, c.patient] as const, [c.patient, c.patient] as const]));
  const read = (name: string): string[] | undefined => {
    const file = join(dir, name);
    if (!existsSync(file)) return undefined;
    return unique(
      linesOf(readText(file)).map((line) => {
        const owner = owners.get(
          basename(line)
            .replace(/\.h5$/, '')
            .replace(/_slice_\d+$/, ''),
        );
        if (owner) return owner;
        throw new DataError(`split: ${file} names ${cut(line)}, which has no file. Remove it there, or copy the file.`);
      }),
    );
  };
  const trainList = existsSync(join(dir, 'train_slices.list')) ? 'train_slices.list' : 'train.list';
  const parts: Record<string, readonly string[] | undefined> = {
    train: read(trainList),
    val: read('val.list'),
    test: read('test.list'),
  };
  const seen = new Map<string, string>();
  for (const [part, patients] of Object.entries(parts)) {
    for (const patient of patients ?? []) {
      const other = seen.get(patient);
      if (other)
        throw new DataError(`split: ${patient} is in the lists of ${other} and of ${part} in ${dir}. Keep it in one.`);
      seen.set(patient, part);
    }
  }
  const known = Object.fromEntries(Object.entries(parts).filter(([, patients]) => patients)) as Partial<Parts>;
  return { from: trainList, parts: known };
}

/** All that are known, in the order in which they are named in messages. */
export const layouts: readonly Layout[] = [acdc, nnunet, la, ssl4mis, uamt];

/** A text file of the data set; throws DataError. */
export function readText(file: string): string {
  try {
    return textIn(file);
  } catch (error) {
    throw new DataError(`split: cannot read ${file} — ${whyNot(error)}.`);
  }
}

/** A JSON file of the data set; throws DataError. */
export function readJson(file: string): unknown {
  const text = readText(file);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DataError(
      `split: cannot read ${file} — it is not JSON: ${cut((error as Error).message, 120)}. Correct it.`,
    );
  }
}
