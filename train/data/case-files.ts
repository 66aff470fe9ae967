// Which files of a folder are volumes, and which of them are images: decided here for every layout and every command.
//
// Hidden files (names that begin with a dot: macOS leaves ._NAME beside NAME) are not volumes. NAME.nii and NAME.nii.gz, whatever the
// case of the suffix, are one volume: both at once is an error. By their names, volumes are labels (_gt, _label, _seg, _mask …) or films
// (_4d); all others are images.
import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { cut, DataError, some, whyNot } from '../files/data-error.js';
import { foreignFiles } from './file-format.js';
import { shapeIn } from './nifti-file.js';

const niftiEnd = /\.nii(\.gz)?$/i;
/** How an HDF5 file's name ends. */
export const hdf5End = /\.(h5|hdf5)$/i;

/** A file's name without .nii, .nii.gz, .h5 or .hdf5; undefined where it ends otherwise. */
export const stemOf = (file: string): string | undefined => {
  const name = basename(file);
  const end = niftiEnd.test(name) ? niftiEnd : hdf5End;
  return end.test(name) ? name.replace(end, '') : undefined;
};

/** A folder's names, sorted, without hidden ones; empty where it is none. */
export function visibleIn(dir: string): string[] {
  try {
    return readdirSync(dir)
      .filter((name) => !name.startsWith('.'))
      .sort();
  } catch {
    return []; // a file, or nothing
  }
}

/** A volume's file. */
export interface VolumeFile {
  /** Its name without .nii or .nii.gz. */
  readonly stem: string;
  readonly path: string;
}

/** The NIfTI files of a folder, by name. Throws a DataError where one is there with and without .gz. */
export function volumesIn(dir: string): VolumeFile[] {
  const volumes = visibleIn(dir).flatMap((name): VolumeFile[] =>
    niftiEnd.test(name) ? [{ stem: name.replace(niftiEnd, ''), path: join(dir, name) }] : [],
  );
  const seen = new Map<string, VolumeFile>();
  for (const volume of volumes) {
    const other = seen.get(volume.stem);
    if (other) {
      throw new DataError(
        `dataset: ${other.path} and ${basename(volume.path)} are one volume twice. Keep one of them, or give the other another name.`,
      );
    }
    seen.set(volume.stem, volume);
  }
  return volumes;
}

/** The volume of a folder with one of some stems, the first first; letters' case does not matter. */
export function volumeNamed(volumes: readonly VolumeFile[], ...stems: readonly string[]): VolumeFile | undefined {
  for (const stem of stems) {
    const found =
      volumes.find((volume) => volume.stem === stem) ??
      volumes.find((volume) => volume.stem.toLowerCase() === stem.toLowerCase());
    if (found) return found;
  }
  return undefined;
}

const labelName = /(^|[_\-.])(gt|labels?|labelmap|seg|dseg|segmentation|mask|truth|groundtruth|manual)$/i;
const filmName = /(^|[_\-.])4d$/i;

/** What a volume is by its name. */
export const kindOf = (stem: string): 'image' | 'label' | 'film' =>
  labelName.test(stem) ? 'label' : filmName.test(stem) ? 'film' : 'image';

/** Folders that hold labels by their name, as nnU-Net's labelsTr. */
const isLabelFolder = (dir: string): boolean =>
  /^(labels?|labels?(tr|ts|val)|gt|masks?|segmentations?)$/i.test(basename(dir));

/** Volumes of some folders that no case has used: the number of films, and warnings about the others. */
export function unused(dirs: readonly string[], used: ReadonlySet<string>): { films: number; warnings: string[] } {
  const left = dirs.flatMap((dir) => volumesIn(dir)).filter(({ path }) => !used.has(path));
  const names = (kind: string) => left.filter(({ stem }) => kindOf(stem) === kind).map(({ path }) => shortPath(path));
  const warnings: string[] = [];
  const [labels, images] = [names('label'), names('image')];
  const inLabelFolder = left.filter(({ path }) => isLabelFolder(dirname(path))).map(({ path }) => shortPath(path));
  const orphans = [...new Set([...labels, ...inLabelFolder])];
  const others = images.filter((name) => !orphans.includes(name));
  if (orphans.length) warnings.push(`${count(orphans.length, 'label file')} without an image: ${some(orphans)}`);
  if (others.length) warnings.push(`${count(others.length, 'volume')} that no case has: ${some(others)}`);
  return { films: names('film').length, warnings };
}

const shortPath = (path: string): string => join(basename(dirname(path)), basename(path));
const count = (n: number, what: string): string => `${n} ${what}${n === 1 ? '' : 's'}`;

/** The volumes to segment at a given path. */
export interface Inputs {
  readonly images: readonly string[];
  /** Notes about what was left out of a folder, a sentence each. */
  readonly notes: readonly string[];
}

/**
 * The images at a given path: a file itself (its faults show when it is read), or a folder's volumes except labels and films. Throws a
 * DataError for a folder without images, which lists what it holds.
 */
export function imagesOf(path: string): Inputs {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return { images: [path], notes: [] };
  const volumes = volumesIn(path);
  // A film may have any name; its header shows that it is one.
  const kinds = volumes.map(({ stem, path: file }) => {
    const kind = kindOf(stem);
    return kind === 'image' && (shapeIn(file)?.length ?? 3) > 3 ? 'film' : kind;
  });
  const of = (kind: string) => volumes.filter((_, i) => kinds[i] === kind).map((volume) => volume.path);
  const [images, labels, films] = [of('image'), of('label'), of('film')];
  if (images.length && isLabelFolder(path)) {
    const beside = basename(path).replace(/^labels?/i, 'images');
    throw new DataError(
      `predict: ${path} holds labels, by its name. Give the folder of the images${beside === basename(path) ? '' : `, such as ${join(dirname(path), beside)}`}, or the files one by one.`,
    );
  }
  if (!images.length) throw new DataError(`predict: ${path} ${withoutImages(path, labels, films)}`);
  const named = (paths: readonly string[]) => some(paths.map((each) => basename(each)));
  return {
    images,
    notes: [
      ...(labels.length ? [`${path}: left out as labels, by their names: ${named(labels)}`] : []),
      ...(films.length ? [`${path}: left out as films of several volumes: ${named(films)}`] : []),
    ],
  };
}

/** What a folder without images holds, and what to do. */
function withoutImages(path: string, labels: readonly string[], films: readonly string[]): string {
  const names = visibleIn(path);
  if (films.length) {
    return `holds films only: ${some(films.map((each) => basename(each)))}. Write each volume to its own file, for instance: fslsplit FILM frame -t.`;
  }
  if (labels.length) {
    return `holds only labels, by their names: ${some(labels.map((each) => basename(each)))}. Give images; if these files are images, name them one by one.`;
  }
  const inner = names.filter((name) => volumesIn(join(path, name)).some(({ stem }) => kindOf(stem) === 'image'));
  if (inner.length) {
    const hint = inner.find((name) => /^images/i.test(name)) ?? inner[0]!;
    return `holds no volume itself, but its folders do: ${some(inner)}. Give one of them, such as ${join(path, hint)}.`;
  }
  const foreign = foreignFiles(names);
  if (foreign) return `holds no .nii or .nii.gz volume, but ${foreign}.`;
  return `holds no .nii or .nii.gz volume, but ${names.length ? some(names) : 'nothing'}. Give files, or their folder.`;
}

/** What a folder holds, for a message: its first names, or why it cannot be opened. */
export function contentsOf(dir: string): string {
  try {
    readdirSync(dir);
  } catch (error) {
    return whyNot(error);
  }
  const names = visibleIn(dir);
  return names.length ? `it holds ${some(names.map((name) => cut(name)))}` : 'it is empty';
}
