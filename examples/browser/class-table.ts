// The table of classes: which one is painted, which are shown, and their volumes in ml.
import { classNames, colorOf } from './classes.js';
import { element } from './elements.js';

export interface ClassTable {
  /** The class to paint. */
  chosen: number;
  /** Rows for so many classes; does nothing if they are there. */
  setCount(classes: number): void;
  /** Volumes by class, where known. */
  setVolumes(labels: readonly number[] | undefined, segmented: readonly number[] | undefined): void;
}

const ml = (value: number | undefined): string =>
  value === undefined ? '–' : `${value < 10 ? value.toFixed(2) : value.toFixed(1)} ml`;

/** Fills `#classes`; `shown` is written by the table, `changed` is called after a click. */
export function createClassTable(shown: boolean[], changed: () => void): ClassTable {
  const body = element('classes');
  let cells: { labels: HTMLElement; segmented: HTMLElement; radio: HTMLInputElement }[] = [];
  let chosen = 1;
  const control = (type: 'radio' | 'checkbox', checked: boolean): HTMLInputElement => {
    const made = document.createElement('input');
    made.type = type;
    made.checked = checked;
    return made;
  };
  const cell = (row: HTMLTableRowElement, className: string, ...content: (Node | string)[]) => {
    const made = row.insertCell();
    made.className = className;
    made.append(...content);
    return made;
  };
  return {
    get chosen() {
      return chosen;
    },
    set chosen(k) {
      if (!cells[k - 1]) return;
      chosen = k;
      cells[k - 1]!.radio.checked = true;
      changed();
    },
    setCount(classes) {
      if (cells.length === classes - 1) return;
      body.replaceChildren();
      chosen = Math.min(chosen, classes - 1);
      for (let k = 0; k < classes; k++) shown[k] ??= true;
      cells = classNames(classes)
        .slice(1)
        .map((name, i) => {
          const k = i + 1;
          const row = document.createElement('tr');
          body.append(row);
          const radio = control('radio', k === chosen);
          radio.name = 'class';
          radio.addEventListener('change', () => {
            chosen = k;
            changed();
          });
          const swatch = document.createElement('span');
          swatch.className = 'swatch';
          swatch.style.background = `rgb(${colorOf(k)})`;
          const label = document.createElement('label');
          label.append(radio, swatch, name);
          const box = control('checkbox', shown[k]!);
          box.ariaLabel = `Show ${name}`;
          box.addEventListener('change', () => {
            shown[k] = box.checked;
            changed();
          });
          cell(row, '', label);
          const around = document.createElement('label'); // larger than the box, for fingers
          around.className = 'check';
          around.append(box);
          cell(row, '', around);
          return { radio, labels: cell(row, 'number', '–'), segmented: cell(row, 'number', '–') };
        });
    },
    setVolumes(labels, segmented) {
      cells.forEach((row, i) => {
        row.labels.textContent = ml(labels?.[i + 1]);
        row.segmented.textContent = ml(segmented?.[i + 1]);
      });
    },
  };
}
