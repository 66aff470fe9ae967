// wgrad inspect: what a data set or a file holds and what looks suspicious, before anything is trained on it.
import { statSync } from 'node:fs';
import { amongVolumes } from '../data/among-volumes.js';
import type { Reading } from '../data/case-volume.js';
import { type Inspection, inspectDataset, type PartFacts, type Spread } from '../data/inspect-dataset.js';
import { countValues, factsOf, type Intensities, readImages, type VolumeFacts } from '../data/inspect-volume.js';
import type { Volume } from '../data/nifti.js';
import { geometryProblems, readGeometry } from '../data/nifti-geometry.js';
import { DataError, whyNot } from '../files/data-error.js';
import { describeCommand } from '../settings/command-line.js';
import { imageFlags, labelFlags, readingOf } from './reading-flags.js';

export const command = describeCommand({
  name: 'inspect',
  about: `
Reads a data set (or one .nii, .nii.gz or .h5 file) completely and reports what it holds: layout, split, sizes, spacing,
intensities, labels, orientation. It warns of unreadable files, labels that do not fit their images, unknown labels, duplicates,
constant images, patients in two parts, voxel sizes unlike the others', and outliers that flatten the intensity scaling.`,
  positionals: ['DATA|FILE'],
  flags: {
    classes: {
      type: 'integer',
      min: 2,
      max: 256,
      help: "number of classes, background included; labels are 0 to N-1 (default: the data set's own; 4 for ACDC)",
    },
    ...labelFlags,
    ...imageFlags,
    strict: { type: 'boolean', help: 'exit with code 1 on warnings, too' },
    json: { type: 'boolean', help: 'print everything found, case by case, as one JSON document' },
  },
  notes: 'Exit code: 0, even with warnings (unless --strict is given); 1 if anything cannot be used.',
});

/** Runs `wgrad inspect DATA|FILE`. */
export async function run(args: string[]): Promise<number> {
  const { flags, positionals } = command.read(args);
  const path = positionals[0]!;
  const { classes, strict, json } = flags;
  const reading = { ...readingOf(flags), ...(classes ? { classes } : {}) };
  const { errors, warnings } = isFolder(path)
    ? await inspectFolder(path, reading, json)
    : await inspectFile(path, reading, json);
  return errors.length || (strict && warnings.length) ? 1 : 0;
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    throw new DataError(`inspect: cannot open ${path} — ${whyNot(error)}.`);
  }
}

interface Findings {
  readonly errors: readonly string[];
  readonly warnings: readonly string[];
}

async function inspectFolder(dir: string, reading: Reading, json: boolean): Promise<Findings> {
  const isTerminal = process.stderr.isTTY;
  const found = await inspectDataset(dir, {
    reading,
    onCase: (done, all) => {
      if (isTerminal) process.stderr.write(`\r${done} of ${all} volumes${done === all ? '\r\x1b[K' : ''}`);
    },
  });
  console.log(json ? JSON.stringify(found, null, 1) : folderText(found));
  return found;
}

const short = (value: number): string => String(Number(value.toPrecision(4)));
const spread = ({ least, median, most }: Spread): string =>
  least === most ? short(least) : `${short(least)} … ${short(median)} … ${short(most)}`;
const counted = (counts: Readonly<Record<string, number>>): string =>
  Object.entries(counts)
    .map(([name, n]) => `${name} (${n})`)
    .join(', ');

function folderText(found: Inspection): string {
  const { parts, shape, spacing, intensities, orientations, dtypes, errors, warnings } = found;
  const axes = (values: readonly Spread[]) => values.map((value, i) => `${'xyz'[i]} ${spread(value)}`).join(', ');
  const rows: [string, string][] = [
    ['sizes', axes(shape)],
    ['spacing, mm', axes(spacing)],
    ['orientation', counted(orientations)],
    ['stored as', counted(dtypes)],
    ['intensities', intensities ? intensityText(intensities) : ''],
  ];
  const lines = [
    found.description,
    ...(shape.length ? rows.map(([name, text]) => `  ${name.padEnd(12)} ${text}`) : []),
    ...(shape.length ? ['  (least … median … greatest)', ''] : []),
    ...partTable(parts),
  ];
  const list = (title: string, items: readonly string[]) =>
    items.length ? ['', title, ...items.map((item) => `  ${item}`)] : [];
  return [
    ...lines,
    ...list(`${warnings.length} warnings:`.replace(/^1 warnings/, '1 warning'), warnings),
    ...list(`${errors.length} errors:`.replace(/^1 errors/, '1 error'), errors),
    ...(errors.length || warnings.length ? [] : ['', 'nothing suspicious']),
  ].join('\n');
}

const intensityText = ({ least, p1, median, p99, most }: Intensities): string =>
  `${short(least)} to ${short(most)}; 1 % ${short(p1)}, median ${short(median)}, 99 % ${short(p99)}`;

/** Patients, volumes, slices, and the share of each label, by part. */
function partTable(parts: Readonly<Record<string, PartFacts>>): string[] {
  const values = [...new Set(Object.values(parts).flatMap(({ labels }) => Object.keys(labels)))].sort(
    (a, b) => +a - +b,
  );
  const titles = ['', 'patients', 'volumes', 'labelled', 'slices', ...values.map((value) => `label ${value}`)];
  const rows = Object.entries(parts).map(([name, { patients, volumes, labelled, slices, labels }]) => {
    const voxels = Object.values(labels).reduce((sum, n) => sum + n, 0);
    const shares = values.map((value) => (voxels ? `${(((labels[value] ?? 0) / voxels) * 100).toFixed(2)} %` : '–'));
    return [name === 'none' ? 'no part' : name, ...[patients, volumes, labelled, slices].map(String), ...shares];
  });
  return [titles, ...rows].map(
    (row) =>
      `  ${row[0]!.padEnd(9)}${row
        .slice(1)
        .map((cell) => cell.padStart(10))
        .join('')}`,
  );
}

async function inspectFile(path: string, reading: Reading, json: boolean): Promise<Findings> {
  const isNifti = !/\.(h5|hdf5)$/i.test(path);
  const images = (await readImages(path, reading.nan)).map(({ name, volume }) => {
    const values = countValues(volume.data, 32);
    return {
      name,
      header: isNifti ? headerOf(volume) : undefined,
      warnings: warningsOf(volume, isNifti),
      ...factsOf(volume),
      histogram: histogramOf(volume.data),
      ...(values ? { values } : {}),
    };
  });
  const warnings = images.flatMap((image) => image.warnings);
  console.log(json ? JSON.stringify({ path, images, warnings }, null, 1) : [path, ...images.map(fileText)].join('\n'));
  return { errors: [], warnings };
}

/** What is suspicious about one file. */
function warningsOf(volume: Volume, isNifti: boolean): string[] {
  const among = amongVolumes([{ id: 'image', ...factsOf(volume) }], { hasSpacing: false });
  const film =
    volume.shape.length > 3
      ? [`it holds ${volume.shape[3]} volumes: a film, which can be neither trained on nor segmented`]
      : [];
  return [...volume.notes, ...film, ...(isNifti ? geometryProblems(volume.header) : []), ...among];
}

/** Facts that only a NIfTI header has. */
function headerOf({ header, affine, isPlaced }: Volume) {
  const { qformCode, sformCode } = readGeometry(header);
  return {
    version: header.version,
    endian: header.littleEndian ? 'little' : 'big',
    qformCode,
    sformCode,
    affine: isPlaced ? affine : undefined,
  };
}

/** How many values lie in each of 40 bins from the least to the greatest. */
function histogramOf(values: Float32Array): number[] {
  const bins = new Array<number>(40).fill(0);
  const [least, most] = values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)] as [number, number], [
    Infinity,
    -Infinity,
  ] as [number, number]);
  const scale = most > least ? bins.length / (most - least) : 0;
  for (const value of values) bins[Math.min(bins.length - 1, Math.floor((value - least) * scale))]!++;
  return bins;
}

interface FileFacts extends VolumeFacts {
  readonly name: string;
  readonly header: ReturnType<typeof headerOf> | undefined;
  readonly histogram: readonly number[];
  readonly warnings: readonly string[];
  /** How often each value occurs, of labels. */
  readonly values?: Readonly<Record<string, number>>;
}

function fileText({ name, header, histogram, values, warnings, ...facts }: FileFacts): string {
  // Square roots, or the background would be all there is to see.
  const roots = histogram.map(Math.sqrt);
  const tallest = Math.max(...roots);
  const bars = roots.map((height) => ' ▁▂▃▄▅▆▇█'[Math.ceil((height / tallest) * 8)]).join('');
  const { affine } = header ?? {};
  const row = (from: number) =>
    affine!
      .slice(from, from + 4)
      .map((v) => short(v).padStart(10))
      .join('');
  const rows: [string, string][] = [
    ['stored as', facts.dtype + (header ? `, NIfTI-${header.version}, ${header.endian}-endian` : ', HDF5')],
    ['size', facts.shape.join('×')],
    ...(header ? [['spacing, mm', facts.spacing.map(short).join('×')] as [string, string]] : []),
    [
      'orientation',
      facts.orientation ? `${facts.orientation} (sform ${header?.sformCode}, qform ${header?.qformCode})` : 'unknown',
    ],
    ...(affine ? [0, 4, 8].map((from): [string, string] => [from ? '' : 'affine', row(from)]) : []),
    ['intensities', intensityText(facts.intensities)],
    ['histogram', `${short(facts.intensities.least)} ${bars} ${short(facts.intensities.most)}`],
    ...(values ? [['values', counted(values)] as [string, string]] : []),
    ...warnings.map((warning): [string, string] => ['warning', warning]),
  ];
  return [name, ...rows.map(([title, text]) => `  ${title.padEnd(12)} ${text}`)].join('\n');
}
