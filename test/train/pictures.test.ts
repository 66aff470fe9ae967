// Slice panels and curves, pixel by pixel at known places. Expected colours are written out here, not imported.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decode } from 'fast-png';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { minMaxScaled } from '../../train/data/intensity.js';
import { createPhantom } from '../../train/data/phantom.js';
import {
  blend,
  type Color,
  createCanvas,
  drawLine,
  drawText,
  fitText,
  textWidth,
} from '../../train/pictures/canvas.js';
import { layOut, niceTicks, tickText } from '../../train/pictures/curve-layout.js';
import { characters, glyphHeight, glyphOf, glyphWidth } from '../../train/pictures/font.js';
import type { Picture } from '../../train/pictures/png.js';
import { drawCurves, drawSlices, slicePicture } from '../../train/pictures/slice-picture.js';

const test = suite('pictures');
const root = mkdtempSync(join(tmpdir(), 'wgrad-pictures-'));
test.after(() => rmSync(root, { recursive: true, force: true }));

type Pixels = Pick<Picture, 'width' | 'height'> & { data: ArrayLike<number> };
const pixel = ({ width, data }: Pixels, x: number, y: number) => [0, 1, 2].map((c) => data[3 * (y * width + x) + c]!);
const isGrey = ([r, g, b]: number[]) => r === g && g === b;
const count = ({ data }: Pixels, [r, g, b]: Color): number => {
  let n = 0;
  for (let i = 0; i < data.length; i += 3) if (data[i] === r && data[i + 1] === g && data[i + 2] === b) n++;
  return n;
};
const white: Color = [255, 255, 255];
const black: Color = [0, 0, 0];

// A slice of 8×8 pixels is enlarged 30 times to 240; rows and columns lie 10 apart, below two lines of 24 pixels.
const size = 8;
const image = Float32Array.from({ length: size * size }, (_, i) => (i % size) / (size - 1));
const square = (k: number, from = 2, to = 6) =>
  Uint8Array.from({ length: size * size }, (_, i) => {
    const [x, y] = [i % size, Math.floor(i / size)];
    return x >= from && x < to && y >= from && y < to ? k : 0;
  });
/** The screen pixel in the middle of pixel (x, y) of a cell; column 0 is the plain image. */
const inside = (picture: Pixels, column: number, x: number, y: number) =>
  pixel(picture, 10 + column * 250 + 30 * x + 15, 58 + 30 * y + 15);
/** The top left screen pixel of pixel (x, y). */
const corner = (picture: Pixels, column: number, x: number, y: number) =>
  pixel(picture, 10 + column * 250 + 30 * x, 58 + 30 * y);

test('labels are tinted and outlined in the colours of their classes, and nothing else is coloured', () => {
  for (const [k, color] of [
    [1, [66, 135, 245]],
    [2, [60, 190, 90]],
    [3, [235, 64, 64]],
  ] as const) {
    const picture = slicePicture([
      { caption: 'a', height: size, width: size, image, cells: [{ title: 'b', labels: square(k) }] },
    ]);
    assert.equal(corner(picture, 1, 2, 2), [...color], 'outline');
    const grey = inside(picture, 0, 3, 3);
    assert.ok(isGrey(grey));
    assert.equal(
      inside(picture, 1, 3, 3),
      color.map((c, i) => Math.round(grey[i]! + 0.35 * (c - grey[i]!))),
      'tint',
    );
    assert.equal(inside(picture, 1, 1, 1), inside(picture, 0, 1, 1), 'background shows the image');
    assert.ok(isGrey(corner(picture, 0, 2, 2)), 'the plain image has no outline');
  }
});

test('a label that fills the slice is outlined at its rim', () => {
  const cells = [{ title: 'b', labels: square(3, 0, size) }];
  const picture = slicePicture([{ caption: 'a', height: size, width: size, image, cells }]);
  assert.equal(corner(picture, 1, 0, 0), [235, 64, 64]);
  assert.is.not(inside(picture, 1, 0, 0).join(), [235, 64, 64].join());
});

test('kept pixels are yellow, wrong classes magenta where a reference is given', () => {
  const cells = [
    { title: 'mask', mask: square(1) },
    { title: 'no reference', labels: square(2) },
    { title: 'reference', labels: square(2), reference: square(2, 3, 7) },
  ];
  const picture = slicePicture([{ caption: 'a', height: size, width: size, image, cells }]);
  const mixed = (x: number, y: number, color: Color, alpha: number) =>
    inside(picture, 0, x, y).map((grey, i) => Math.round(grey + alpha * (color[i]! - grey)));
  assert.equal(inside(picture, 1, 3, 3), mixed(3, 3, [255, 204, 0], 0.6));
  assert.equal(inside(picture, 1, 6, 6), inside(picture, 0, 6, 6));
  const wrong: Color = [255, 40, 220];
  assert.equal(inside(picture, 2, 2, 2), mixed(2, 2, [60, 190, 90], 0.35));
  assert.equal(inside(picture, 3, 4, 4), mixed(4, 4, [60, 190, 90], 0.35), 'right');
  assert.equal(inside(picture, 3, 2, 2), mixed(2, 2, wrong, 0.65), 'too much');
  assert.equal(inside(picture, 3, 6, 6), mixed(6, 6, wrong, 0.65), 'too little');
  assert.equal(inside(picture, 3, 0, 0), inside(picture, 0, 0, 0), 'right background');
  assert.ok(count(picture, wrong) >= 14 * 14, 'legend');
});

test('the image runs from black to white whatever its range, also where it is constant', () => {
  const scaled = slicePicture([
    { caption: '', height: size, width: size, image: image.map((v) => 5 + 300 * v), cells: [] },
  ]);
  assert.equal(inside(scaled, 0, 0, 4), [0, 0, 0]);
  assert.equal(inside(scaled, 0, 7, 4), [255, 255, 255]);
  const flat = slicePicture([{ caption: '', height: size, width: size, image: image.map(() => 0.5), cells: [] }]);
  assert.equal(inside(flat, 0, 0, 4), inside(flat, 0, 7, 4));
});

test('a phantom, four cells and two rows, decoded from the file', () => {
  const { shape, diastole } = createPhantom({ size: 64, seed: 1, index: 0 });
  const range = [64 * 64 * (shape[2] >> 1), 64 * 64 * ((shape[2] >> 1) + 1)] as const;
  const labels = diastole.label.subarray(...range);
  const row = {
    caption: 'patient001_frame01 z=4',
    height: 64,
    width: 64,
    image: minMaxScaled(Float32Array.from(diastole.image.subarray(...range))),
    cells: [
      { title: 'ground truth', labels },
      { title: 'prediction', labels, reference: labels },
      { title: 'kept', mask: labels },
    ],
  };
  const path = join(root, 'slices.png');
  drawSlices(path, [row, row]);
  const picture = decode(readFileSync(path), { checkCrc: true });
  // 64 pixels four times enlarged; a line of titles, per row a caption, below it the legend.
  assert.is(picture.width, 10 + 4 * (256 + 10));
  assert.is(picture.height, 10 + 24 + 2 * (24 + 256 + 10) + 24);
  assert.equal(Array.from(picture.data), Array.from(slicePicture([row, row]).data));
  for (const color of [
    [66, 135, 245],
    [60, 190, 90],
    [235, 64, 64],
  ] as const)
    assert.ok(count(picture, color) > 14 * 14 + 4 * 50, `outlines of ${color}`);
});

test('no rows write no file; rows of different sizes and cells fit on one sheet', () => {
  drawSlices(join(root, 'none.png'), []);
  assert.not(existsSync(join(root, 'none.png')));
  const small = {
    caption: 'x'.repeat(500),
    height: size,
    width: size,
    image,
    cells: [{ title: 'y'.repeat(500), mask: square(1) }],
  };
  const large = { caption: '', height: 300, width: 300, image: new Float32Array(90000), cells: [] };
  assert.is(slicePicture([small, large]).width, 10 + 2 * (300 + 10));
});

test('classes that are not those of the heart are numbered, not misnamed', () => {
  const row = { caption: '', height: size, width: size, image, cells: [{ title: '', labels: square(1) }] };
  const [heart, other] = [slicePicture([row]), slicePicture([row], 2)];
  assert.is.not(Buffer.compare(heart.data, other.data), 0);
  const of = (k: number) =>
    slicePicture([{ caption: '', height: size, width: size, image, cells: [{ title: '', labels: square(k) }] }]);
  assert.is(count(of(3), [240, 170, 30]), 0);
  assert.ok(count(of(4), [240, 170, 30]) > 14 * 14);
});

test('lines are as thick as asked, smooth at the edge, mixed once at joints', () => {
  const canvas = createCanvas(20, 20, white);
  drawLine(
    canvas,
    [
      [2, 10],
      [10, 10],
      [18, 10],
    ],
    black,
    4,
  );
  assert.equal(
    [7, 8, 9, 10, 11, 12].map((y) => pixel(canvas, 10, y)[0]),
    [255, 0, 0, 0, 0, 255],
  );
  const slant = createCanvas(20, 20, white);
  drawLine(
    slant,
    [
      [0, 0],
      [20, 13],
    ],
    black,
  );
  assert.ok(Array.from(slant.data).some((v) => v > 20 && v < 235));
  const gap = createCanvas(30, 5, white);
  drawLine(
    gap,
    [
      [2, 2.5],
      [8, 2.5],
      [Number.NaN, Number.NaN],
      [22, 2.5],
      [28, 2.5],
      [Number.POSITIVE_INFINITY, 2.5],
    ],
    black,
  );
  assert.equal(
    [5, 15, 25].map((x) => pixel(gap, x, 2)[0]),
    [0, 255, 0],
  );
});

test('what lies outside of the canvas is cut off', () => {
  const canvas = createCanvas(4, 4, white);
  blend(canvas, 4, 0, black);
  blend(canvas, -1, 1, black);
  drawLine(
    canvas,
    [
      [-50, 20],
      [50, 20],
    ],
    black,
    3,
  );
  drawText(canvas, 4, 0, 'W', black);
  assert.is(count(canvas, white), 16);
});

test('every character of ASCII has a glyph of its own', () => {
  const printable = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));
  const drawn = new Map<string, string>();
  for (const character of printable) {
    const rows = glyphOf(character);
    assert.is(rows.length, glyphHeight, character);
    for (const row of rows) assert.match(row, /^[.#]{5}$/, character);
    const shape = rows.join('');
    assert.not(drawn.has(shape), `${character} looks like ${drawn.get(shape)}`);
    drawn.set(shape, character);
    assert.ok(characters.includes(character) || character === ' ', character);
  }
  assert.is(textWidth('ab', 2), 2 * (2 * glyphWidth + 1));
  assert.is(fitText('short', 1000), 'short');
  const cut = fitText('a caption that is too long', 60);
  assert.match(cut, /^a cap.*\.\.$/);
  assert.ok(textWidth(cut) <= 60);
});

test('curves: both files; the PNG as large as the SVG; names and ticks are in the SVG', () => {
  const x = Array.from({ length: 1000 }, (_, i) => i);
  const noisy = { name: 'loss & <more>', x, y: x.map((i) => Math.exp(-i / 300) + (i % 7) / 20) };
  drawCurves(join(root, 'a'), [
    { title: 'losses', lines: [noisy] },
    { title: 'Dice', lines: [{ name: 'myocardium', x: [99, 199], y: [0.4, 0.8] }] },
  ]);
  const picture = decode(readFileSync(join(root, 'a.png')), { checkCrc: true });
  const svg = readFileSync(join(root, 'a.svg'), 'utf8');
  assert.match(svg, new RegExp(`^<svg [^>]*width="${picture.width}" height="${picture.height}"`));
  assert.is(picture.width, 1280);
  for (const text of ['losses', 'loss &amp; &lt;more&gt;', 'Dice', 'myocardium', '0.5', '500', '1000', 'iteration'])
    assert.ok(svg.includes(`>${text}</text>`), text);
  const strong: Color = [0, 103, 173];
  // Thin lines are smooth: mixed with the white around them, they are at least as pale as the values' colour.
  const isPale = (at: number) => picture.data[at]! >= 185 && picture.data[at + 2]! - picture.data[at]! > 15;
  const pale = Array.from({ length: picture.width * picture.height }, (_, i) => 3 * i).filter(isPale);
  assert.ok(count(picture, strong) > 500, 'average');
  assert.ok(pale.length > 2000, 'values');
  assert.ok(svg.includes('stroke="rgb(179,209,230)" stroke-width="1"'));
});

/** The polylines of a curve's main stroke in an SVG, as points; a single point is drawn twice. */
const strokes = (svg: string, width = 2.5): [number, number][][] =>
  [
    ...svg.matchAll(
      new RegExp(
        `<polyline points="([^"]+)" stroke="[^"]+" stroke-width="${width}"(?: stroke-dasharray="[\\d ]+")?/>`,
        'g',
      ),
    ),
  ].map(([, points]) => points!.split(' ').map((point) => point.split(',').map(Number) as [number, number]));

test('curves of very different size share a log scale, scores never do', () => {
  const x = [0, 100, 200];
  const lines = [
    { name: 'a', x, y: [0.5, 0.6, 0.7] },
    { name: 'b', x, y: [0, 0.0002, 0.0004] },
  ];
  const svgOf = (isShare: boolean): string => {
    const base = join(root, `share${isShare}`);
    drawCurves(base, [{ title: 'Dice', lines, isShare }]);
    return readFileSync(`${base}.svg`, 'utf8');
  };
  assert.match(svgOf(false), />Dice \(log scale\)</);
  assert.match(svgOf(true), />Dice</);
  assert.equal(
    strokes(svgOf(true)).map((points) => points.length),
    [3, 3],
    'also a score of 0 has its place',
  );
});

test('twelve lines are told apart by colour and dash, with few points and with many', () => {
  for (const count of [3, 500]) {
    const x = Array.from({ length: count }, (_, i) => i);
    const lines = x.slice(0, 12).map((k) => ({ name: `line ${k}`, x, y: x.map((i) => k + i / count) }));
    while (lines.length < 12) lines.push({ ...lines[0]!, name: `line ${lines.length}` });
    drawCurves(join(root, 'twelve'), [{ title: 'a', lines }]);
    const svg = readFileSync(join(root, 'twelve.svg'), 'utf8');
    const looks = [
      ...svg.matchAll(/points="[^"]+ [^"]+" (stroke="[^"]+") stroke-width="2.5"( stroke-dasharray="[^"]+")?/g),
    ];
    assert.is(new Set(looks.map(([, color, dash]) => `${color}${dash}`)).size, 12, `${count} points`);
  }
});

test('curves: NaN and −1 leave gaps and do not stretch the axis', () => {
  const x = [0, 100, 200, 300, 400];
  for (const gap of [Number.NaN, -1, Number.POSITIVE_INFINITY]) {
    const base = join(root, `gap${gap}`);
    drawCurves(base, [{ title: 'share', lines: [{ name: 'kept', x, y: [0.9, 0.8, gap, 0.7, 0.7] }] }]);
    const svg = readFileSync(`${base}.svg`, 'utf8');
    assert.equal(
      strokes(svg).map((points) => points.length),
      [2, 2],
      String(gap),
    );
    assert.not.match(svg, /NaN|Infinity|>-\d/);
  }
});

test('curves: single gaps do not tear a long curve apart', () => {
  const x = Array.from({ length: 6000 }, (_, i) => i);
  const base = join(root, 'torn');
  const y = x.map((i) => (i % 5 ? 1 + ((i * 7919) % 100) / 100 : -1));
  drawCurves(base, [{ title: 'share', lines: [{ name: 'kept', x, y }] }]);
  const svg = readFileSync(`${base}.svg`, 'utf8');
  assert.is(strokes(svg).length, 1, 'average');
  // The grid and the axes are strokes of this width too, of two or three points.
  const raw = strokes(svg, 1).filter((points) => points.length > 3);
  assert.is(raw.length, 1, 'values');
  const heights = raw[0]!.map(([, height]) => height);
  assert.ok(Math.max(...heights) - Math.min(...heights) > 50);
});

test('curves: a higher value stands higher, a later one further right, on either scale', () => {
  const x = [0, 100, 200];
  for (const [name, y] of Object.entries({ linear: [3, 1, 2], logarithmic: [0.03, 0.0001, 0.002] })) {
    const lines = [{ name: 'a', x, y }];
    if (name === 'logarithmic') lines.push({ name: 'b', x, y: [5, 7, 6] });
    const base = join(root, name);
    drawCurves(base, [{ title: 'terms', lines }]);
    const svg = readFileSync(`${base}.svg`, 'utf8');
    assert.is(svg.includes('(log scale)'), name === 'logarithmic');
    const [a, b, c] = strokes(svg)[0]! as [[number, number], [number, number], [number, number]];
    assert.ok(a[0] < b[0] && b[0] < c[0], 'x');
    assert.ok(a[1] < c[1] && c[1] < b[1], 'y points down');
  }
});

test('curves: nothing finite writes no file and does not crash', () => {
  const nothing = { name: 'nothing', x: [0, 1, 2], y: [Number.NaN, -1, Number.NEGATIVE_INFINITY] };
  for (const [i, panels] of [[], [{ title: 'a', lines: [] }], [{ title: 'a', lines: [nothing] }]].entries()) {
    drawCurves(join(root, `nothing${i}`), panels);
    assert.not(existsSync(join(root, `nothing${i}.png`)));
  }
  const long = { name: 'long', x: Array.from({ length: 500 }, (_, i) => i), y: Array(500).fill(Number.NaN) };
  drawCurves(join(root, 'mixed'), [{ title: 'a', lines: [long, { name: 'one', x: [3], y: [0] }] }]);
  assert.ok(existsSync(join(root, 'mixed.png')) && existsSync(join(root, 'mixed.svg')));
});

test('curves: a long log is drawn with few points, and spikes stay inside of the plot', () => {
  const x = Array.from({ length: 200_000 }, (_, i) => i);
  const y = x.map((i) => (i === 150_000 ? 1e9 : 1 + ((i * 7919) % 100) / 100));
  const { shapes, width, height } = layOut([{ title: 'loss', lines: [{ name: 'loss', x, y }] }]);
  let points = 0;
  for (const shape of shapes) {
    if (shape.kind !== 'line') continue;
    points += shape.points.length;
    for (const [px, py] of shape.points) assert.ok(px >= 0 && px <= width && py >= 0 && py <= height, `${px},${py}`);
  }
  assert.ok(points < 3000, `${points} points`);
});

test('ticks are round numbers that cover the range', () => {
  assert.equal(niceTicks(0, 1, 5).map(tickText), ['0', '0.2', '0.4', '0.6', '0.8', '1']);
  assert.equal(niceTicks(0, 30000, 4).map(tickText), ['0', '10000', '20000', '30000']);
  assert.equal(niceTicks(-0.03, 0.03, 3).map(tickText), ['-0.02', '0', '0.02']);
  assert.is(tickText(1e-5), '1e-5');
  assert.is(tickText(2e7), '2e7');
  assert.is(tickText(0.1 + 0.2), '0.3');
});

test.run();
