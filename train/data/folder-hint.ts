// What a folder that is no data set may be: the folder beside the right one, BIDS, another format, volumes side by side.
import { dirname, join, sep } from 'node:path';
import { visibleIn as filesIn, kindOf, volumesIn } from './case-files.js';
import { foreignFiles } from './file-format.js';
import { type Case, layouts } from './layouts.js';

/** What a folder that is no data set may be, and what to do; empty where nothing is known. */
export function hintFor(dir: string): string {
  const names = filesIn(dir);
  const casesOf = (place: string): readonly Case[] => {
    try {
      return layouts.flatMap((layout) => layout.list(place)?.cases ?? []);
    } catch {
      return []; // laid out so, but wrongly
    }
  };
  const [here, above] = [join(dir, sep), dirname(join(dir, '.'))];
  if (casesOf(above).some(({ image, label = '' }) => image.startsWith(here) || label.startsWith(here))) {
    return `The folder above, ${above}, is a data set: give that.`;
  }
  const inner = names.slice(0, 50).find((name) => casesOf(join(dir, name)).length);
  if (inner) return `Its folder ${join(dir, inner)} is a data set: give that.`;
  if (names.includes('dataset_description.json') || names.some((name) => /^sub-[^.]+$/.test(name))) {
    return 'It is laid out as BIDS, which has no place of its own for labels. Copy or link images as imagesTr/sub-NAME_0000.nii.gz and labels as labelsTr/sub-NAME.nii.gz.';
  }
  const foreign = foreignFiles([...names, ...names.flatMap((name) => filesIn(join(dir, name)))]);
  if (foreign) return `It holds ${foreign}.`;
  const volumes = volumesIn(dir);
  if (volumes.length) {
    const labels = volumes.filter(({ stem }) => kindOf(stem) === 'label').length;
    return `It holds ${volumes.length} volumes, ${labels} of them labels by their names, side by side: put images into imagesTr/ and labels, named as their images, into labelsTr/.`;
  }
  return '';
}
