// The page: what is open, how it is looked at, and what each control, key and gesture does to it. Whatever changes something
// calls `show`, which draws everything with the next frame.
import { createBrush } from './brush.js';
import { createClassTable } from './class-table.js';
import { classNames } from './classes.js';
import demonstrationBytes from './demonstration.safetensors';
import { nameOf } from './device.js';
import { button, element, input, select } from './elements.js';
import { download, labelFile } from './files.js';
import { listen } from './gestures.js';
import { listenToKeys } from './keys.js';
import { createLossCharts } from './loss-charts.js';
import { attempt, closeNotice, notice, say } from './messages.js';
import { sortFiles, studyFor } from './opening.js';
import { createSession } from './session.js';
import { isPainting, layers, type Shown, showAll } from './show.js';
import { phantomStudy, type Study, sliceAt, studyOf, takeLabels } from './study.js';
import { keepInSight, newView, pixelAt } from './viewer.js';
import { decodeWeights, encodeWeights } from './weights.js';

const demonstration = decodeWeights(demonstrationBytes, 'Demonstration weights (phantom hearts)');
const canvas = element<HTMLCanvasElement>('picture');
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
  progress: 0,
};

let waiting = false;
function show(): void {
  if (!waiting) {
    requestAnimationFrame(() => {
      waiting = false;
      showAll(page);
    });
  }
  waiting = true;
}

const sayGpu = async (): Promise<void> => say(`The network runs on ${nameOf(await session.open())}.`);

// ---- Opening.

function openStudy(opened: Study): void {
  page.studies.push(opened);
  choose(opened);
}

function choose(chosen: Study): void {
  page.study = chosen;
  Object.assign(view, { z: Math.floor(chosen.depth / 2), zoom: 1, centre: { x: 0.5, y: 0.5 }, window: 1, level: 0.5 });
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
  if (done) say(`Segmented ${study.depth} slices in ${seconds} s on ${nameOf(session.gpu!)}.`);
}

async function train(): Promise<void> {
  if (!page.study) return;
  if (session.busy === 'learning') return session.stop();
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
  if (!session.learner) charts.clear();
  const done = await session.learn(page.studies, () => page.study, options);
  if (done) say(`${session.learner ? 'Stopped' : 'Done'}. In use: ${session.weights.name}.`);
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
  turn(slices: number) {
    if (page.study) view.z = Math.max(0, Math.min(page.study.depth - 1, view.z + slices));
    show();
  },
  zoom(factor: number, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2, dx = 0, dy = 0) {
    const { study } = page;
    if (!study) return;
    const before = pixelAt(study, view, canvas, x - dx, y - dy);
    view.zoom = Math.max(1, Math.min(16, view.zoom * factor));
    const after = pixelAt(study, view, canvas, x, y);
    view.centre.x += (before.x - after.x) / study.width;
    view.centre.y += (before.y - after.y) / study.height;
    keepInSight(view);
    show();
  },
  fit() {
    Object.assign(view, { zoom: 1, centre: { x: 0.5, y: 0.5 }, window: 1, level: 0.5 });
    show();
  },
  undo: () => showEdit(brush.undo()),
  redo: () => showEdit(brush.redo()),
  segment: () => void attempt(segment),
  train: () => void attempt(train),
  open: () => input('files').click(),
  help: () => element<HTMLDialogElement>('keys').showModal(),
  takeSegmentation: () => takeOver(page.study?.segmentation?.labels),
  toggle(layer: (typeof layers)[number][1]) {
    view[layer] = !view[layer];
    show();
  },
  toggleLabelled() {
    if (page.study) page.study.labelled[view.z] = !page.study.labelled[view.z];
    show();
  },
  chooseTool(tool: 'look' | 'brush' | 'erase' | 'fill') {
    input(tool).checked = true;
    show();
  },
  chooseClass(k: number) {
    table.chosen = k;
    say(`Paints ${classNames(session.weights.classes)[table.chosen]}.`);
  },
  resize(by: number) {
    const diameter = input('diameter');
    diameter.valueAsNumber += by;
    show();
  },
};
listenToKeys(actions);

// ---- Gestures on the picture.

const at = (x: number, y: number) => pixelAt(page.study!, view, canvas, x, y);
function stroke(x: number, y: number): void {
  const { x: column, y: row } = at(x, y);
  if (input('fill').checked) brush.fill(column, row, table.chosen);
  else brush.disc(column, row, input('diameter').valueAsNumber, input('erase').checked ? 0 : table.chosen);
  show();
}
listen(canvas, {
  paints: () => isPainting() && page.study !== undefined,
  turn: actions.turn,
  window(dx, dy) {
    const share = (pixels: number) => pixels / Math.max(200, canvas.clientWidth);
    view.window = Math.max(0.01, Math.min(1, view.window + share(dx)));
    view.level = Math.max(0, Math.min(1, view.level + share(dy)));
    show();
  },
  zoom: actions.zoom,
  fit: actions.fit,
  strokeStart(x, y) {
    brush.begin(page.study!, view.z);
    stroke(x, y);
  },
  strokeMove(x, y) {
    if (!input('fill').checked) stroke(x, y);
  },
  strokeEnd(undone) {
    brush.end();
    if (undone) brush.undo();
    show();
  },
  hover(point) {
    page.cursor =
      point && page.study ? { ...at(point.x, point.y), diameter: input('diameter').valueAsNumber } : undefined;
    if (isPainting()) show();
  },
});

// ---- Controls.

const onClick = (id: string, work: () => Promise<void> | void) =>
  button(id).addEventListener('click', () => void attempt(work));
const onInput = (id: string, work: (control: HTMLInputElement) => void) =>
  input(id).addEventListener('input', () => {
    work(input(id));
    show();
  });
const save = async (what: string, voxels: Uint8Array): Promise<void> => {
  const stem = page.study!.name.replace(/\.nii(\.gz)?$/i, '').replaceAll(' ', '-');
  download(`${stem}_${what}.nii.gz`, await labelFile(page.study!, voxels));
};

let phantoms = 0;
onClick('open', actions.open);
onClick('open-weights', actions.open);
onClick('phantom', () => openStudy(phantomStudy(phantoms++)));
onClick('segment', segment);
onClick('train', train);
onClick('forget', () => session.forget());
onClick('demonstration', () => session.use(demonstration));
onClick('undo', actions.undo);
onClick('redo', actions.redo);
onClick('fit', actions.fit);
onClick('take-segmentation', actions.takeSegmentation);
onClick('take-truth', () => takeOver(page.study?.truth));
onClick('save-labels', () => save('labels', page.study!.labels));
onClick('save-segmentation', () => save('segmentation', page.study!.segmentation!.labels));
onClick('save-weights', () =>
  download('wgrad-page.safetensors', new Blob([encodeWeights(session.weights) as BlobPart])),
);
onClick('show-keys', actions.help);
onClick('notice-close', closeNotice);
const systemIsDark = matchMedia('(prefers-color-scheme: dark)');
const isDark = (): boolean => {
  const { theme } = document.documentElement.dataset;
  return theme ? theme === 'dark' : systemIsDark.matches;
};
const nameTheme = (): void => {
  button('theme').textContent = isDark() ? 'Light' : 'Dark';
};
onClick('theme', () => {
  document.documentElement.dataset.theme = isDark() ? 'light' : 'dark';
  nameTheme();
});
systemIsDark.addEventListener('change', nameTheme);
nameTheme();
select('study').addEventListener('change', () => choose(page.studies[Number(select('study').value)]!));
onInput('slice', ({ valueAsNumber }) => {
  view.z = valueAsNumber - 1;
});
onInput('window', ({ valueAsNumber }) => {
  view.window = valueAsNumber / 100;
});
onInput('level', ({ valueAsNumber }) => {
  view.level = valueAsNumber / 100;
});
onInput('opacity', ({ valueAsNumber }) => {
  view.opacity = valueAsNumber / 100;
});
for (const id of ['diameter', 'look', 'brush', 'erase', 'fill']) onInput(id, () => {});
for (const [id, layer] of layers) {
  onInput(id, ({ checked }) => {
    view[layer] = checked;
  });
}
onInput('labelled', ({ checked }) => {
  if (page.study) page.study.labelled[view.z] = checked;
});
input('files').addEventListener('change', () => {
  const files = [...(input('files').files ?? [])];
  input('files').value = ''; // so that the same file can be opened again
  void attempt(() => openFiles(files));
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('dropping');
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) document.body.classList.remove('dropping');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dropping');
  const files = [...(event.dataTransfer?.files ?? [])];
  void attempt(() => openFiles(files));
});
new ResizeObserver(show).observe(canvas);

// For the console, and for tests.
Object.assign(globalThis, { page });
void attempt(sayGpu);
show();
