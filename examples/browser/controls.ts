// What the page's buttons, sliders and boxes do, and files that are dropped on it.
import { button, element, input, select } from './elements.js';
import { download, labelFile } from './files.js';
import { attempt, closeNotice } from './messages.js';
import { layers, type Shown } from './show.js';
import { phantomStudy, type Study } from './study.js';
import type { Convention } from './viewer.js';
import { encodeWeights } from './weights.js';

export interface Controls {
  open(): void;
  openFiles(files: readonly File[]): Promise<void>;
  openStudy(study: Study): void;
  /** Looks at a study that is open. */
  choose(study: Study): void;
  segment(): void;
  train(): void;
  undo(): void;
  redo(): void;
  fit(): void;
  help(): void;
  takeSegmentation(): void;
  takeTruth(): void;
}

/** Listens on all controls. `moved` after what concerns the picture alone, `changed` after anything else. */
export function listenToControls(page: Shown, on: Controls, moved: () => void, changed: () => void): void {
  const { session, view } = page;
  const onClick = (id: string, work: () => Promise<void> | void) =>
    button(id).addEventListener('click', () => void attempt(work));
  const onInput = (id: string, show: () => void, work: (control: HTMLInputElement) => void) =>
    input(id).addEventListener('input', () => {
      work(input(id));
      show();
    });
  const save = async (what: string, voxels: Uint8Array): Promise<void> => {
    const stem = page.study!.name.replace(/\.nii(\.gz)?$/i, '').replaceAll(' ', '-');
    download(`${stem}_${what}.nii.gz`, await labelFile(page.study!, voxels));
  };

  let phantoms = 0;
  onClick('open', on.open);
  onClick('open-weights', on.open);
  onClick('phantom', () => on.openStudy(phantomStudy(phantoms++)));
  onClick('segment', on.segment);
  onClick('train', on.train);
  onClick('forget', () => session.forget());
  onClick('demonstration', () => session.use(page.demonstration));
  onClick('undo', on.undo);
  onClick('redo', on.redo);
  onClick('fit', on.fit);
  onClick('take-segmentation', on.takeSegmentation);
  onClick('take-truth', on.takeTruth);
  onClick('save-labels', () => save('labels', page.study!.labels));
  onClick('save-segmentation', () => save('segmentation', page.study!.segmentation!.labels));
  onClick('save-weights', () =>
    download('wgrad-page.safetensors', new Blob([encodeWeights(session.weights) as BlobPart])),
  );
  onClick('show-keys', on.help);
  onClick('notice-close', closeNotice);

  select('study').addEventListener('change', () => on.choose(page.studies[select('study').selectedIndex]!));
  onInput('slice', moved, ({ valueAsNumber }) => {
    view.z = valueAsNumber - 1;
  });
  onInput('window', moved, ({ valueAsNumber }) => {
    view.window = valueAsNumber / 100;
  });
  onInput('level', moved, ({ valueAsNumber }) => {
    view.level = valueAsNumber / 100;
  });
  onInput('opacity', moved, ({ valueAsNumber }) => {
    view.opacity = valueAsNumber / 100;
  });
  for (const id of ['diameter', 'look', 'brush', 'erase', 'fill']) onInput(id, moved, () => {});
  for (const [id, layer] of layers) {
    onInput(id, changed, ({ checked }) => {
      view[layer] = checked;
    });
  }
  onInput('planes', changed, ({ checked }) => {
    view.planes = checked;
  });
  select('convention').addEventListener('change', () => {
    view.convention = select('convention').value as Convention;
    moved();
  });
  onInput('labelled', changed, ({ checked }) => {
    if (page.study) page.study.labelled[view.z] = checked;
  });

  input('files').addEventListener('change', () => {
    const files = [...(input('files').files ?? [])];
    input('files').value = ''; // so that the same file can be opened again
    void attempt(() => on.openFiles(files));
  });
  const dropping = (is: boolean) => document.body.classList.toggle('dropping', is);
  document.addEventListener('dragover', (event) => {
    event.preventDefault();
    dropping(true);
  });
  document.addEventListener('dragleave', (event) => {
    if (!event.relatedTarget) dropping(false);
  });
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    dropping(false);
    const files = [...(event.dataTransfer?.files ?? [])];
    void attempt(() => on.openFiles(files));
  });
  new ResizeObserver(moved).observe(element('picture'));
  listenToTheme();
}

/** The system's theme, until the button chooses the other one. */
function listenToTheme(): void {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ? root.dataset.theme === 'dark' : system.matches);
  const name = () => {
    button('theme').textContent = isDark() ? 'Light' : 'Dark';
  };
  button('theme').addEventListener('click', () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    name();
  });
  system.addEventListener('change', name);
  name();
}
