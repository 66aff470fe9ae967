// What mouse, pen and fingers do on the picture. The wheel turns slices; a drag looks (window and level) or paints; a finger
// that looks swipes through the slices; a click picks a pixel; two fingers, or the wheel with Ctrl, zoom; two fingers or the middle button move.

export interface Gestures {
  /** Whether a drag paints. */
  paints(): boolean;
  turn(slices: number): void;
  window(dx: number, dy: number): void;
  /** A click, where nothing is painted. */
  pick(x: number, y: number): void;
  /** Zooms by a factor about a point of the canvas, and moves by pixels of the canvas. */
  zoom(factor: number, x: number, y: number, dx: number, dy: number): void;
  fit(): void;
  strokeStart(x: number, y: number): void;
  strokeMove(x: number, y: number): void;
  /** `undone`: a second finger came, so it was no stroke. */
  strokeEnd(undone: boolean): void;
  /** The mouse is at a point, or left. */
  hover(at: { x: number; y: number } | undefined): void;
}

const pixelsPerSlice = 24; // of a swipe, and of the wheel's finer steps

/** Listens on a canvas. */
export function listen(canvas: HTMLCanvasElement, on: Gestures): void {
  const pointers = new Map<number, { x: number; y: number }>();
  let mode: 'none' | 'stroke' | 'window' | 'swipe' | 'move' = 'none';
  let begun: { x: number; y: number } | undefined; // where a press began that may be a click
  let rest = 0; // of a swipe or the wheel, less than a slice
  const at = (event: PointerEvent | WheelEvent) => ({ x: event.offsetX, y: event.offsetY });
  const turnBy = (pixels: number) => {
    rest += pixels;
    const slices = Math.trunc(rest / pixelsPerSlice);
    if (!slices) return;
    rest -= slices * pixelsPerSlice;
    on.turn(slices);
  };
  const pair = () => {
    const [a, b] = [...pointers.values()] as [{ x: number; y: number }, { x: number; y: number }];
    return { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  };

  canvas.addEventListener('pointerdown', (event) => {
    const where = at(event);
    pointers.set(event.pointerId, where);
    try {
      canvas.setPointerCapture(event.pointerId);
    } catch {} // the pointer is gone already
    if (pointers.size === 2) {
      if (mode === 'stroke') on.strokeEnd(true);
      mode = 'move';
    } else if (pointers.size === 1) {
      rest = 0;
      begun = event.button === 0 ? where : undefined;
      if (event.button === 1) mode = 'move';
      else if (event.button === 0 && on.paints()) {
        mode = 'stroke';
        on.strokeStart(where.x, where.y);
      } else mode = event.pointerType === 'touch' ? 'swipe' : 'window';
    }
  });
  canvas.addEventListener('pointermove', (event) => {
    const before = pointers.get(event.pointerId);
    const where = at(event);
    if (begun && Math.hypot(where.x - begun.x, where.y - begun.y) > 3) begun = undefined;
    if (event.pointerType !== 'touch') on.hover(where);
    if (!before) return;
    const old = pointers.size === 2 ? pair() : undefined;
    pointers.set(event.pointerId, where);
    const [dx, dy] = [where.x - before.x, where.y - before.y];
    if (old) {
      const now = pair();
      on.zoom(now.apart / old.apart, now.x, now.y, now.x - old.x, now.y - old.y);
    } else if (mode === 'move') on.zoom(1, where.x, where.y, dx, dy);
    else if (begun)
      return; // too short to be a drag
    else if (mode === 'window') on.window(dx, dy);
    else if (mode === 'swipe') turnBy(-dy);
    else if (mode === 'stroke') {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const each of between.length ? between : [event]) on.strokeMove(each.offsetX, each.offsetY);
    }
  });
  const lift = (event: PointerEvent) => {
    if (!pointers.delete(event.pointerId)) return;
    if (mode === 'stroke') on.strokeEnd(false);
    else if (begun && (mode === 'window' || mode === 'swipe')) on.pick(begun.x, begun.y);
    if (!pointers.size || mode === 'stroke') mode = 'none';
  };
  canvas.addEventListener('pointerup', lift);
  canvas.addEventListener('pointercancel', lift);
  canvas.addEventListener('pointerleave', () => on.hover(undefined));
  canvas.addEventListener('dblclick', () => {
    if (!on.paints()) on.fit();
  });
  canvas.addEventListener(
    'wheel',
    (event) => {
      event.preventDefault();
      const { x, y } = at(event);
      if (event.ctrlKey || event.metaKey) on.zoom(Math.exp(-event.deltaY / 200), x, y, 0, 0);
      else if (event.deltaMode !== 0 || Math.abs(event.deltaY) >= 50) on.turn(Math.sign(event.deltaY));
      else turnBy(event.deltaY);
    },
    { passive: false },
  );
}
