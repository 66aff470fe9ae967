// The page: what is open, and what controls, keys and gestures have it do. Whatever changes something calls `show`, which
// draws everything with the next frame, or `showSlice` where only the picture is concerned.
import { createBrush } from './brush.js';
import { createClassTable } from './class-table.js';
import { classNames } from './classes.js';
import { listenToControls } from './controls.js';
import demonstrationBytes from './demonstration.safetensors';
import { nameOf } from './device.js';
import { element, input } from './elements.js';
import { listenToKeys } from './keys.js';
import { slicesToLearnFrom } from './learn.js';
import { createLossCharts } from './loss-charts.js';
import { attempt, notice, say } from './messages.js';
import { sortFiles, studyFor } from './opening.js';
import { listenToPicture } from './picture.js';
import { listenToPlanes } from './planes.js';
import { createSession } from './session.js';
import { type layers, type Shown, showAll, showPicture } from './show.js';
import { type Study, sliceAt, studyOf, takeLabels } from './study.js';
import { newView } from './viewer.js';
import { decodeWeights, learnsHere } from './weights.js';

const demonstration = decodeWeights(demonstrationBytes, 'Demonstration weights (phantom hearts)');
const charts = createLossCharts();
const session = createSession(demonstration, {
  changed: () => show(),
  stepped: charts.add,
  lost: () =>
    notice(
      'The GPU was lost: its driver restarted, or it was taken away. Your volumes, your labels and the last weights are kept.',
      { name: 'Open it again', run: () => void attempt(sayGpu) },
    ),
});
const brush = createBrush();
const view = newView(demonstration.classes);
const table = createClassTable(view.visible, () => show());
const page: Shown = {
  session,
  demonstration,
  brush,
  table,
  studies: [],
  study: undefined,
  view,
  cursor: undefined,
  pointer: undefined,
  progress: 0,
};

let waiting: ((shown: Shown) => void) | undefined; // what the next frame draws
const draw = (what: (shown: Shown) => void): void => {
  if (!waiting) {
    requestAnimationFrame(() => {
      const now = waiting!;
      waiting = undefined;
      now(page);
    });
  }
  if (waiting !== showAll) waiting = what;
};
/** Brings the whole page up to date with the next frame; `showSlice` the picture alone, which is quick. */
function show(): void {
  draw(showAll);
}
function showSlice(): void {
  draw(showPicture);
}

const sayGpu = async (): Promise<void> => say(`The network runs on ${nameOf(await session.open())}.`);

// ---- Opening.

function openStudy(opened: Study): void {
  page.studies.push(opened);
  choose(opened);
}

function choose(chosen: Study): void {
  page.study = chosen;
  const { depth, height, width } = chosen;
  Object.assign(view, { z: Math.floor(depth / 2), y: Math.floor(height / 2), x: Math.floor(width / 2) });
  page.pointer = undefined;
  Object.assign(view, { zoom: 1, centre: { x: 0.5, y: 0.5 }, window: 1, level: 0.5 });
  const [x, y, along] = chosen.spacing.map((mm) => Number(mm.toPrecision(3)));
  say(`${chosen.name}: ${chosen.width} × ${chosen.height} × ${chosen.depth} voxels of ${x} × ${y} × ${along} mm.`);
  show();
}

/** Opens images, labels and weights; every file that cannot be opened is named with the reason. */
async function openFiles(files: readonly File[]): Promise<void> {
  if (!files.length) return;
  say(`Opening ${files.length === 1 ? files[0]!.name : `${files.length} files`} …`);
  const { weights, images, labels, problems } = await sortFiles(files, page.studies);
  const tried = (work: () => void) => {
    try {
      work();
    } catch (error) {
      problems.push((error as Error).message);
    }
  };
  for (const each of weights) {
    tried(() => {
      if (session.busy) throw new Error(`${each.name}: stop the training first, then open other weights.`);
      session.use(each);
      say(`The weights of ${each.name} are in use.`);
    });
  }
  for (const volume of images) tried(() => openStudy(studyOf(volume)));
  for (const volume of labels) {
    tried(() => {
      const owner = studyFor(volume, page.studies, page.study);
      takeLabels(owner, volume.data, session.weights.classes, volume.name);
      if (owner !== page.study) choose(owner);
      say(`${volume.name}: labels of ${owner.labelled.filter(Boolean).length} slices of ${owner.name}.`);
    });
  }
  if (problems.length) {
    notice(problems.join('\n'));
    if (problems.length === files.length) say('Nothing was opened.');
  }
  show();
}

// ---- Segmenting and learning.

async function segment(): Promise<void> {
  const { study } = page;
  if (!study || session.busy) return;
  page.progress = 0;
  const started = performance.now();
  const done = await session.segment(study, (share) => {
    page.progress = share;
    show();
  });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const what = session.weights.patch.length === 3 ? 'the volume' : `${study.depth} slices`;
  if (done) say(`Segmented ${what} in ${seconds} s on ${nameOf(session.gpu!)}.`);
}

async function train(): Promise<void> {
  if (!page.study) return;
  if (session.busy === 'learning') return session.stop();
  if (!learnsHere(session.weights))
    throw new Error(
      'The page learns from whole slices, scaled from least to greatest, and these weights are for others. Open weights of such slices.',
    );
  const number = (id: string): number => {
    const field = input(id);
    if (field.validity.valid) return field.valueAsNumber;
    field.focus();
    throw new Error(`${field.labels![0]!.textContent!.trim()}: ${field.validationMessage}`);
  };
  const options = {
    iterations: number('steps'),
    batch: number('batch'),
    lr: number('rate'),
    seed: 1337,
    fromScratch: input('from-scratch').checked,
  };
  slicesToLearnFrom(page.studies); // throws where there is none, before anything starts
  if (!session.learner) charts.clear();
  say('Learns. You can go on looking and painting; what you label counts from the next segmentation on.');
  const done = await session.learn(page.studies, () => page.study, options);
  if (done)
    say(
      `${session.learner ? 'Stopped' : 'Done'}. The segmentation is the trained network's, and so are the weights to save.`,
    );
}

// ---- Labelling.

/** Replaces the slice's labels as one edit. */
function takeOver(from: Uint8Array | undefined): void {
  if (!page.study || !from) return;
  brush.begin(page.study, view.z);
  brush.replace(sliceAt(page.study, from, view.z));
  brush.end();
  show();
}

/** Shows what an undo or redo changed. */
function showEdit(changed: Study | undefined): void {
  if (!changed) return;
  if (changed !== page.study) choose(changed);
  view.z = brush.z;
  show();
}

const actions = {
  ...listenToPicture(page, showSlice, show),
  openFiles,
  openStudy,
  choose,
  segment: () => void attempt(segment),
  train: () => void attempt(train),
  open: () => input('files').click(),
  help: () => element<HTMLDialogElement>('keys').showModal(),
  undo: () => showEdit(brush.undo()),
  redo: () => showEdit(brush.redo()),
  takeSegmentation: () => takeOver(page.study?.segmentation?.labels),
  takeTruth: () => takeOver(page.study?.truth),
  isOpen: () => page.study !== undefined,
  toggle(layer: (typeof layers)[number][1] | 'planes') {
    view[layer] = !view[layer];
    show();
  },
  toggleLabelled() {
    if (page.study) page.study.labelled[view.z] = !page.study.labelled[view.z];
    show();
  },
  chooseTool(tool: 'look' | 'brush' | 'erase' | 'fill') {
    input(tool).checked = true;
    showSlice();
  },
  chooseClass(k: number) {
    table.chosen = k;
    say(`The brush paints: ${classNames(session.weights.classes)[table.chosen]}.`);
  },
  resize(by: number) {
    input('diameter').valueAsNumber += by;
    if (page.cursor) page.cursor = { ...page.cursor, diameter: input('diameter').valueAsNumber };
    showSlice();
  },
};
listenToPlanes(page, showSlice);
listenToKeys(actions);
listenToControls(page, actions, showSlice, show);

// For the console, and for tests.
Object.assign(globalThis, { page });
void attempt(sayGpu);
show();
