// Short-axis cardiac MR phantoms with ground truth. The anatomy is analytic, in millimetres
// and polar about the left ventricle; its tissues only look alike where they do in patients (liver and stomach wall like
// myocardium, fat like blood), so that a network cannot get by with a threshold.
import { normalStream, uniformStream } from '../../engine/index.js';
import { drawPatient, LATTICE, type Patient, type Phase, type SliceAnatomy, type Wave } from './phantom-anatomy.js';

/** One frame of a phantom, [slices, size, size]. */
export interface PhantomFrame {
  readonly frame: number;
  readonly image: Int16Array;
  /** 0 background, 1 right ventricle, 2 myocardium, 3 left ventricle. */
  readonly label: Uint8Array;
}

/** End-diastole and end-systole of one heart. */
export interface Phantom {
  readonly shape: readonly [width: number, height: number, depth: number];
  /** mm along x, y, z. */
  readonly spacing: readonly [number, number, number];
  /** ACDC's names: NOR, DCM, HCM, MINF, RV. */
  readonly group: string;
  readonly diastole: PhantomFrame;
  readonly systole: PhantomFrame;
}

const FIELD_OF_VIEW = 230; // mm; 128 pixels of 1.8 mm

/** Heart number `index` of a seed. */
export function createPhantom({ size, seed, index }: { size: number; seed: number; index: number }): Phantom {
  const patient = drawPatient(uniformStream(seed, STREAM + 4 * index));
  const normal = normalStream(uniformStream(seed, STREAM + 4 * index + 1));
  const { slices } = patient;
  const pixels = size * size;
  const frames = [patient.diastole, patient.systole].map((phase) => ({
    frame: phase.frame,
    signal: new Float32Array(slices.length * pixels),
    label: new Uint8Array(slices.length * pixels),
  }));
  const canvas = new Float32Array(pixels);
  for (const [z, slice] of slices.entries()) {
    drawSurroundings(canvas, size, patient, slice);
    for (const [i, phase] of [patient.diastole, patient.systole].entries()) {
      const range = [z * pixels, (z + 1) * pixels] as const;
      const signal = frames[i]!.signal.subarray(...range);
      signal.set(canvas);
      drawHeart(signal, frames[i]!.label.subarray(...range), size, patient, slice, phase);
      if (slice.blur) blurAlong(signal, size, slice.blur);
    }
  }
  const pixel = (FIELD_OF_VIEW * patient.zoom) / size;
  const round = (mm: number) => Math.fround(Math.round(mm * 1e4) / 1e4);
  const [diastole, systole] = frames.map(({ frame, signal, label }) => ({
    frame,
    image: acquire(signal, size, patient, normal),
    label,
  })) as [PhantomFrame, PhantomFrame];
  return {
    shape: [size, size, slices.length],
    spacing: [round(pixel), round(pixel), round(patient.sliceDistance)],
    group: patient.group,
    diastole,
    systole,
  };
}

const STREAM = 0x40000000; // keeps these numbers apart from others of the same seed

/** Smooth noise in [0, 1] with features of about `scale` mm. */
function texture({ lattice }: Patient, x: number, y: number, scale: number, shift: number): number {
  // Turned by 37°, so that the lattice's directions are not the picture's.
  const u = (0.8 * x + 0.6 * y) / scale + shift;
  const v = (0.8 * y - 0.6 * x) / scale + shift * 1.7;
  const column = Math.floor(u);
  const row = Math.floor(v);
  const smooth = (t: number) => t * t * (3 - 2 * t);
  const right = smooth(u - column);
  const down = smooth(v - row);
  const at = (r: number, c: number) => lattice[(r & (LATTICE - 1)) * LATTICE + (c & (LATTICE - 1))]!;
  const top = at(row, column) * (1 - right) + at(row, column + 1) * right;
  const bottom = at(row + 1, column) * (1 - right) + at(row + 1, column + 1) * right;
  return top * (1 - down) + bottom * down;
}

const waveAt = (wave: Wave, angle: number): number => {
  let sum = 0;
  for (const { n, amplitude, phase } of wave) sum += amplitude * Math.cos(n * angle - phase);
  return sum;
};

/** Share of a pixel inside a border at signed distance d (negative inside), with the border `width` wide. */
const coverage = (d: number, width: number): number => Math.min(1, Math.max(0, 0.5 - d / width));
/** Many times faster than Math.hypot, which guards against overflow. */
const length = (x: number, y: number): number => Math.sqrt(x * x + y * y);
/** 0 below `from`, 1 from `to` on, linear between. */
const ramp = (value: number, from: number, to: number): number =>
  Math.min(1, Math.max(0, (value - from) / (to - from)));
const mix = (below: number, above: number, share: number): number => below + (above - below) * share;

/** Relative radius of the left ventricle along its axis: nearly cylindrical, then a rounded tip. */
const taper = (level: number): number => Math.sqrt(Math.max(0, 1 - Math.max(0, level * 0.98) ** 2.4));

// ---- Painting, back to front, in arbitrary signal units (1 = brightest blood or fat).

function drawSurroundings(canvas: Float32Array, size: number, patient: Patient, slice: SliceAnatomy): void {
  const { body, tissue, diaphragm, organs, aorta, spine, left } = patient;
  const pixel = (FIELD_OF_VIEW * patient.zoom) / size;
  const width = Math.max(1.5, pixel);
  const { level } = slice;
  const height = body.radii.y * (1 - body.narrowing * Math.max(0, level));
  const floor =
    slice.centre.y + left.radius * (0.25 + 0.7 * taper(level)) + diaphragm.gap - diaphragm.rise * (level - 0.3);
  const present = organs.map((organ) => {
    const share = 1 - ((level - organ.level) / organ.reach) ** 2;
    return {
      organ,
      scale: share > 0 ? Math.sqrt(share) : 0,
      cosine: Math.cos(organ.angle),
      sine: Math.sin(organ.angle),
    };
  });
  for (let row = 0; row < size; row++) {
    const y = (row + 0.5 - size / 2) * pixel;
    for (let column = 0; column < size; column++) {
      const x = (column + 0.5 - size / 2) * pixel;
      const bx = (x - body.centre.x) / body.radii.x;
      const by = (y - body.centre.y) / height;
      const outline = 1 + waveAt(body.outline, Math.atan2(by, bx));
      const inside = (outline - length(bx, by)) * Math.min(body.radii.x, height); // mm below the skin
      if (inside < -width) {
        canvas[row * size + column] = 0;
        continue;
      }
      // Lung with vessels; the organs below the diaphragm; the chest wall over both.
      const coarse = texture(patient, x, y, 21, slice.texture * 0.01);
      const fine = texture(patient, x + 12 * coarse, y - 9 * coarse, 5, slice.texture);
      let value = tissue.lung + 0.5 * ramp(fine, 0.72, 1) * coarse;
      const below = floor + diaphragm.slope * x - diaphragm.bend * (x - 20) ** 2 - y + 6 * (coarse - 0.5);
      const abdomen = coverage(below, width);
      if (abdomen > 0) {
        let organ = tissue.fat * (0.72 + 0.35 * coarse) * (0.55 + 0.45 * ramp(fine, 0.1, 0.35));
        for (const { organ: o, scale, cosine, sine } of present) {
          if (scale === 0) continue;
          const ox = (x - o.centre.x) * cosine + (y - o.centre.y) * sine;
          const oy = (y - o.centre.y) * cosine - (x - o.centre.x) * sine;
          const reach = length(ox / o.radii.x, oy / o.radii.y);
          const d = (reach - scale * (0.85 + 0.3 * coarse)) * Math.min(o.radii.x, o.radii.y);
          if (d > width) continue;
          const content = o.wall > 0 ? mix(tissue.myocardium, o.intensity, coverage(d + o.wall, width)) : o.intensity;
          organ = mix(organ, content * (0.85 + 0.3 * fine), coverage(d, width));
        }
        const vessel = 0.6 * ramp(fine, 0.72, 1) * coarse;
        const liver = coverage(x - patient.liverEdge + 0.5 * (y - floor) + 14 * (coarse - 0.5), width);
        value = mix(value, mix(organ, tissue.liver * (0.9 + 0.2 * coarse) + vessel, liver), abdomen);
      }
      const toSpine = length(x - spine.centre.x, y - spine.centre.y) - spine.radius;
      value = mix(value, tissue.bone * (0.7 + 0.5 * fine), coverage(toSpine, width));
      const toAorta = length(x - aorta.centre.x, y - aorta.centre.y) - aorta.radius;
      value = mix(value, tissue.muscle, coverage(toAorta - 2, width));
      value = mix(value, tissue.blood * (0.9 + 0.15 * coarse), coverage(toAorta, width));
      const fat = body.fat * (0.6 + 0.9 * coarse);
      const rib = mix(tissue.muscle, tissue.bone, ramp(texture(patient, x, y, 11, 31.7), 0.5, 0.7));
      value = mix(value, rib, coverage(inside - fat - 9, width));
      value = mix(value, tissue.fat * (0.85 + 0.2 * fine), coverage(inside - fat, width));
      canvas[row * size + column] = mix(value, 0, coverage(inside, width));
    }
  }
}

function drawHeart(
  signal: Float32Array,
  label: Uint8Array,
  size: number,
  patient: Patient,
  slice: SliceAnatomy,
  phase: Phase,
): void {
  const { left, right, fat, tissue } = patient;
  const pixel = (FIELD_OF_VIEW * patient.zoom) / size;
  const level = (slice.level - phase.descent) / (1 - phase.descent);
  const isAtrium = level < -0.03;
  // Slices are about 8 mm thick: towards the tip the borders are slanted and blur.
  const width = Math.max(1.6, pixel) + 4 * Math.max(0, level) ** 3;
  const radius = left.radius * phase.radiusScale * taper(level);
  if (radius <= 0) return;
  const rightDepth = right.depth * phase.rightScale * Math.max(0, 1 - Math.max(0, level / right.end) ** 1.8);
  const wallScale = phase.wallScale * (1 - 0.15 * Math.max(0, level)) * (isAtrium ? 0.3 : 1);
  const up = right.reach.up * (1 + right.outflow * Math.max(0, 0.35 - level));
  const bound = radius * 1.2 + rightDepth + right.wall + fat.thickness + fat.groove + 13;
  const papillary = left.papillary.map(({ angle, distance, ...rest }) => ({
    ...rest,
    x: Math.cos(angle) * distance,
    y: Math.sin(angle) * distance,
  }));
  for (let row = 0; row < size; row++) {
    const y = (row + 0.5 - size / 2) * pixel - slice.centre.y;
    if (Math.abs(y) > bound) continue;
    for (let column = 0; column < size; column++) {
      const x = (column + 0.5 - size / 2) * pixel - slice.centre.x;
      const r = length(x, y);
      if (r > bound) continue;
      // Angle from the septum, in (−π, π]; "up" is anterior, the outflow's side.
      let angle = Math.atan2(y, x) - left.septum;
      if (angle < -Math.PI) angle += 2 * Math.PI;
      const outer = radius * (1 + waveAt(left.outline, angle));
      const scar = left.scar.depth * Math.exp(-(((angle - left.scar.angle) / left.scar.width) ** 2));
      const inner = outer - left.wall * wallScale * (1 + left.septal * Math.cos(angle)) * (1 - scar);
      const reach = angle > 0 ? up : right.reach.down;
      const across = (angle - right.skew) / (angle > right.skew ? reach - right.skew : reach + right.skew);
      const crescent = Math.abs(across) < 1 ? rightDepth * Math.cos((across * Math.PI) / 2) ** right.fullness : 0;
      const hasRight = crescent > 1;
      const edge = outer + (hasRight ? crescent : 0);

      const coarse = texture(patient, x, y, 17, slice.texture * 0.3 + phase.frame);
      const fine = texture(patient, x + 9 * coarse, y - 7 * coarse, 4.5, slice.texture + phase.frame);
      const i = row * size + column;
      let value = signal[i]!;
      // Fat around the heart, thickest in the grooves where the right ventricle meets the left.
      const groove = rightDepth > 1 ? fat.groove * Math.exp(-(((Math.abs(across) - 1) / 0.22) ** 2)) : 0;
      const fatEdge =
        edge + (hasRight ? right.wall : 0) + fat.thickness * 2 * coarse + 7 * Math.max(0, level) ** 2 + groove;
      value = mix(value, tissue.lung, coverage(r - fatEdge - 1.2, 1.6)); // the dark line of the pericardium
      value = mix(value, tissue.fat * (0.6 + 0.4 * fine), coverage(r - fatEdge, width));
      const muscle = tissue.myocardium * (0.88 + 0.24 * coarse);
      const blood = tissue.blood * (0.86 + 0.2 * coarse - (isAtrium ? 0.25 * fine : 0));
      if (hasRight) {
        value = mix(value, muscle, coverage(r - edge - right.wall, width));
        const rough = edge + Math.min(0, waveAt(right.trabeculae, angle)) * Math.min(1, crescent / 12);
        const strand = 0.6 * ramp(fine, 0.6, 0.8) * ramp(r - outer, crescent * 0.35, crescent * 0.6); // trabeculae near the free wall
        value = mix(value, mix(blood, muscle, strand), coverage(r - rough, width));
      }
      value = mix(value, muscle, coverage(r - outer, width));
      if (inner > 1) {
        const rough = inner + Math.min(0, waveAt(left.trabeculae, angle)) * Math.min(1, inner / 15);
        let cavity = blood;
        for (const muscleHead of papillary) {
          if (level < muscleHead.from || level > muscleHead.to) continue;
          const d = length(x - muscleHead.x * inner, y - muscleHead.y * inner);
          cavity = mix(cavity, muscle, coverage(d - muscleHead.radius, width));
        }
        value = mix(value, cavity, coverage(r - rough, width));
      }
      signal[i] = value;
      if (isAtrium) continue; // above the valves: blood, but no ventricle
      if (r < inner && inner > 1) label[i] = 3;
      else if (r < outer) label[i] = 2;
      else if (hasRight && r < edge) label[i] = 1;
    }
  }
}

/** Averages along a line, as motion during the acquisition does; lengths in mm at the full field of view. */
function blurAlong(signal: Float32Array, size: number, blur: { angle: number; length: number }): void {
  const pixels = Math.max(1.5, (blur.length / FIELD_OF_VIEW) * size);
  const source = signal.slice();
  const taps = [-0.5, -0.25, 0, 0.25, 0.5].map((t) => ({
    x: Math.round(Math.cos(blur.angle) * pixels * t),
    y: Math.round(Math.sin(blur.angle) * pixels * t),
  }));
  const clamped = (i: number) => Math.min(size - 1, Math.max(0, i));
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      let sum = 0;
      for (const tap of taps) sum += source[clamped(y + tap.y) * size + clamped(x + tap.x)]!;
      signal[y * size + x] = sum / taps.length;
    }
  }
}

/** Coil sensitivity, Rician noise (the magnitude of a complex signal with normal noise), gain, whole numbers. */
function acquire(signal: Float32Array, size: number, patient: Patient, normal: () => number): Int16Array {
  const { bias, noise, gain } = patient;
  const sensitivity = Float32Array.from({ length: size * size }, (_, i) => {
    const x = ((i % size) / (size - 1)) * 2 - 1;
    const y = (Math.floor(i / size) / (size - 1)) * 2 - 1;
    const terms = [1, x, y, x * x, x * y, y * y];
    return Math.exp(terms.reduce((sum, term, k) => sum + term * bias[k]!, 0));
  });
  const image = new Int16Array(signal.length);
  for (let i = 0; i < signal.length; i++) {
    const real = signal[i]! * sensitivity[i % sensitivity.length]! + noise * normal();
    image[i] = Math.round(gain * length(real, noise * normal()));
  }
  return image;
}
