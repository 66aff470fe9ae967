// Draws one plane of a volume with what lies over it, scaled to the canvas with the pixels' true proportions, and knows which pixel
// is under which point of the canvas.
import { type Plane, type PlaneName, planeThrough } from 'wgrad/data';
import { colorOf } from './classes.js';
import type { Study } from './study.js';

/** Which side of an axial or coronal picture the patient's right is on; `stored`: where the file has it. */
export type Convention = 'radiological' | 'neurological' | 'stored';

/** How a volume is looked at. */
export interface View {
  /** The voxel that all planes go through. */
  z: number;
  y: number;
  x: number;
  /** Whether the coronal and the sagittal plane are shown beside the axial one, with lines where planes meet. */
  planes: boolean;
  convention: Convention;
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
  ...{ z: 0, y: 0, x: 0, planes: true, convention: 'radiological' as Convention },
  ...{ window: 1, level: 0.5, zoom: 1, centre: { x: 0.5, y: 0.5 }, opacity: 0.45 },
  ...{ showSegmentation: true, showLabels: true, showConfidence: false },
  visible: new Array(classes).fill(true),
});

const opposite: Record<string, string> = { R: 'L', L: 'R', A: 'P', P: 'A', S: 'I', I: 'S' };

/** A plane through the voxel that is looked at. */
export const planeOf = (
  { depth, height, width, spacing: [mmX, mmY, mmZ] }: Study,
  { z, y, x }: View,
  name: PlaneName,
): Plane => planeThrough(name, [z, y, x], [depth, height, width], [mmZ, mmY, mmX]);

/** Letters of the directions that the columns and the rows of a plane lead to; empty where the header does not say. */
function directionsOf({ directions: [x = '', y = '', z = ''] }: Study, name: PlaneName): [string, string] {
  if (name === 'axial') return [x, y];
  return [name === 'coronal' ? x : y, opposite[z] ?? '']; // the last slice is the first row
}

/** Whether a plane is drawn mirrored across and down: front, or the head, at the top; right and left as the convention has it. */
export function mirroring(study: Study, { convention }: View, name: PlaneName): { across: boolean; down: boolean } {
  if (convention === 'stored') return { across: false, down: false };
  const [across, down] = directionsOf(study, name);
  const towards = convention === 'radiological' ? 'R' : 'L';
  return { across: across === towards || across === 'A', down: down === 'A' || down === 'S' };
}

/** Where a plane lies on a canvas of `width`×`height`, before it is mirrored: its left top corner and the size of a pixel. */
function placeOf(plane: Plane, { zoom, centre }: Pick<View, 'zoom' | 'centre'>, width: number, height: number) {
  const [mmY, mmX] = plane.spacing;
  const perMm = zoom * Math.min(width / (plane.width * mmX), height / (plane.height * mmY));
  const [scaleX, scaleY] = [perMm * mmX, perMm * mmY];
  return {
    left: width / 2 - centre.x * plane.width * scaleX,
    top: height / 2 - centre.y * plane.height * scaleY,
    scaleX,
    scaleY,
  };
}
type Place = ReturnType<typeof placeOf>;

/** Only the axial plane is zoomed. */
const sightOf = (view: View, name: PlaneName) => (name === 'axial' ? view : { zoom: 1, centre: { x: 0.5, y: 0.5 } });

/** A plane's continuous pixel coordinates under a point of the canvas. */
export function pixelAt(
  study: Study,
  view: View,
  canvas: HTMLCanvasElement,
  x: number,
  y: number,
  name: PlaneName = 'axial',
) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const { left, top, scaleX, scaleY } = placeOf(planeOf(study, view, name), sightOf(view, name), width, height);
  const { across, down } = mirroring(study, view, name);
  return { x: ((across ? width - x : x) - left) / scaleX, y: ((down ? height - y : y) - top) / scaleY };
}

/** A voxel of a volume. */
export interface Voxel {
  readonly z: number;
  readonly y: number;
  readonly x: number;
}

/** The voxel under a point of the canvas; undefined beside the plane. */
export function voxelAt(
  study: Study,
  view: View,
  canvas: HTMLCanvasElement,
  x: number,
  y: number,
  name: PlaneName,
): Voxel | undefined {
  const { width, height, voxels } = planeOf(study, view, name);
  const at = pixelAt(study, view, canvas, x, y, name);
  const [column, row] = [Math.floor(at.x), Math.floor(at.y)];
  if (column < 0 || row < 0 || column >= width || row >= height) return undefined;
  const voxel = voxels[row * width + column]!;
  const inPlane = study.height * study.width;
  return { z: Math.floor(voxel / inPlane), y: Math.floor((voxel % inPlane) / study.width), x: voxel % study.width };
}

/** The middle must stay on the slice; what fits is not moved. */
export function keepInSight(view: View): void {
  const reach = view.zoom <= 1 ? 0 : 0.5;
  for (const axis of ['x', 'y'] as const) {
    view.centre[axis] = Math.min(0.5 + reach, Math.max(0.5 - reach, view.centre[axis]));
  }
}

const layer = document.createElement('canvas');

/** Draws pixels at the plane's own size, then scaled onto the canvas. */
function paint(
  context: CanvasRenderingContext2D,
  { width, height }: Plane,
  place: Place,
  smooth: boolean,
  fill: (rgba: Uint8ClampedArray) => void,
): void {
  if (layer.width !== width || layer.height !== height) Object.assign(layer, { width, height });
  const small = layer.getContext('2d')!;
  const pixels = small.createImageData(width, height);
  fill(pixels.data);
  small.putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = smooth;
  context.imageSmoothingQuality = 'high';
  context.drawImage(layer, place.left, place.top, width * place.scaleX, height * place.scaleY);
}

/** Draws a plane, the confidence, the segmentation filled, labels outlined (filled where they stand alone), and where other planes meet it. */
export function draw(
  canvas: HTMLCanvasElement,
  study: Study | undefined,
  view: View,
  cursor?: Cursor,
  name: PlaneName = 'axial',
): void {
  const density = Math.min(devicePixelRatio, 2);
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * density)) canvas.width = Math.round(width * density);
  if (canvas.height !== Math.round(height * density)) canvas.height = Math.round(height * density);
  const context = canvas.getContext('2d')!;
  context.setTransform(density, 0, 0, density, 0, 0);
  context.fillStyle = '#000';
  context.fillRect(0, 0, width, height);
  if (!study) return;
  const plane = planeOf(study, view, name);
  const place = placeOf(plane, sightOf(view, name), width, height);
  const { across, down } = mirroring(study, view, name);
  const [signX, signY] = [across ? -density : density, down ? -density : density];
  context.setTransform(signX, 0, 0, signY, across ? density * width : 0, down ? density * height : 0);
  const { window, level, visible } = view;
  const shown = <A extends Uint8Array | Float32Array>(voxels: A): A => {
    const pixels = new (voxels.constructor as new (count: number) => A)(plane.voxels.length);
    for (let i = 0; i < pixels.length; i++) pixels[i] = voxels[plane.voxels[i]!]!;
    return pixels;
  };

  const image = shown(study.image);
  const [black, span] = [level - window / 2, Math.max(window, 1e-6)];
  paint(context, plane, place, true, (rgba) => {
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
  if (filled) paint(context, plane, place, false, tinted(shown(segmentation.labels), view.opacity));
  if (view.showConfidence && segmentation) {
    const confidence = shown(segmentation.confidence);
    paint(context, plane, place, false, (rgba) => {
      for (let i = 0; i < confidence.length; i++) {
        const doubt = (255 - confidence[i]!) / 128; // 1 at a confidence of one half
        rgba.set([255, 235 - 200 * Math.min(1, doubt), 60], 4 * i);
        rgba[4 * i + 3] = 255 * Math.min(1, doubt ** 0.6);
      }
    });
  }
  if (view.showLabels) {
    const labels = shown(study.labels);
    if (!filled) paint(context, plane, place, false, tinted(labels, view.opacity));
    outline(context, plane, place, labels, visible);
  }
  if (view.planes && study.depth > 1) cross(context, study, view, name, place, width, height);
  if (cursor) ring(context, place, cursor);
  context.setTransform(density, 0, 0, density, 0, 0);
  if (study.directions) {
    const [columns, rows] = directionsOf(study, name);
    const turned = (letter: string, is: boolean) => (is ? (opposite[letter] ?? '') : letter);
    lettersOf(context, turned(columns, across), turned(rows, down), width, height);
  }
}

/** Lines between pixels of different classes, in the colour of the class inside. */
function outline(
  context: CanvasRenderingContext2D,
  { width, height }: Plane,
  { left, top, scaleX, scaleY }: Place,
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

/** Dashed lines where the other two planes meet this one, open about the voxel that they share. */
function cross(
  context: CanvasRenderingContext2D,
  study: Study,
  { z, y, x }: View,
  name: PlaneName,
  { left, top, scaleX, scaleY }: Place,
  width: number,
  height: number,
): void {
  const column = left + ((name === 'sagittal' ? y : x) + 0.5) * scaleX;
  const row = top + ((name === 'axial' ? y : study.depth - 1 - z) + 0.5) * scaleY;
  const gap = 9;
  context.beginPath();
  for (const [x1, y1, x2, y2] of [
    [0, row, column - gap, row],
    [column + gap, row, width, row],
    [column, 0, column, row - gap],
    [column, row + gap, column, height],
  ] as const) {
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
  }
  context.setLineDash([5, 4]);
  Object.assign(context, { strokeStyle: 'rgb(125 182 255 / 75%)', lineWidth: 1 });
  context.stroke();
  context.setLineDash([]);
}

function lettersOf(context: CanvasRenderingContext2D, right: string, down: string, width: number, height: number) {
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
  { left, top, scaleX, scaleY }: Place,
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
