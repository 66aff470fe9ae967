// Keyboard shortcuts. Where a control has the focus that uses a key itself (numbers, sliders, lists, buttons), it keeps it; so
// does the window, to scroll, while nothing is open.
import { closeNotice } from './messages.js';

export interface Keys {
  /** Whether there are slices to turn. */
  isOpen(): boolean;
  turn(slices: number): void;
  zoom(factor: number): void;
  fit(): void;
  undo(): void;
  redo(): void;
  segment(): void;
  train(): void;
  open(): void;
  help(): void;
  takeSegmentation(): void;
  toggleLabelled(): void;
  toggle(layer: 'showSegmentation' | 'showLabels' | 'showConfidence' | 'planes'): void;
  chooseTool(tool: 'look' | 'brush' | 'erase' | 'fill'): void;
  chooseClass(k: number): void;
  resize(by: number): void;
  /** Moves the brush, or the zoomed slice. */
  nudge(dx: number, dy: number): void;
  /** Presses the brush down, or lifts it. */
  press(down: boolean): void;
}

/** Listens on the document. */
export function listenToKeys(on: Keys): void {
  const byKey: Record<string, () => void> = {
    ArrowUp: () => on.turn(1),
    ArrowRight: () => on.turn(1),
    ArrowDown: () => on.turn(-1),
    ArrowLeft: () => on.turn(-1),
    '+': () => on.zoom(1.25),
    '=': () => on.zoom(1.25),
    '-': () => on.zoom(0.8),
    Home: () => on.fit(),
    v: () => on.chooseTool('look'),
    b: () => on.chooseTool('brush'),
    e: () => on.chooseTool('erase'),
    f: () => on.chooseTool('fill'),
    '[': () => on.resize(-1),
    ']': () => on.resize(1),
    g: () => on.toggle('showSegmentation'),
    l: () => on.toggle('showLabels'),
    c: () => on.toggle('showConfidence'),
    x: () => on.toggle('planes'),
    m: on.toggleLabelled,
    p: on.takeSegmentation,
    s: on.segment,
    t: on.train,
    o: on.open,
    '?': on.help,
    Escape: closeNotice,
  };
  const arrows: Record<string, [dx: number, dy: number]> = {
    ArrowUp: [0, -1],
    ArrowDown: [0, 1],
    ArrowLeft: [-1, 0],
    ArrowRight: [1, 0],
  };
  document.addEventListener('keydown', (event) => {
    const target = event.target as HTMLElement;
    if (document.querySelector('dialog[open]')) return;
    const kind = target.localName === 'input' ? (target as HTMLInputElement).type : target.localName;
    if ((kind === 'number' || kind === 'select') && event.key !== 'Escape') return;
    if ((kind === 'range' || kind === 'radio') && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    const arrow = arrows[event.key];
    if (arrow && !on.isOpen()) return;
    let work: (() => void) | undefined;
    if ((event.ctrlKey || event.metaKey) && !event.altKey) {
      const key = event.key.toLowerCase();
      if (key === 'z') work = event.shiftKey ? on.redo : on.undo;
      if (key === 'y') work = on.redo;
    } else if (!event.altKey) {
      work = byKey[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (/^[1-9]$/.test(event.key)) work = () => on.chooseClass(Number(event.key));
      if (arrow && event.shiftKey) work = () => on.nudge(...arrow);
      if (event.key === ' ' && target.id === 'picture') work = () => on.press(true);
    }
    if (!work) return;
    event.preventDefault();
    work();
  });
  document.addEventListener('keyup', ({ key }) => {
    if (key === ' ') on.press(false);
  });
  window.addEventListener('blur', () => on.press(false));
}
