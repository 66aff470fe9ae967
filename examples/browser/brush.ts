// Painting labels on one slice at a time: discs along a stroke, flood fill, and a history that undoes whole strokes.
import { type Study, sliceAt } from './study.js';

interface Edit {
  readonly study: Study;
  readonly z: number;
  readonly before: Uint8Array;
  readonly wasLabelled: boolean;
  after?: Uint8Array;
}

const mostEdits = 200;

export interface Brush {
  /** Starts a stroke on slice z: what follows until `end` is one edit. */
  begin(study: Study, z: number): void;
  /** Paints a disc of `diameter` pixels with class k, and all between it and the stroke's last one. */
  disc(x: number, y: number, diameter: number, k: number): void;
  /** Gives class k to all connected pixels that have the class of pixel (x, y). */
  fill(x: number, y: number, k: number): void;
  /** Replaces the whole slice. */
  replace(pixels: Uint8Array): void;
  /** Ends the stroke; a slice that was touched counts as labelled. */
  end(): void;
  /** Takes the stroke back as if it had not begun. */
  cancel(): void;
  undo(): Study | undefined;
  redo(): Study | undefined;
  /** Whether a stroke has begun and not ended. */
  readonly isDown: boolean;
  readonly canUndo: boolean;
  readonly canRedo: boolean;
  /** The slice that the last undo or redo changed. */
  readonly z: number;
}

export function createBrush(): Brush {
  let edits: Edit[] = [];
  let done = 0; // edits before this one are in force
  let open: Edit | undefined;
  let last: { x: number; y: number } | undefined;
  let z = 0;
  const pixelsOf = (edit: Edit) => sliceAt(edit.study, edit.study.labels, edit.z);

  const stamp = (edit: Edit, x: number, y: number, diameter: number, k: number): void => {
    const { width, height } = edit.study;
    const pixels = pixelsOf(edit);
    const radius = diameter / 2;
    // A disc about the pointer that always covers the pixel below it.
    for (let j = Math.max(0, Math.floor(y - radius)); j <= Math.min(height - 1, Math.ceil(y + radius)); j++) {
      for (let i = Math.max(0, Math.floor(x - radius)); i <= Math.min(width - 1, Math.ceil(x + radius)); i++) {
        const near = (i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2 < radius ** 2;
        if (near || (i === Math.floor(x) && j === Math.floor(y))) pixels[j * width + i] = k;
      }
    }
  };
  const apply = (edit: Edit, pixels: Uint8Array, labelled: boolean): Study => {
    pixelsOf(edit).set(pixels);
    edit.study.labelled[edit.z] = labelled;
    z = edit.z;
    return edit.study;
  };

  return {
    begin(study, slice) {
      this.end();
      open = {
        study,
        z: slice,
        before: sliceAt(study, study.labels, slice).slice(),
        wasLabelled: study.labelled[slice]!,
      };
      last = undefined;
    },
    disc(x, y, diameter, k) {
      if (!open) return;
      const from = last ?? { x, y };
      const steps = Math.max(1, Math.ceil(Math.hypot(x - from.x, y - from.y) / Math.max(0.5, diameter / 4)));
      for (let i = last ? 1 : steps; i <= steps; i++) {
        stamp(open, from.x + ((x - from.x) * i) / steps, from.y + ((y - from.y) * i) / steps, diameter, k);
      }
      last = { x, y };
    },
    fill(x, y, k) {
      if (!open) return;
      const { width, height } = open.study;
      const pixels = pixelsOf(open);
      const [column, row] = [Math.floor(x), Math.floor(y)];
      if (column < 0 || row < 0 || column >= width || row >= height) return;
      const from = pixels[row * width + column]!;
      if (from === k) return;
      const waiting = [row * width + column];
      for (let i = waiting.pop(); i !== undefined; i = waiting.pop()) {
        if (pixels[i] !== from) continue;
        pixels[i] = k;
        if (i % width > 0) waiting.push(i - 1);
        if (i % width < width - 1) waiting.push(i + 1);
        if (i >= width) waiting.push(i - width);
        if (i < width * (height - 1)) waiting.push(i + width);
      }
    },
    replace(pixels) {
      if (open) pixelsOf(open).set(pixels);
    },
    end() {
      if (!open) return;
      open.after = pixelsOf(open).slice();
      open.study.labelled[open.z] = true;
      edits = [...edits.slice(0, done), open].slice(-mostEdits);
      done = edits.length;
      open = undefined;
    },
    cancel() {
      if (open) apply(open, open.before, open.wasLabelled);
      open = undefined;
    },
    undo() {
      const edit = edits[done - 1];
      if (!edit || open) return undefined;
      done--;
      return apply(edit, edit.before, edit.wasLabelled);
    },
    redo() {
      const edit = edits[done];
      if (!edit || open) return undefined;
      done++;
      return apply(edit, edit.after!, true);
    },
    get isDown() {
      return open !== undefined;
    },
    get canUndo() {
      return done > 0;
    },
    get canRedo() {
      return done < edits.length;
    },
    get z() {
      return z;
    },
  };
}
