// Keyboard shortcuts. Where a control has the focus that uses a key itself (numbers, sliders, lists, buttons), it keeps it.

export interface Keys {
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
  toggle(layer: 'showSegmentation' | 'showLabels' | 'showConfidence'): void;
  chooseTool(tool: 'look' | 'brush' | 'erase' | 'fill'): void;
  chooseClass(k: number): void;
  resize(by: number): void;
}

/** Listens on the document. */
export function listenToKeys(on: Keys): void {
  const byKey: Record<string, () => void> = {
    ArrowUp: () => on.turn(1),
    ArrowRight: () => on.turn(1),
    PageUp: () => on.turn(1),
    ArrowDown: () => on.turn(-1),
    ArrowLeft: () => on.turn(-1),
    PageDown: () => on.turn(-1),
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
    m: on.toggleLabelled,
    p: on.takeSegmentation,
    s: on.segment,
    t: on.train,
    o: on.open,
    '?': on.help,
  };
  document.addEventListener('keydown', (event) => {
    const target = event.target as HTMLElement;
    if (document.querySelector('dialog[open]')) return;
    const kind = target.localName === 'input' ? (target as HTMLInputElement).type : target.localName;
    if (kind === 'number' || kind === 'select') return;
    if ((kind === 'range' || kind === 'radio') && /^(Arrow|Page|Home|End)/.test(event.key)) return;
    let work: (() => void) | undefined;
    if ((event.ctrlKey || event.metaKey) && !event.altKey) {
      const key = event.key.toLowerCase();
      if (key === 'z') work = event.shiftKey ? on.redo : on.undo;
      if (key === 'y') work = on.redo;
    } else if (!event.altKey) {
      work = byKey[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (/^[1-9]$/.test(event.key)) work = () => on.chooseClass(Number(event.key));
    }
    if (!work) return;
    event.preventDefault();
    work();
  });
}
