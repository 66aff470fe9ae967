// Guesses at a folder that is not a data set: the folder beside the right one, BIDS, another format, volumes side by side.
import { dirname, join, sep } from 'node:path';
import { visibleIn as filesIn, kindOf, volumesIn } from './case-files.js';
import { foreignFiles } from './file-format.js';
import { type Case, layouts } from './layouts.js';

/** What a folder that is not a data set may be, and what to do; empty if there is no guess. */
export function hintFor(dir: string): string {
  const names = filesIn(dir);
  const casesOf = (place: string): readonly Case[] => {
    try {
      return layouts.flatMap((layout) => layout.list(place)?.cases ?? []);
    } catch {
      return []; // the right layout, but with a fault
    }
  };
  const [here, above] = [join(dir, sep), dirname(join(dir, '.'))];
  if (casesOf(above).some(({ image, label = '' }) => image.startsWith(here) || label.startsWith(here))) {
    return `The folder above, ${above}, is a data set. Give that one.`;
  }
  const inner = names.slice(0, 50).find((name) => casesOf(join(dir, name)).length);
  if (inner) return `Its folder ${join(dir, inner)} is a data set. Give that one.`;
  if (names.includes('dataset_description.json') || names.some((name) => /^sub-[^.]+$/.test(name))) {
    return 'It has the BIDS layout, which has no fixed place for labels. Copy or link images as imagesTr/sub-NAME_0000.nii.gz and labels as labelsTr/sub-NAME.nii.gz.';
  }
  const foreign = foreignFiles([...names, ...names.flatMap((name) => filesIn(join(dir, name)))]);
  if (foreign) return `It holds ${foreign}.`;
  const volumes = volumesIn(dir);
  if (volumes.length) {
    const labels = volumes.filter(({ stem }) => kindOf(stem) === 'label').length;
    return `It holds ${volumes.length} volumes, ${labels} of them labels by their names, side by side. Put images into imagesTr/, and labels with the names of their images into labelsTr/.`;
  }
  return '';
}
