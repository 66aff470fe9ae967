// What was opened: weights, images, and labels, which find their image by name and grid.
import { decodeNifti, type Volume } from 'wgrad/data';
import { bytesOf } from './files.js';
import type { Study } from './study.js';
import { decodeWeights, type Weights } from './weights.js';

export interface Opened {
  readonly weights: Weights[];
  readonly images: Volume[];
  readonly labels: Volume[];
  /** A line for each file that could not be read. */
  readonly problems: string[];
}

/** Reads all files; those that cannot be read do not keep the others from being opened. */
export async function sortFiles(files: readonly File[], studies: readonly Study[]): Promise<Opened> {
  const opened: Opened = { weights: [], images: [], labels: [], problems: [] };
  const volumes: Volume[] = [];
  for (const file of files) {
    try {
      const bytes = await bytesOf(file);
      if (/\.safetensors$/i.test(file.name)) opened.weights.push(decodeWeights(bytes, file.name));
      else volumes.push(decodeNifti(bytes, file.name));
    } catch (error) {
      opened.problems.push((error as Error).message.replace(/^nifti: /, ''));
    }
  }
  const grids = studies.map(gridOf);
  const mayBeLabels = volumes.filter(holdsSmallNumbers);
  for (const volume of volumes) {
    const others = [...grids, ...volumes.filter((v) => !mayBeLabels.includes(v)).map(({ shape }) => shape.join())];
    const isLabels =
      mayBeLabels.includes(volume) && (isNamedLabels(volume.name) || others.includes(volume.shape.join()));
    (isLabels ? opened.labels : opened.images).push(volume);
  }
  return opened;
}

const mostClasses = 16;
const holdsSmallNumbers = ({ data }: Volume): boolean =>
  data.every((value) => Number.isInteger(value) && value >= 0 && value < mostClasses);
const isNamedLabels = (name: string): boolean =>
  /(^|[_\-. ])(gt|seg|segmentation|labels?|mask|truth)([_\-. ]|$)/i.test(name);
const gridOf = ({ volume, width, height, depth }: Study): string => (volume?.shape ?? [width, height, depth]).join();

/** The study that labels belong to: the one whose name theirs begins with, else the current one, else any on their grid. */
export function studyFor({ name, shape }: Volume, studies: readonly Study[], current: Study | undefined): Study {
  const onGrid = studies.filter((study) => gridOf(study) === shape.join());
  const stem = (text: string) => text.replace(/(_0000)?\.nii(\.gz)?$/i, '').replaceAll(' ', '-');
  const named = onGrid.filter((study) => stem(name).startsWith(stem(study.name)));
  const found = named.length
    ? named.reduce((a, b) => (b.name.length > a.name.length ? b : a))
    : (onGrid.find((study) => study === current) ?? onGrid[0]);
  if (!found) {
    throw new Error(
      `${name} holds labels, but no open image has its grid [${shape.join(', ')}]. Open the image with it.`,
    );
  }
  return found;
}
