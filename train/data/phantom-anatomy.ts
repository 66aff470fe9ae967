// What a phantom's heart and body are: every length in mm, every angle in radians, y pointing down. phantom.ts paints it.

/** A wave r(θ) = Σ amplitude·cos(n·θ − phase), for outlines that are not circles. */
export type Wave = readonly { readonly n: number; readonly amplitude: number; readonly phase: number }[];

/** What a phase of the heartbeat changes. */
export interface Phase {
  readonly frame: number;
  readonly radiusScale: number;
  readonly wallScale: number;
  readonly rightScale: number;
  /** How far the base has come down, as a fraction of the long axis. */
  readonly descent: number;
}

/** What is particular to one slice. */
export interface SliceAnatomy {
  /** Position along the long axis: 0 base, 1 apex. */
  readonly level: number;
  readonly centre: Point;
  readonly blur: { readonly angle: number; readonly length: number } | undefined;
  /** Shifts texture from slice to slice. */
  readonly texture: number;
}

interface Organ {
  readonly centre: Point;
  readonly radii: Point;
  readonly angle: number;
  readonly intensity: number;
  readonly wall: number;
  /** Level at which it is largest, and how far it reaches. */
  readonly level: number;
  readonly reach: number;
}

interface Point {
  readonly x: number;
  readonly y: number;
}

/** One patient, all that its slices share. */
export type Patient = ReturnType<typeof drawPatient>;

/** A patient from random numbers; the order of the draws is part of what a seed means. */
export function drawPatient(uniform: () => number) {
  const between = (least: number, most: number) => least + (most - least) * uniform();
  const degrees = (least: number, most: number) => (between(least, most) * Math.PI) / 180;
  const wave = (least: number, most: number, amplitude: number): Wave =>
    Array.from({ length: most - least + 1 }, (_, i) => ({
      n: least + i,
      amplitude: (amplitude * between(-1, 1)) / Math.sqrt(most - least + 1),
      phase: between(0, 2 * Math.PI),
    }));

  const group = ['NOR', 'NOR', 'DCM', 'HCM', 'MINF', 'RV'][Math.floor(uniform() * 6)]!;
  const wall = between(7, 10) + (group === 'HCM' ? between(4, 7) : group === 'DCM' ? -1.5 : 0);
  const cavity = between(20, 26) + (group === 'DCM' ? between(4, 9) : group === 'HCM' ? -3 : 0);
  const count = 8 + Math.floor(uniform() * 3);
  const first = between(-0.06, 0.08);
  const last = between(0.92, 1.06);
  const centre = { x: between(-14, 14), y: between(-16, 10) };
  const tilt = { x: between(-6, 16), y: between(-4, 12) };
  const slices = Array.from({ length: count }, (_, i): SliceAnatomy => {
    const level = first + ((last - first) * i) / (count - 1);
    // Each slice is another breath-hold: the heart is never exactly where it was.
    const breath = { x: between(-2, 2), y: between(-2.5, 2.5) };
    const isBlurred = uniform() < 0.12;
    const blur = { angle: between(0, Math.PI), length: between(3, 7) };
    return {
      level,
      centre: { x: centre.x + tilt.x * level + breath.x, y: centre.y + tilt.y * level + breath.y },
      blur: isBlurred ? blur : undefined,
      texture: between(0, 1000),
    };
  });
  const myocardium = between(0.2, 0.34);
  const body = {
    centre: { x: between(-55, -20), y: between(15, 40) },
    radii: { x: between(140, 170), y: between(108, 138) },
    fat: between(8, 24),
    /** Towards the apex the chest wall comes nearer. */
    narrowing: between(0.05, 0.22),
    outline: wave(2, 5, 0.05),
  };
  const organs = Array.from({ length: 9 }, (): Organ => {
    const isHollow = uniform() < 0.5;
    return {
      centre: { x: between(-25, 110), y: between(48, 110) },
      radii: { x: between(8, 24), y: between(8, 20) },
      angle: degrees(0, 180),
      intensity: isHollow ? between(0.1, 0.85) : myocardium * between(0.8, 1.4),
      wall: isHollow ? between(2, 5) : 0,
      level: between(-0.1, 1.1),
      reach: between(0.35, 0.9),
    };
  });
  const rest: Phase = { frame: 1, radiusScale: 1, wallScale: 1, rightScale: 1, descent: 0 };
  const contraction = { NOR: 1, HCM: 1.1, MINF: 0.6, DCM: 0.35, RV: 0.85 }[group]! * between(0.85, 1.15);
  const systole: Phase = {
    frame: 8 + Math.floor(uniform() * 6),
    radiusScale: 1 - 0.06 * contraction,
    wallScale: 1 + 0.5 * contraction,
    rightScale: 1 - (group === 'RV' ? 0.15 : 0.32) * contraction,
    descent: 0.12 * contraction,
  };
  return {
    group,
    slices,
    sliceDistance: (between(70, 88) * (last - first)) / (count - 1),
    zoom: between(0.92, 1.12),
    diastole: rest,
    systole,
    left: {
      radius: cavity + wall,
      wall,
      outline: [...wave(2, 2, 0.09), ...wave(3, 4, 0.03)],
      /** > 0: a thicker septum. */
      septal: group === 'HCM' ? between(0.15, 0.45) : between(-0.12, 0.12),
      scar: {
        angle: between(-Math.PI, Math.PI),
        depth: group === 'MINF' ? between(0.3, 0.55) : 0,
        width: degrees(30, 60),
      },
      trabeculae: wave(9, 15, 2.2),
      papillary: [1, -1].map((side) => ({
        angle: side * degrees(90, 145),
        distance: between(0.5, 0.72),
        radius: between(3, 5.5),
        from: between(0.15, 0.35),
        to: between(0.65, 0.85),
      })),
      /** Direction of the septum from the centre of the cavity. */
      septum: Math.PI + degrees(-5, 45),
    },
    right: {
      depth: between(20, 30) + (group === 'RV' ? between(10, 18) : 0),
      reach: { up: degrees(62, 92), down: degrees(58, 85) },
      skew: degrees(-14, 14),
      fullness: between(0.5, 0.85),
      /** Level at which it ends. */
      end: between(0.72, 0.95),
      wall: between(2.5, 4),
      trabeculae: wave(10, 18, 3),
      outflow: between(0.1, 0.5),
    },
    fat: { thickness: between(1, 5), groove: between(4, 11) },
    body,
    diaphragm: { gap: between(0, 7), slope: between(-0.25, 0.15), bend: between(0.0005, 0.003), rise: between(0, 14) },
    liverEdge: between(0, 55),
    organs,
    aorta: { centre: { x: between(12, 45), y: between(62, 85) }, radius: between(9, 14) },
    spine: { centre: { x: between(-25, 20), y: between(92, 115) }, radius: between(17, 24) },
    tissue: {
      blood: between(0.62, 0.92),
      myocardium,
      liver: myocardium * between(0.85, 1.35),
      fat: between(0.6, 0.95),
      muscle: myocardium * between(0.6, 0.9),
      lung: between(0.03, 0.1),
      bone: between(0.35, 0.55),
    },
    /** Exponents of the coil's sensitivity: 1, x, y, x², xy, y² over [-1, 1]². */
    bias: [0, between(-0.3, 0.3), between(-0.7, 0), between(-0.2, 0.25), between(-0.2, 0.2), between(-0.25, 0.25)],
    noise: between(0.015, 0.05),
    gain: between(250, 900),
    lattice: Float32Array.from({ length: LATTICE * LATTICE }, uniform),
  };
}

/** Values along one side of the lattice that textures are drawn from. */
export const LATTICE = 64;
