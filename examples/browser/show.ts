// What the page's elements say about its state: written after every change, read nowhere.
import type { PlaneName } from 'wgrad/data';
import type { Brush } from './brush.js';
import type { ClassTable } from './class-table.js';
import { classNames } from './classes.js';
import { button, element, input, output, select } from './elements.js';
import type { Session } from './session.js';
import { diceOf, type Study, volumesOf } from './study.js';
import { type Cursor, draw, type View, type Voxel, voxelAt } from './viewer.js';
import { learnsHere, type Weights } from './weights.js';

/** All that is shown. */
export interface Shown {
  readonly session: Session;
  readonly brush: Brush;
  readonly table: ClassTable;
  readonly demonstration: Weights;
  readonly studies: Study[];
  /** The one that is looked at. */
  study: Study | undefined;
  view: View;
  cursor: Cursor | undefined;
  /** Where the pointer is: on which plane's canvas, and at which point of it. */
  pointer: { readonly name: PlaneName; readonly x: number; readonly y: number } | undefined;
  /** Share of the study that is segmented. */
  progress: number;
}

/** The check boxes of what lies over the picture, and what they switch. */
export const layers = [
  ['show-segmentation', 'showSegmentation'],
  ['show-labels', 'showLabels'],
  ['show-confidence', 'showConfidence'],
] as const;

/** The planes beside the axial one: the canvases have their names. */
export const sidePlanes = ['coronal', 'sagittal'] as const;

const canvas = element<HTMLCanvasElement>('picture');
export const isPainting = (): boolean => !input('look').checked;

/** Draws the slice and says which one it is: what follows a pointer or a finger, many times a second. */
export function showPicture({ study, view, cursor, pointer, session }: Shown): void {
  const paints = isPainting() && study !== undefined;
  const hasPlanes = view.planes && study !== undefined && study.depth > 1;
  element('pictures').classList.toggle('planes', hasPlanes);
  draw(canvas, study, view, paints ? cursor : undefined);
  for (const name of sidePlanes) {
    const side = element<HTMLCanvasElement>(name);
    side.hidden = !hasPlanes;
    if (hasPlanes) draw(side, study, view, undefined, name);
  }
  element('value').textContent = study
    ? valueText(study, voxelUnder(study, view, pointer) ?? view, session.weights.classes)
    : '';
  canvas.classList.toggle('paints', paints);
  const slice = input('slice');
  Object.assign(slice, { max: String(study?.depth ?? 1), value: String(view.z + 1), disabled: !study });
  const which = study ? `${view.z + 1} of ${study.depth}` : '–';
  output('slice-text').textContent = which;
  canvas.setAttribute('aria-label', study ? `${study.name}, slice ${which}` : 'No volume is open');
  [...element('marks').children].forEach((mark, z) => {
    mark.classList.toggle('here', z === view.z);
  });

  const [least, most] = study?.range ?? [0, 1];
  const inFile = (value: number) => (study ? Number(value.toPrecision(3)).toString() : '–');
  output('window-text').textContent = inFile(view.window * (most - least));
  output('level-text').textContent = inFile(least + view.level * (most - least));
  input('window').value = String(100 * view.window);
  input('level').value = String(100 * view.level);
  output('opacity-text').textContent = `${Math.round(100 * view.opacity)} %`;
  output('diameter-text').textContent = input('diameter').value;
  input('labelled').disabled = !study;
  input('labelled').checked = study?.labelled[view.z] ?? false;
}

/** The voxel under the pointer, whichever plane shows there now. */
const voxelUnder = (study: Study, view: View, pointer: Shown['pointer']): Voxel | undefined =>
  pointer &&
  voxelAt(study, view, pointer.name === 'axial' ? canvas : element(pointer.name), pointer.x, pointer.y, pointer.name);

/** What is known of a voxel. */
function valueText(study: Study, { z, y, x }: Voxel, classes: number): string {
  const at = (z * study.height + y) * study.width + x;
  const [least, most] = study.range;
  const value = Number((least + study.image[at]! * (most - least)).toPrecision(4));
  const names = classNames(classes);
  const { segmentation: found, labels } = study;
  const of = (name: string, k: number, more = '') => `${name} ${names[k]?.toLowerCase() ?? k}${more}`;
  return [
    `Column ${x + 1}, row ${y + 1}, slice ${z + 1}: ${value}`,
    ...(found ? [of('segmented', found.labels[at]!, ` (${Math.round(found.confidence[at]! / 2.55)} %)`)] : []),
    ...(labels[at] ? [of('labelled', labels[at]!)] : []),
  ].join(' · ');
}

/** Brings every element up to date, with the numbers that take a walk over all voxels. */
export function showAll(shown: Shown): void {
  const { session, studies, study, view, progress, brush, table, demonstration } = shown;
  const { weights, busy, learner } = session;
  const { classes } = weights;
  table.setCount(classes);
  element('empty').hidden = study !== undefined;
  element('marks').replaceChildren(
    ...(study?.labelled ?? []).map((on) => {
      const mark = document.createElement('i');
      mark.classList.toggle('on', on);
      return mark;
    }),
  );
  showPicture(shown);

  const names = select('study');
  element('study-label').hidden = studies.length < 2;
  for (const { name } of studies.slice(names.length)) names.add(new Option(name));
  names.selectedIndex = study ? studies.indexOf(study) : -1;
  for (const [id, key] of layers) input(id).checked = view[key];
  input('planes').checked = view.planes;
  select('convention').value = view.convention;
  select('convention').disabled = !study?.directions;
  element('confidence-key').hidden = !view.showConfidence;

  const segmentation = study?.segmentation;
  const labelled = study?.labelled.filter(Boolean).length ?? 0;
  table.setVolumes(
    study && labelled ? volumesOf(study, study.labels, classes) : undefined,
    study && segmentation ? volumesOf(study, segmentation.labels, classes) : undefined,
  );
  showAgreement(study, classes, labelled);
  element('labelled-text').textContent = study
    ? `${labelled} of ${study.depth} slices are labelled.`
    : 'What you paint counts as labelled.';

  element('model').textContent =
    `${weights.name}: ${classes} classes, levels of ${weights.features.join(', ')} channels, ${weights.patch.length === 3 ? 'volumes' : 'slices'} at ${weights.patch.join('×')}`;
  button('segment').disabled = !study || busy !== undefined;
  button('segment').firstChild!.textContent =
    busy === 'segmenting' ? `Segmenting ${Math.round(100 * progress)} % ` : 'Segment ';
  button('save-segmentation').disabled = !segmentation;
  button('demonstration').hidden = weights === demonstration || busy !== undefined;
  button('open-weights').disabled = button('save-weights').disabled = busy !== undefined;
  button('take-segmentation').disabled = !segmentation;
  button('take-truth').hidden = !study?.truth;
  button('save-labels').disabled = !labelled;
  button('undo').disabled = !brush.canUndo;
  button('redo').disabled = !brush.canRedo;
  button('train').disabled = !study || busy === 'segmenting' || !learnsHere(weights);
  button('train').firstChild!.textContent = busy === 'learning' ? 'Stop ' : learner ? 'Continue ' : 'Train ';
  button('forget').hidden = !learner || busy !== undefined;
  const learns = busy === 'learning' || learner !== undefined;
  element('progress').hidden = !learns;
  for (const id of ['steps', 'batch', 'rate', 'from-scratch']) input(id).disabled = learns;
}

/** How well the segmentation fits what is known. */
function showAgreement(study: Study | undefined, classes: number, labelled: number): void {
  const segmented = study?.segmentation?.labels;
  const against = study?.truth ?? (labelled ? study?.labels : undefined);
  const place = element('agreement');
  place.hidden = !segmented || !against;
  if (!study || !segmented || !against) return;
  const dice = diceOf(study, segmented, against, classes, (z) => study.truth !== undefined || study.labelled[z]!);
  const what = study.truth ? "the phantom's truth" : 'the labels, where slices are labelled';
  place.textContent = `Dice of the segmentation against ${what}: ${Number.isNaN(dice) ? '–' : dice.toFixed(3)}`;
}
