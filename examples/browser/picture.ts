// What a hand on the picture does: turns, window and level, zoom, and strokes of the brush, by pointer or by keys.
import { element, input } from './elements.js';
import { listen } from './gestures.js';
import { say } from './messages.js';
import { isPainting, type Shown } from './show.js';
import { keepInSight, mirroring, pixelAt, voxelAt } from './viewer.js';

const canvas = element<HTMLCanvasElement>('picture');

/** What keys may ask for too. */
export interface Picture {
  turn(slices: number): void;
  /** Zooms about a point of the canvas, else its middle, and moves by pixels of the canvas. */
  zoom(factor: number, x?: number, y?: number, dx?: number, dy?: number): void;
  fit(): void;
  /** Moves the brush by pixels of the slice, or the zoomed slice where nothing is painted. */
  nudge(dx: number, dy: number): void;
  /** Presses the brush down where it is, or lifts it. */
  press(down: boolean): void;
}

/** Listens on the picture. `moved` after what concerns the picture alone, `painted` after a stroke. */
export function listenToPicture(page: Shown, moved: () => void, painted: () => void): Picture {
  const { brush, table, view } = page;
  const pixel = (x: number, y: number) => pixelAt(page.study!, view, canvas, x, y);
  const diameter = () => input('diameter').valueAsNumber;
  const paints = () => isPainting() && page.study !== undefined;
  const begin = () => brush.begin(page.study!, view.z);
  const paint = (x: number, y: number): void => {
    if (input('fill').checked) brush.fill(x, y, table.chosen);
    else brush.disc(x, y, diameter(), input('erase').checked ? 0 : table.chosen);
    moved();
  };
  const end = () => {
    brush.end();
    painted();
  };

  const picture: Picture = {
    turn(slices) {
      if (page.study && !brush.isDown) view.z = Math.max(0, Math.min(page.study.depth - 1, view.z + slices));
      moved();
    },
    zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2, dx = 0, dy = 0) {
      const { study } = page;
      if (!study) return;
      const before = pixel(x - dx, y - dy);
      view.zoom = Math.max(1, Math.min(16, view.zoom * factor));
      const after = pixel(x, y);
      view.centre.x += (before.x - after.x) / study.width;
      view.centre.y += (before.y - after.y) / study.height;
      keepInSight(view);
      moved();
    },
    fit() {
      Object.assign(view, { zoom: 1, centre: { x: 0.5, y: 0.5 }, window: 1, level: 0.5 });
      moved();
    },
    nudge(dx, dy) {
      const { study } = page;
      if (!study) return;
      if (!paints()) return picture.zoom(1, 0, 0, -24 * dx, -24 * dy);
      const { across, down } = mirroring(study, view, 'axial');
      const from = page.cursor ?? pixel(canvas.clientWidth / 2, canvas.clientHeight / 2);
      const within = (value: number, sides: number) => Math.max(0, Math.min(sides - 1, Math.floor(value))) + 0.5;
      const [x, y] = [
        within(from.x + (across ? -dx : dx), study.width),
        within(from.y + (down ? -dy : dy), study.height),
      ];
      page.cursor = { x, y, diameter: diameter() };
      if (brush.isDown && !input('fill').checked) paint(x, y);
      say(`Brush at column ${Math.ceil(x)}, row ${Math.ceil(y)}.`);
      moved();
    },
    press(down) {
      if (!down) {
        if (brush.isDown) end();
      } else if (paints() && !brush.isDown) {
        if (!page.cursor) picture.nudge(0, 0);
        begin();
        paint(page.cursor!.x, page.cursor!.y);
      }
    },
  };

  listen(canvas, {
    paints,
    turn: picture.turn,
    window(dx, dy) {
      const share = (pixels: number) => pixels / Math.max(200, canvas.clientWidth);
      view.window = Math.max(0.01, Math.min(1, view.window + share(dx)));
      view.level = Math.max(0, Math.min(1, view.level + share(dy)));
      moved();
    },
    pick(x, y) {
      page.pointer = { name: 'axial', x, y };
      if (page.study) Object.assign(view, voxelAt(page.study, view, canvas, x, y, 'axial'));
      moved();
    },
    zoom: picture.zoom,
    fit: picture.fit,
    strokeStart(x, y) {
      begin();
      const at = pixel(x, y);
      paint(at.x, at.y);
    },
    strokeMove(x, y) {
      const at = pixel(x, y);
      if (!input('fill').checked) paint(at.x, at.y);
    },
    strokeEnd(undone) {
      if (!undone) return end();
      brush.cancel();
      painted();
    },
    hover(point) {
      page.cursor = point && page.study ? { ...pixel(point.x, point.y), diameter: diameter() } : undefined;
      page.pointer = point && { name: 'axial', ...point };
      if (page.study) moved();
    },
  });
  return picture;
}
