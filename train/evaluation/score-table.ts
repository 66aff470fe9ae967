// An evaluation as text: a line for each volume, then a line for each class with what its means are means of.
import {
  type CaseSummary,
  type MeanScore,
  meanOverClasses,
  type ScoreName,
  type Scores,
  type Summary,
} from './summary.js';

/** Scores by volume, then means ± standard deviations by class. `classNames` are those of the labels 0, 1, 2, … */
export function scoreTable(summary: Summary, classNames: readonly string[] = []): string {
  const { metric_per_case: cases, mean, std, foreground_mean, foreground_std } = summary;
  const nameOf = (k: string): string => classNames[Number(k)] ?? `class ${k}`;
  const keys = Object.keys(mean);
  const hasFrame = cases.some(({ frame }) => frame !== undefined);
  const names = keys.map(nameOf);
  const perCase = cases.map((each) => [
    each.case,
    ...(hasFrame ? [each.frame ?? ''] : []),
    ...keys.map((k) => fixed(each.metrics[k]!.Dice, 4)),
    fixed(meanOverClasses(each, 'Dice'), 4),
    ...keys.map((k) => fixed(each.metrics[k]!.HD95, 2)),
    wrongStructures(each, nameOf),
  ]);
  const perClass = (name: string, score: MeanScore, deviation: Scores, expected: number): string[] => [
    name,
    ...columns.map(([key, , decimals]) => spread(score[key], deviation[key], decimals)),
    countsOf(score, expected),
  ];
  const left = hasFrame ? ['volume', 'frame'] : ['volume'];
  return [
    aligned(
      [
        [...left.map(() => ''), 'Dice', ...keys.map(() => ''), 'HD95 mm', ...keys.slice(1).map(() => ''), ''],
        [...left, ...names, 'mean', ...names, ''],
        ...perCase,
      ],
      left.length,
    ),
    '',
    aligned(
      [
        [
          `${cases.length} volume${cases.length === 1 ? '' : 's'}`,
          ...columns.map(([, title]) => title),
          'distances of',
        ],
        ...keys.map((k) => perClass(nameOf(k), mean[k]!, std[k]!, cases.length)),
        perClass('mean of classes', foreground_mean, foreground_std, cases.length * keys.length),
      ],
      1,
    ),
  ].join('\n');
}

const columns: readonly [ScoreName, title: string, decimals: number][] = [
  ['Dice', 'Dice', 4],
  ['Jaccard', 'Jaccard', 4],
  ['HD95', 'HD95 mm', 2],
  ['HD95_voxels', 'HD95 voxels', 2],
  ['ASD', 'ASD mm', 2],
  ['ASD_voxels', 'ASD voxels', 2],
];

const fixed = (value: number | null, decimals: number): string => (value === null ? '–' : value.toFixed(decimals));

const spread = (value: number | null, deviation: number | null, decimals: number): string =>
  deviation === null ? fixed(value, decimals) : `${fixed(value, decimals)} ± ${fixed(deviation, decimals)}`;

/** "18 of 20; 1 missed, 1 invented": structures with distances, and why the others have none. */
function countsOf({ counted, missed, invented }: MeanScore, expected: number): string {
  const absent = expected - counted.Dice;
  const why = [
    ...(missed ? [`${missed} missed`] : []),
    ...(invented ? [`${invented} invented`] : []),
    ...(absent ? [`${absent} in neither`] : []),
  ];
  return [`${counted.HD95} of ${expected}`, ...(why.length ? [why.join(', ')] : [])].join('; ');
}

function wrongStructures({ metrics }: CaseSummary, nameOf: (k: string) => string): string {
  const of = (what: 'missed' | 'invented'): string[] => {
    const names = Object.entries(metrics).flatMap(([k, score]) => (score[what] ? [nameOf(k)] : []));
    return names.length ? [`${what} ${names.join(', ')}`] : [];
  };
  return [...of('missed'), ...of('invented')].join('; ');
}

/** Columns in line: the first `left` and the last, which are words, to the left, the others to the right. */
function aligned(rows: readonly (readonly string[])[], left: number): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const isLeft = (column: number): boolean => column < left || column === widths.length - 1;
  return rows
    .map((row) =>
      row
        .map((cell, column) => (isLeft(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
