// The layouts of public data sets, recognised by folder and file names. A layout lists its cases and the split that comes with it;
// datasets.ts decides which of the cases are for training.
import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import * as v from 'valibot';
import { cut, DataError, some, whyNot } from '../files/data-error.js';
import { numberWithin, objectWith, required, tableOf, text } from '../files/schema.js';
import { linesOf, textIn } from '../files/text-file.js';
import { contentsOf, visibleIn as filesIn, stemOf, unused, volumeNamed, volumesIn } from './case-files.js';
import { foreignFiles } from './file-format.js';

/** One volume of one patient. */
export interface Case {
  /** patient001_frame01 */
  readonly id: string;
  /** patient001; the case's own name unless names show which cases belong to one patient. */
  readonly patient: string;
  /** "01", if the name has one. */
  readonly frame: string | undefined;
  /** Path of the image. */
  readonly image: string;
  /** Path of the ground truth, if there is one; an HDF5 file holds its own. */
  readonly label: string | undefined;
  /** Values of the ground truth by class, unless they are 0, 1, 2, … */
  readonly labelValues?: readonly number[];
  /** Value of voxels to ignore, if the data set has one. */
  readonly ignoreValue?: number;
  /** The file that gives label values their meaning, if there is one. */
  readonly labelTable?: string;
  /** For HDF5 files: their axes, the slowest first, and the files of a volume that is stored slice by slice. */
  readonly hdf5?: { readonly axes: 'zyx' | 'xyz'; readonly slices?: readonly string[] };
}

/** Patients of each part; `train` in the order that `labeled` counts in. */
export interface Parts {
  readonly train: readonly string[];
  readonly val: readonly string[];
  readonly test: readonly string[];
}

/** The content of a folder, as its layout reads it. */
export interface Listing {
  /** Sorted by patient, then frame. */
  readonly cases: readonly Case[];
  /** The layout's own split and its origin; parts that it leaves open are undefined. */
  readonly split?: { readonly from: string; readonly parts: Partial<Parts> };
  /** Names by label value, if the layout has them. */
  readonly classNames?: readonly string[];
  /** Notes for the user: what is mapped, what is left out. */
  readonly notes?: readonly string[];
  /** Warnings: files that belong to no case. */
  readonly warnings?: readonly string[];
}

export interface Layout {
  readonly name: string;
  /** The names by which it is recognised. */
  readonly looksFor: string;
  /** The cases of a folder; undefined where it has another layout. Throws DataError for one that has this layout, but is wrong. */
  list(dir: string): Listing | undefined;
}

/** Notes and warnings about the NIfTI files of some folders that belong to no case. */
function leftOver(dirs: readonly string[], cases: readonly Case[]): Required<Pick<Listing, 'notes' | 'warnings'>> {
  const used = new Set(cases.flatMap(({ image, label }) => (label ? [image, label] : [image])));
  const { films, warnings } = unused(dirs, used);
  return { notes: films ? [`${films} film${films === 1 ? '' : 's'} (_4d) left out`] : [], warnings };
}

/** Names that surely hold a patient and a frame: ACDC's frames; BIDS, sessions; end-diastole and end-systole. */
const owned = [/^(.+?)_frame(\d+)$/, /^(sub-[A-Za-z0-9]+)_(.+)$/, /^(.+?)_(ses-.+)$/, /^(.+)[-_](ED|ES)$/i];

/** patient001_frame01 → patient and frame, sub-01_ses-2 likewise; any other name is its own patient. */
function patientOf(id: string): { patient: string; frame: string | undefined } {
  const [, patient, frame] = owned.map((name) => name.exec(id)).find(Boolean) ?? [];
  return { patient: patient ?? id, frame };
}

const byName = (a: Case, b: Case): number => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
const unique = <T>(items: readonly T[]): T[] => [...new Set(items)];

// ---- ACDC

function acdcCases(dir: string): Case[] {
  return filesIn(dir)
    .filter((name) => /^patient\d+$/.test(name))
    .flatMap((patient) => {
      const volumes = volumesIn(join(dir, patient));
      return volumes.flatMap(({ stem: id, path: image }) => {
        const { patient: owner, frame } = patientOf(id);
        if (owner !== patient || frame === undefined) return []; // the 4-D film, labels
        return [{ id, patient, frame, image, label: volumeNamed(volumes, `${id}_gt`)?.path }];
      });
    });
}

/** The folders of cases. */
const foldersOf = (cases: readonly Case[]): string[] => unique(cases.map(({ image }) => dirname(image)));

const acdc: Layout = {
  name: 'ACDC',
  looksFor: 'patientNNN/patientNNN_frameFF.nii.gz (also below training/ and testing/)',
  list(dir) {
    const here = acdcCases(dir);
    if (here.length) return { cases: here, ...leftOver(foldersOf(here), here) };
    const [training, testing] = ['training', 'testing'].map((part) => acdcCases(join(dir, part))) as [Case[], Case[]];
    if (training.length + testing.length === 0) {
      return existsSync(join(dir, 'database')) ? acdc.list(join(dir, 'database')) : undefined;
    }
    const cases = [...training, ...testing].sort(byName);
    const rest = leftOver(foldersOf(cases), cases);
    if (!testing.length) return { cases, ...rest };
    const test = unique(testing.map((c) => c.patient));
    const twice = training.find((c) => test.includes(c.patient));
    if (twice) throw new DataError(`dataset: ${twice.patient} is in training/ and in testing/ of ${dir}. Keep one.`);
    return { cases, split: { from: 'testing/', parts: { test } }, ...rest };
  },
};

// ---- nnU-Net

interface NnunetInfo {
  readonly file: string;
  /** The ending of its files. */
  readonly end: string;
  /** Stems of the images that it lists, as Medical Decathlon's does. */
  readonly listed: ReadonlySet<string>;
  readonly ignoreValue?: number;
  readonly labelValues: readonly number[];
  readonly classNames: readonly string[];
}

/** dataset.json, as far as it is used. nnU-Net's version 2 has labels as name → value, version 1 as value → name. */
const datasetFile = objectWith({
  channel_names: v.optional(tableOf(v.unknown())),
  modality: v.optional(tableOf(v.unknown())),
  labels: tableOf(v.unknown()),
  file_ending: v.optional(text, '.nii.gz'),
  /** Medical Decathlon's list of images: names, or [{"image": "./imagesTr/NAME.nii.gz", …}]. */
  training: v.fallback(v.array(v.fallback(v.union([text, objectWith({ image: text })]), '')), []),
});
const labelValue = numberWithin({ min: 0, max: 255, whole: true });

function readNnunetInfo(dir: string): NnunetInfo | undefined {
  const file = join(dir, 'dataset.json');
  if (!existsSync(file)) return undefined;
  const refuse = (what: string): never => {
    throw new DataError(`dataset: ${file}: ${what}`);
  };
  const info = required(datasetFile, readJson(file), refuse);
  const channels = Object.values(info.channel_names ?? info.modality ?? { 0: 'MR' });
  if (channels.length !== 1) {
    refuse(
      `${channels.length} channels (${channels.map((name) => cut(name)).join(', ')}), expected one. Keep one of them.`,
    );
  }
  const named = Object.entries(info.labels).map(([key, value]): [string, number] => {
    const [name, number] = typeof value === 'string' && /^\d+$/.test(key) ? [value, Number(key)] : [key, value];
    return [name, required(labelValue, number, refuse, `labels.${name}`)];
  });
  // nnU-Net's name for voxels without a label.
  const ignoreValue = named.find(([name]) => name === 'ignore')?.[1];
  const sorted = named.filter(([name]) => name !== 'ignore').sort((a, b) => a[1] - b[1]);
  if (sorted[0]?.[1] !== 0) refuse('no label has the value 0. Give it to the background.');
  const twice = sorted.find(([, value], i) => sorted[i - 1]?.[1] === value);
  if (twice) refuse(`two labels have the value ${twice[1]}. Give each its own.`);
  return {
    file,
    end: info.file_ending,
    listed: new Set(info.training.flatMap((entry) => stemOf(typeof entry === 'string' ? entry : entry.image) ?? [])),
    ...(ignoreValue !== undefined && { ignoreValue }),
    labelValues: sorted.map(([, value]) => value),
    classNames: sorted.map(([name]) => name),
  };
}

/**
 * Images and labels of two folders: NAME_0000 with NAME as nnU-Net names them, or NAME with NAME as Medical Decathlon does. Throws a
 * DataError where there are labels and none fits.
 */
function nnunetCases(images: string, labels: string | undefined, info: NnunetInfo | undefined): Case[] {
  const volumes = volumesIn(images);
  const labelVolumes = labels ? volumesIn(labels) : [];
  const hasChannels = volumes.some(({ stem }) => stem.endsWith('_0000') && !info?.listed.has(stem));
  const cases = volumes.flatMap(({ stem, path }): Case[] => {
    const found = hasChannels ? /^(.+)_(\d{4})$/.exec(stem) : [stem, stem, '0000'];
    if (!found) return [];
    const [, id, channel] = found as unknown as [string, string, string];
    if (channel !== '0000') {
      throw new DataError(`dataset: ${path} is a second channel, but images must have one. Keep NAME_0000 only.`);
    }
    const isMapped = info?.labelValues.some((value, k) => value !== k);
    return [
      {
        id,
        ...patientOf(id),
        image: path,
        label: volumeNamed(labelVolumes, id)?.path,
        ...(isMapped && { labelValues: info!.labelValues }),
        ...(info && { labelTable: info.file }),
        ...(info?.ignoreValue !== undefined && { ignoreValue: info.ignoreValue }),
      },
    ];
  });
  if (cases.length && labelVolumes.length && !cases.some(({ label }) => label)) {
    const [first] = cases as [Case];
    throw new DataError(
      `dataset: ${labels} holds ${labelVolumes.length} label file${labelVolumes.length === 1 ? '' : 's'}, none named like a case: found ${some(labelVolumes.map(({ path }) => basename(path)))}; ` +
        `the label of ${basename(first.image)} is ${first.id}.nii.gz. Rename them.`,
    );
  }
  return cases;
}

const nnunet: Layout = {
  name: 'nnU-Net',
  looksFor: 'imagesTr/NAME_0000.nii.gz (or NAME.nii.gz: Medical Decathlon) with labelsTr/NAME.nii.gz and dataset.json',
  list(dir) {
    const images = join(dir, 'imagesTr');
    if (!existsSync(images)) return undefined;
    const info = readNnunetInfo(dir);
    if (info && !/^\.nii(\.gz)?$/i.test(info.end)) {
      throw new DataError(`dataset: ${dir} holds ${cut(info.end)} files, expected .nii or .nii.gz. Convert them.`);
    }
    const training = nnunetCases(images, join(dir, 'labelsTr'), info);
    if (!training.length) {
      const foreign = foreignFiles(filesIn(images));
      throw new DataError(
        `dataset: ${images} holds no NAME_0000.nii.gz and no NAME.nii.gz: ${foreign || contentsOf(images)}. Put the images there.`,
      );
    }
    const labelsTs = join(dir, 'labelsTs');
    const testing = nnunetCases(join(dir, 'imagesTs'), existsSync(labelsTs) ? labelsTs : undefined, info);
    const test = unique(testing.map((c) => c.patient));
    const twice = training.find((c) => test.includes(c.patient));
    if (twice) throw new DataError(`dataset: ${twice.patient} is in imagesTr and in imagesTs of ${dir}. Keep one.`);
    const folders = ['imagesTr', 'labelsTr', 'imagesTs', 'labelsTs'].map((name) => join(dir, name));
    const rest = leftOver(folders, [...training, ...testing]);
    const values = info?.labelValues ?? [];
    const mapped = values.some((value, k) => value !== k);
    return {
      cases: [...training, ...testing].sort(byName),
      ...(test.length ? { split: { from: 'imagesTs', parts: { test } } } : {}),
      ...(info ? { classNames: info.classNames } : {}),
      warnings: rest.warnings,
      notes: [
        ...rest.notes,
        ...(mapped ? [`label values ${values.join(', ')} are classes ${values.map((_, k) => k).join(', ')}`] : []),
      ],
    };
  },
};

// ---- LA

const la: Layout = {
  name: 'LA',
  looksFor: 'CASE/image.nii.gz with CASE/label.nii.gz',
  list(dir) {
    const cases = filesIn(dir).flatMap((id): Case[] => {
      const volumes = volumesIn(join(dir, id));
      const image = volumeNamed(volumes, 'image');
      if (!image) return [];
      return [{ id, ...patientOf(id), image: image.path, label: volumeNamed(volumes, 'label')?.path }];
    });
    if (!cases.length) return undefined;
    const folders = filesIn(dir).map((id) => join(dir, id));
    return { cases, split: listSplit([dir], cases), ...leftOver(folders, cases) };
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
        throw new DataError(
          `split: ${file} names ${cut(line)}, which has no file. Remove it from the list, or copy the file.`,
        );
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

/** All known layouts, in the order in which messages name them. */
export const layouts: readonly Layout[] = [acdc, nnunet, la, ssl4mis, uamt];

/** A text file of the data set; throws DataError. */
function readText(file: string): string {
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
