// Draws one slice with what lies over it, scaled to the canvas with the pixels' true proportions, and knows which pixel is
// under which point of the canvas.
import { colorOf } from './classes.js';
import { type Study, sliceAt } from './study.js';

/** How a slice is looked at. */
export interface View {
  z: number;
  /** Window and level as shares of the volume's range. */
  window: number;
  level: number;
  /** 1: the slice fits the canvas. */
  zoom: number;
  /** The point of the slice, as shares of its sides, that is in the canvas's middle. */
  centre: { x: number; y: number };
  opacity: number;
  showSegmentation: boolean;
  showLabels: boolean;
  showConfidence: boolean;
  /** By class. */
  visible: boolean[];
}

export const newView = (classes: number): View => ({
  ...{ z: 0, window: 1, level: 0.5, zoom: 1, centre: { x: 0.5, y: 0.5 }, opacity: 0.45 },
  ...{ showSegmentation: true, showLabels: true, showConfidence: false },
  visible: new Array(classes).fill(true),
});

/** Where the slice lies on a canvas of `width`×`height`: its left top corner and the size of a pixel. */
export function placeOf(study: Study, { zoom, centre }: View, width: number, height: number) {
  const [mmX, mmY] = study.spacing;
  const perMm = zoom * Math.min(width / (study.width * mmX), height / (study.height * mmY));
  const [scaleX, scaleY] = [perMm * mmX, perMm * mmY];
  return {
    left: width / 2 - centre.x * study.width * scaleX,
    top: height / 2 - centre.y * study.height * scaleY,
    scaleX,
    scaleY,
  };
}

/** The slice's continuous pixel coordinates under a point of the canvas. */
export function pixelAt(study: Study, view: View, canvas: HTMLCanvasElement, x: number, y: number) {
  const { left, top, scaleX, scaleY } = placeOf(study, view, canvas.clientWidth, canvas.clientHeight);
  return { x: (x - left) / scaleX, y: (y - top) / scaleY };
}

/** The middle must stay on the slice; what fits is not moved. */
export function keepInSight(view: View): void {
  const reach = view.zoom <= 1 ? 0 : 0.5;
  for (const axis of ['x', 'y'] as const) {
    view.centre[axis] = Math.min(0.5 + reach, Math.max(0.5 - reach, view.centre[axis]));
  }
}

const layer = document.createElement('canvas');

/** Draws pixels at the study's own size, then scaled onto the canvas. */
function paint(
  context: CanvasRenderingContext2D,
  study: Study,
  place: ReturnType<typeof placeOf>,
  smooth: boolean,
  fill: (rgba: Uint8ClampedArray) => void,
): void {
  const { width, height } = study;
  if (layer.width !== width || layer.height !== height) Object.assign(layer, { width, height });
  const small = layer.getContext('2d')!;
  const pixels = small.createImageData(width, height);
  fill(pixels.data);
  small.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = 'high';
  context.drawImage(layer, place.left, place.top, width * place.scaleX, height * place.scaleY);
}

/** Draws the slice, the confidence, the segmentation filled, and labels outlined (filled where they stand alone). */
export function draw(canvas: HTMLCanvasElement, study: Study | undefined, view: View, cursor?: Cursor): void {
  const density = Math.min(devicePixelRatio, 2);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * density)) canvas.width = Math.round(width * density);
  if (canvas.height !== Math.round(height * density)) canvas.height = Math.round(height * density);
  const context = canvas.getContext('2d')!;
  context.setTransform(density, 0, 0, density, 0, 0);
  context.fillStyle = '#000';
  context.fillRect(0, 0, width, height);
  if (!study) return;
  const place = placeOf(study, view, width, height);
  const { z, window, level, visible } = view;

  const image = sliceAt(study, study.image, z);
  const [black, span] = [level - window / 2, Math.max(window, 1e-6)];
  paint(context, study, place, true, (rgba) => {
    for (let i = 0; i < image.length; i++) {
      const grey = (255 * (image[i]! - black)) / span;
      rgba[4 * i] = rgba[4 * i + 1] = rgba[4 * i + 2] = grey;
      rgba[4 * i + 3] = 255;
    }
  });

  const segmentation = study.segmentation;
  const tinted = (classes: Uint8Array, opacity: number) => (rgba: Uint8ClampedArray) => {
    for (let i = 0; i < classes.length; i++) {
      const k = classes[i]!;
      if (!k || !visible[k]) continue;
      rgba.set(colorOf(k), 4 * i);
      rgba[4 * i + 3] = 255 * opacity;
    }
  };
  const filled = view.showSegmentation && segmentation;
  if (filled) paint(context, study, place, false, tinted(sliceAt(study, segmentation.labels, z), view.opacity));
  if (view.showConfidence && segmentation) {
    const confidence = sliceAt(study, segmentation.confidence, z);
    paint(context, study, place, false, (rgba) => {
      for (let i = 0; i < confidence.length; i++) {
        const doubt = (255 - confidence[i]!) / 128; // 1 at a confidence of one half
        rgba.set([255, 235 - 200 * Math.min(1, doubt), 60], 4 * i);
        rgba[4 * i + 3] = 255 * Math.min(1, doubt ** 0.6);
      }
    });
  }
  if (view.showLabels) {
    const labels = sliceAt(study, study.labels, z);
    if (!filled) paint(context, study, place, false, tinted(labels, view.opacity));
    outline(context, study, place, labels, visible);
  }
  if (study.directions) lettersOf(context, study.directions, width, height);
  if (cursor) ring(context, place, cursor);
}

/** Lines between pixels of different classes, in the colour of the class inside. */
function outline(
  context: CanvasRenderingContext2D,
  { width, height }: Study,
  { left, top, scaleX, scaleY }: ReturnType<typeof placeOf>,
  labels: Uint8Array,
  visible: readonly boolean[],
): void {
  const paths = new Map<number, Path2D>();
  const edge = (k: number, x1: number, y1: number, x2: number, y2: number) => {
    if (!k || !visible[k]) return;
    if (!paths.has(k)) paths.set(k, new Path2D());
    const path = paths.get(k)!;
    path.moveTo(left + x1 * scaleX, top + y1 * scaleY);
    path.lineTo(left + x2 * scaleX, top + y2 * scaleY);
  };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const k = labels[y * width + x]!;
      const right = x + 1 < width ? labels[y * width + x + 1]! : 0;
      const below = y + 1 < height ? labels[(y + 1) * width + x]! : 0;
      if (k !== right) edge(Math.max(k, right), x + 1, y, x + 1, y + 1);
      if (k !== below) edge(Math.max(k, below), x, y + 1, x + 1, y + 1);
      if (k && x === 0) edge(k, 0, y, 0, y + 1);
      if (k && y === 0) edge(k, x, 0, x + 1, 0);
    }
  }
  context.lineWidth = 2;
  context.lineCap = 'square';
  for (const [k, path] of paths) {
    context.strokeStyle = `rgb(${colorOf(k)})`;
    context.stroke(path);
  }
}

const opposite: Record<string, string> = { R: 'L', L: 'R', A: 'P', P: 'A', S: 'I', I: 'S' };

function lettersOf(context: CanvasRenderingContext2D, [right = '', down = '']: string, width: number, height: number) {
  context.font = '600 13px system-ui, sans-serif';
  context.textAlign = 'center';
  context.textBaseline = 'middle';
  context.lineWidth = 3;
  context.strokeStyle = '#000';
  context.fillStyle = '#fff';
  const at: [string, number, number][] = [
    [right, width - 14, height / 2],
    [opposite[right] ?? '', 14, height / 2],
    [down, width / 2, height - 14],
    [opposite[down] ?? '', width / 2, 14],
  ];
  for (const [letter, x, y] of at) {
    context.strokeText(letter, x, y);
    context.fillText(letter, x, y);
  }
}

/** Where the brush would paint: in pixels of the slice. */
export interface Cursor {
  readonly x: number;
  readonly y: number;
  readonly diameter: number;
}

function ring(
  context: CanvasRenderingContext2D,
  { left, top, scaleX, scaleY }: ReturnType<typeof placeOf>,
  { x, y, diameter }: Cursor,
): void {
  const radii = [(diameter / 2) * scaleX, (diameter / 2) * scaleY] as const;
  for (const [color, lineWidth] of [
    ['#000', 3],
    ['#fff', 1],
  ] as const) {
    context.beginPath();
    context.ellipse(left + x * scaleX, top + y * scaleY, radii[0], radii[1], 0, 0, 2 * Math.PI);
    Object.assign(context, { strokeStyle: color, lineWidth });
    context.stroke();
  }
}
