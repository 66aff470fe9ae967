// Phantoms of the left atrium in a contrast-enhanced volume, with ground truth, as in the LA data: an ellipsoid and four pulmonary veins, of
// which the first millimetres belong to it. Ventricle, right atrium, aorta and the veins' rest are as bright as it is, so that a threshold
// does not find it. All lengths are in mm from the centre of the volume, x to the left, y to the back, z up.
import { normalStream, uniformStream } from '../../engine/index.js';

/** A volume [D, H, W] and its label. */
export interface AtriumPhantom {
  readonly shape: readonly [width: number, height: number, depth: number];
  /** mm along x, y, z. */
  readonly spacing: readonly [number, number, number];
  /** Levels 0 to 255. */
  readonly image: Uint8Array;
  /** 0 background, 1 left atrium. */
  readonly label: Uint8Array;
}

type Point = readonly [x: number, y: number, z: number];

/** A straight tube that narrows from `radius` at `from` to `end` at its other end. */
interface Tube {
  readonly from: Point;
  readonly direction: Point;
  readonly length: number;
  readonly radius: number;
  readonly end: number;
}

interface Ellipsoid {
  readonly centre: Point;
  readonly radii: Point;
}

const STREAM = 0x41000000; // keeps these numbers apart from others of the same seed
const VIEW = 119; // mm along x: 191 voxels of 0.625 mm, the median of the LA data
const LATTICE = 16; // values along a side of the cube that textures are drawn from

/** One patient from random numbers; the order of the draws is part of what a seed means. */
function drawPatient(uniform: () => number) {
  const between = (least: number, most: number) => least + (most - least) * uniform();
  const point = (x: number, y: number, z: number, slack: number): Point => [
    x + between(-slack, slack),
    y + between(-slack, slack),
    z + between(-slack, slack),
  ];
  const view = { x: between(0.85, 1.2), y: between(0.92, 1.1) };
  const body: Ellipsoid = {
    centre: point(0, 3, 0, 4),
    radii: [between(28, 37), between(17, 23), between(14, 19)],
  };
  const [bx, by, bz] = body.radii;
  const veins = [
    [-1, 1],
    [-1, -1],
    [1, 1],
    [1, -1],
  ].map(([side, up]): Tube => {
    const direction = point(side! * 0.9, 0.35, up! * 0.35, 0.2);
    const length = Math.hypot(...direction);
    const radius = between(4.5, 7);
    return {
      from: [
        body.centre[0] + side! * bx * 0.75,
        body.centre[1] + by * 0.25,
        body.centre[2] + up! * bz * between(0.3, 0.55),
      ],
      direction: direction.map((v) => v / length) as unknown as Point,
      length: between(24, 40),
      radius,
      end: radius * between(0.5, 0.8),
    };
  });
  return {
    view,
    body,
    veins,
    /** How much of a vein counts as atrium, mm. */
    ostium: between(8, 13),
    aorta: {
      from: point(-12, -24, -40, 3),
      direction: [0.1, 0.1, 0.99],
      length: 120,
      radius: between(9, 13),
      end: 9,
    } as Tube,
    ventricle: { centre: point(22, -24, -18, 4), radii: [24, 17, 20] } as Ellipsoid,
    right: { centre: point(-42, -12, -6, 4), radii: [17, 20, 22] } as Ellipsoid,
    tissue: {
      blood: between(0.65, 0.85),
      wall: between(0.3, 0.45),
      muscle: between(0.35, 0.5),
      lung: between(0.08, 0.16),
    },
    bias: [between(-0.3, 0.3), between(-0.3, 0.3), between(-0.2, 0.2)],
    noise: between(0.03, 0.07),
    lattice: Float32Array.from({ length: LATTICE ** 3 }, uniform),
  };
}

/** Signed distance to an ellipsoid's surface, negative inside; exact on the surface alone. */
function toEllipsoid({ centre, radii }: Ellipsoid, x: number, y: number, z: number): number {
  const reach = Math.sqrt(
    ((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 + ((z - centre[2]) / radii[2]) ** 2,
  );
  return (reach - 1) * Math.min(...radii);
}

/** Signed distance to a tube's surface, and how far along it the nearest point of its axis lies. */
function toTube(
  { from, direction, length, radius, end }: Tube,
  x: number,
  y: number,
  z: number,
): { distance: number; along: number } {
  const [dx, dy, dz] = [x - from[0], y - from[1], z - from[2]];
  const along = Math.min(length, Math.max(0, dx * direction[0] + dy * direction[1] + dz * direction[2]));
  const away = Math.sqrt(
    (dx - along * direction[0]) ** 2 + (dy - along * direction[1]) ** 2 + (dz - along * direction[2]) ** 2,
  );
  return { distance: away - (radius + ((end - radius) * along) / length), along };
}

/** Smooth noise in [0, 1] with features of about `scale` mm. */
function texture(lattice: Float32Array, x: number, y: number, z: number, scale: number): number {
  const whole = (v: number) => Math.floor(v);
  const [u, v, w] = [x / scale + 97, y / scale + 97, z / scale + 97];
  const [i, j, k] = [whole(u), whole(v), whole(w)];
  const smooth = (t: number) => t * t * (3 - 2 * t);
  const [a, b, c] = [smooth(u - i), smooth(v - j), smooth(w - k)];
  const at = (di: number, dj: number, dk: number) =>
    lattice[(((k + dk) % LATTICE) * LATTICE + ((j + dj) % LATTICE)) * LATTICE + ((i + di) % LATTICE)]!;
  const mix = (from: number, to: number, share: number) => from + (to - from) * share;
  const plane = (dk: number) => mix(mix(at(0, 0, dk), at(1, 0, dk), a), mix(at(0, 1, dk), at(1, 1, dk), a), b);
  return mix(plane(0), plane(1), c);
}

/** Atrium number `index` of a seed; `size` is the number of voxels along x of a volume of median width. */
export function createAtrium({ size, seed, index }: { size: number; seed: number; index: number }): AtriumPhantom {
  const patient = drawPatient(uniformStream(seed, STREAM + 2 * index));
  const normal = normalStream(uniformStream(seed, STREAM + 2 * index + 1));
  const { view, body, veins, ostium, aorta, ventricle, right, tissue, bias, noise, lattice } = patient;
  const mm = VIEW / size;
  const shape = [Math.round(size * view.x), Math.round(size * 0.745 * view.y), Math.round(size * 0.46)] as const;
  const [width, height, depth] = shape;
  const voxels = width * height * depth;
  const signal = new Float32Array(voxels);
  const label = new Uint8Array(voxels);
  const inside = (distance: number) => Math.min(1, Math.max(0, 0.5 - distance / Math.max(1.2, mm)));
  let i = 0;
  for (let k = 0; k < depth; k++) {
    const z = (k + 0.5 - depth / 2) * mm;
    for (let j = 0; j < height; j++) {
      const y = (j + 0.5 - height / 2) * mm;
      for (let n = 0; n < width; n++, i++) {
        const x = (n + 0.5 - width / 2) * mm;
        const coarse = texture(lattice, x, y, z, 14);
        const fine = texture(lattice, y + 5 * coarse, z, x, 4);
        const tubes = veins.map((vein) => toTube(vein, x, y, z));
        const toBody = toEllipsoid(body, x, y, z) + 3 * (coarse - 0.5);
        const toVein = Math.min(...tubes.map(({ distance }) => distance));
        const toAtrium = Math.min(
          toBody,
          ...tubes.map(({ distance, along }) => (along < ostium ? distance : Number.POSITIVE_INFINITY)),
        );
        const toOthers = Math.min(
          toVein,
          toTube(aorta, x, y, z).distance,
          toEllipsoid(ventricle, x, y, z),
          toEllipsoid(right, x, y, z),
        );
        const blood = tissue.blood * (0.85 + 0.3 * fine);
        let value = tissue.lung + 0.35 * fine * coarse;
        const mix = (above: number, share: number) => {
          value += (above - value) * share;
        };
        mix(tissue.muscle * (0.7 + 0.6 * coarse), inside(Math.min(toOthers - 9, toBody - 5) + 8 * (coarse - 0.5)));
        mix(blood * (0.9 + 0.2 * coarse), inside(toOthers));
        mix(tissue.wall * (0.8 + 0.4 * fine), inside(toBody - 2));
        mix(blood, inside(Math.min(toBody, toVein)));
        signal[i] = value * Math.exp((bias[0]! * x + bias[1]! * y + bias[2]! * z) / 60);
        if (toAtrium < 0) label[i] = 1;
      }
    }
  }
  // Rician noise: the magnitude of a complex signal with normal noise.
  const noisy = signal.map((value) => Math.hypot(value + noise * normal(), noise * normal()));
  const most = noisy.reduce((a, b) => Math.max(a, b), 0);
  return {
    shape,
    spacing: [mm, mm, mm].map((v) => Math.fround(v)) as [number, number, number],
    image: Uint8Array.from(noisy, (value) => Math.round((255 * value) / most)),
    label,
  };
}
